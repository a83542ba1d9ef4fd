//! A stream of keys that every engine can reproduce: for benchmarks and for tests that need a known result.
//!
//! The stream is SplitMix64 started at a seed, mapped to `keys` ranks, uniform or with Zipf's law (exponent
//! 0.989990234375, from correctly rounded operations only); a key is the mixed rank. Record `n` depends on `n` alone, so
//! any part of the stream can be read by any subtask, from any position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Error, ErrorKind, NO_TIMESTAMP, Output, Result};

mod zipf;

use zipf::Zipf;

/// The increment of SplitMix64: 2^64 divided by the golden ratio, made odd.
pub const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64: a bijection that mixes all bits.
#[inline]
pub const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[inline]
const fn high_half(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// How often each key comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// All equally often.
    Uniform,
    /// Key `i` with a weight of about `1 / (i + 1)`.
    Zipf,
}

/// Which stream: two equal descriptions give equal records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStreamConfig {
    /// How many records there are.
    pub records: u64,
    /// How many different keys there are.
    pub keys: u64,
    /// Where SplitMix64 starts.
    pub seed: u64,
    /// How often each key comes.
    pub distribution: Distribution,
}

/// The source of a key stream; each subtask reads a contiguous range of it. The records are the keys.
#[derive(Clone, Debug)]
pub struct KeyStream {
    config: KeyStreamConfig,
    zipf: Option<Arc<Zipf>>,
}

impl KeyStream {
    /// Zipf's law keeps 8 bytes for each key, so their number is bounded there.
    pub const MAX_ZIPF_KEYS: u64 = 1 << 28;

    /// Checks the description and prepares the stream.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when there are no keys, or too many for Zipf's law.
    pub fn new(config: KeyStreamConfig) -> Result<Self> {
        if config.keys == 0 {
            return Err(Error::invalid("a key stream needs at least 1 key"));
        }
        let zipf = match config.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf if config.keys > Self::MAX_ZIPF_KEYS => {
                let message = format!("a Zipf key stream has at most {} keys", Self::MAX_ZIPF_KEYS);
                return Err(Error::invalid(message).with("keys", config.keys));
            }
            Distribution::Zipf => Some(Arc::new(Zipf::new(config.keys))),
        };
        Ok(Self { config, zipf })
    }

    /// The rank of record `sequence`, below the number of keys.
    #[inline]
    pub fn rank(&self, sequence: u64) -> u64 {
        let hash = mix(self.config.seed.wrapping_add(sequence.wrapping_add(1).wrapping_mul(GAMMA)));
        match &self.zipf {
            None => high_half(hash, self.config.keys),
            Some(zipf) => zipf.rank(hash),
        }
    }

    /// The key of record `sequence`.
    #[inline]
    pub fn key(&self, sequence: u64) -> u64 {
        mix(self.rank(sequence))
    }

    /// The ranges that subtask `subtask` of `parallelism` reads when `left` is all that is left to read.
    fn share(left: &[(u64, u64)], subtask: u32, parallelism: u32) -> Vec<(u64, u64)> {
        let total: u64 = left.iter().map(|(start, end)| end - start).sum();
        let border = |i: u32| (u128::from(total) * u128::from(i) / u128::from(parallelism.max(1))) as u64;
        let (from, to) = (border(subtask), border(subtask + 1));
        let mut before = 0;
        let mut mine = Vec::new();
        for &(start, end) in left {
            let (a, b) = (from.max(before), to.min(before + (end - start)));
            if a < b {
                mine.push((start + (a - before), start + (b - before)));
            }
            before += end - start;
        }
        mine
    }
}

/// What is left of one range.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    config: KeyStreamConfig,
    next: u64,
    end: u64,
}

impl SourceFactory for KeyStream {
    type Source = KeyStreamSubtask;

    fn open(&self, context: SourceContext) -> Result<KeyStreamSubtask> {
        let mut left = Vec::new();
        for bytes in context.restored.iter().flatten() {
            let position: Position = postcard::from_bytes(bytes)
                .map_err(|e| Error::corrupt("the position of a key stream cannot be read").caused_by(e))?;
            if position.config != self.config || position.next > position.end {
                let message = "the checkpoint is of another key stream: use the same records, keys, seed and \
                               distribution, or start a new job";
                return Err(Error::new(ErrorKind::Incompatible, message)
                    .with("stored", format_args!("{:?}", position.config))
                    .with("wanted", format_args!("{:?}", self.config)));
            }
            left.push((position.next, position.end));
        }
        if context.restored.is_none() {
            left.push((0, self.config.records));
        }
        left.sort_unstable();
        let ranges = Self::share(&left, context.subtask, context.parallelism);
        Ok(KeyStreamSubtask { stream: self.clone(), ranges, current: 0 })
    }
}

/// One subtask of a [`KeyStream`].
#[derive(Debug)]
pub struct KeyStreamSubtask {
    stream: KeyStream,
    ranges: Vec<(u64, u64)>,
    current: usize,
}

impl Source for KeyStreamSubtask {
    type Out = u64;

    fn poll(&mut self, max: usize, output: &mut Output<u64>) -> Result<SourceStatus> {
        let mut room = max as u64;
        while let Some((next, end)) = self.ranges.get_mut(self.current) {
            let stop = (*end).min(next.saturating_add(room));
            output.records.extend((*next..stop).map(|sequence| self.stream.key(sequence)));
            output.timestamps.resize(output.records.len(), NO_TIMESTAMP);
            room -= stop - *next;
            *next = stop;
            if stop == *end {
                self.current += 1;
            } else {
                return Ok(SourceStatus::More);
            }
        }
        Ok(SourceStatus::End)
    }

    fn positions(&self) -> Result<Vec<Vec<u8>>> {
        let encode = |&(next, end): &(u64, u64)| {
            postcard::to_allocvec(&Position { config: self.stream.config.clone(), next, end })
                .map_err(|e| Error::new(ErrorKind::Internal, "a position cannot be encoded").caused_by(e))
        };
        self.ranges.iter().map(encode).collect()
    }
}

#[cfg(test)]
mod tests;
