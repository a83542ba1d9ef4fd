//! A stream of keys that every engine can reproduce: for benchmarks, and for tests that need a known result.
//!
//! The stream is SplitMix64 started at a seed, mapped to `keys` ranks, uniform or with Zipf's law (exponent
//! 0.989990234375, from correctly rounded operations only); a key is the mixed rank. Record `n` depends on
//! `n` alone, so any subtask can read any part of the stream, from any position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_runtime::source::{Extent, Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Batch, Error, ErrorKind, Result};

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

/// The frequency of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Distribution {
    /// All equally often.
    Uniform,
    /// Key `i` with a weight of about `1 / (i + 1)`.
    Zipf,
}

/// The description of a stream: two equal ones make equal records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStreamConfig {
    /// How many records there are.
    pub records: u64,
    /// How many different keys there are.
    pub keys: u64,
    /// The state that SplitMix64 starts from.
    pub seed: u64,
    /// The frequency of each key.
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

    /// The ranges that subtask `subtask` of `parallelism` reads where `left` holds all unread ranges.
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

/// The position in one range of a [`KeyStream`]: the sequence numbers that are left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    config: KeyStreamConfig,
    next: u64,
    end: u64,
}

impl SourceFactory for KeyStream {
    type Source = KeyStreamSubtask;

    fn open(&self, context: SourceContext<KeyRange>) -> Result<KeyStreamSubtask> {
        let mut left = Vec::new();
        for range in context.restored.iter().flatten() {
            if range.config != self.config || range.next > range.end {
                let message = "the checkpoint is of another key stream: use the same records, keys, seed and \
                               distribution, or start a new job";
                return Err(Error::new(ErrorKind::Incompatible, message)
                    .with("stored", format_args!("{:?}", range.config))
                    .with("wanted", format_args!("{:?}", self.config)));
            }
            left.push((range.next, range.end));
        }
        if context.restored.is_none() {
            left.push((0, self.config.records));
        }
        left.sort_unstable();
        let ranges = Self::share(&left, context.subtask, context.parallelism);
        // One subtask counts what was taken before the restored checkpoint.
        let before = self.config.records.saturating_sub(left.iter().map(|(next, end)| end - next).sum());
        let taken = if context.subtask == 0 { before } else { 0 };
        Ok(KeyStreamSubtask { stream: self.clone(), ranges, current: 0, taken })
    }
}

/// One subtask of a [`KeyStream`].
#[derive(Debug)]
pub struct KeyStreamSubtask {
    stream: KeyStream,
    ranges: Vec<(u64, u64)>,
    current: usize,
    /// How many keys it has made.
    taken: u64,
}

impl Source for KeyStreamSubtask {
    type Out = u64;
    type Position = KeyRange;

    fn poll(&mut self, max: usize, output: &mut Batch<u64>) -> Result<SourceStatus> {
        let (mut keys, mut timestamps) = std::mem::take(output).into_columns();
        let mut room = max as u64;
        let mut status = SourceStatus::End;
        while let Some((next, end)) = self.ranges.get_mut(self.current) {
            let stop = (*end).min(next.saturating_add(room));
            keys.reserve((stop - *next) as usize);
            // A push at a time: the compiler would vectorize `extend`, and vectors of x86-64 multiply only 32 bits.
            for sequence in *next..stop {
                keys.push(self.stream.key(sequence));
            }
            room -= stop - *next;
            self.taken += stop - *next;
            *next = stop;
            if stop < *end {
                status = SourceStatus::More;
                break;
            }
            self.current += 1;
        }
        timestamps.resize(keys.len(), None);
        *output = Batch::from_columns(keys, timestamps);
        Ok(status)
    }

    fn extent(&self) -> Option<Extent> {
        let left: u64 = self.ranges.iter().map(|(next, end)| end - next).sum();
        Some(Extent { done: self.taken, total: self.taken + left })
    }

    fn positions(&self) -> Result<Vec<KeyRange>> {
        let range = |&(next, end): &(u64, u64)| KeyRange { config: self.stream.config.clone(), next, end };
        Ok(self.ranges.iter().map(range).collect())
    }
}

#[cfg(test)]
mod tests;
