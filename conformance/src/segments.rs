//! Segments in memory, with faults on demand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use strandline_state_api::{Error, ErrorKind, KeyHash, Result, SegmentName, SegmentRef, SegmentStore};

/// How a [`put`](SegmentStore::put) fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutFault {
    /// Nothing is stored.
    Refused,
    /// The bytes are stored, but the caller is told that they are not: the answer was lost.
    AnswerLost,
}

/// A [`SegmentStore`] in memory that fails, forgets and damages when it is told to.
#[derive(Debug, Default)]
pub struct FaultySegments {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    segments: BTreeMap<String, Vec<u8>>,
    /// Puts that still succeed, then how many fail, and how.
    fault: Option<(usize, usize, PutFault)>,
}

impl FaultySegments {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `after` puts succeed, then fails `count` of them.
    pub fn fail_puts(&self, after: usize, count: usize, fault: PutFault) {
        self.lock().fault = Some((after, count, fault));
    }

    /// No put fails any more.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// The names of all segments.
    pub fn names(&self) -> Vec<SegmentName> {
        self.lock().segments.keys().cloned().map(SegmentName).collect()
    }

    /// The bytes of all segments together.
    pub fn total_bytes(&self) -> u64 {
        self.lock().segments.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// The bytes of one segment.
    pub fn bytes(&self, name: &SegmentName) -> Option<Vec<u8>> {
        self.lock().segments.get(&name.0).cloned()
    }

    /// Forgets a segment; says whether there was one.
    pub fn remove(&self, name: &SegmentName) -> bool {
        self.lock().segments.remove(&name.0).is_some()
    }

    /// Forgets every segment that is not in `kept`.
    pub fn keep_only(&self, kept: &[SegmentName]) {
        self.lock().segments.retain(|name, _| kept.iter().any(|k| &k.0 == name));
    }

    /// Puts other bytes under a name that exists: what a broken disk does.
    pub fn overwrite(&self, name: &SegmentName, bytes: Vec<u8>) {
        self.lock().segments.insert(name.0.clone(), bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    /// The fault that the next put suffers.
    fn next_fault(&mut self) -> Option<PutFault> {
        let (after, count, fault) = self.fault.as_mut()?;
        if *after > 0 {
            *after -= 1;
            return None;
        }
        let fault = *fault;
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.fault = None;
        }
        Some(fault)
    }
}

#[async_trait]
impl SegmentStore for FaultySegments {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let name = format!("{:016x}-{}", KeyHash::of_encoded(&bytes).0, bytes.len());
        let len = bytes.len() as u64;
        let mut inner = self.lock();
        let fault = inner.next_fault();
        if fault != Some(PutFault::Refused) {
            inner.segments.insert(name.clone(), bytes);
        }
        if fault.is_some() {
            return Err(Error::new(ErrorKind::Unavailable, "the store was told to fail").with("segment", name));
        }
        Ok(SegmentRef { name: SegmentName(name), len })
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        let inner = self.lock();
        let Some(bytes) = inner.segments.get(&segment.name.0) else {
            return Err(
                Error::new(ErrorKind::NotFound, "the segment is missing").with("segment", &segment.name)
            );
        };
        if bytes.len() as u64 != segment.len {
            let message = format!("{} bytes, where {} were written", bytes.len(), segment.len);
            return Err(Error::corrupt(message).with("segment", &segment.name));
        }
        let wanted = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = wanted.and_then(|(start, end)| bytes.get(start..end));
        part.map(<[u8]>::to_vec).ok_or_else(|| {
            Error::invalid(format!("bytes {range:?} are outside of the segment")).with("segment", &segment.name)
        })
    }
}
