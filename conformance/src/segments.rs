//! Segments in memory, with faults on demand.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use strandline_state_api::format::MemorySegments;
use strandline_state_api::{Error, ErrorKind, Result, SegmentName, SegmentRef, SegmentStore};

/// How a [`put`](SegmentStore::put) fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutFault {
    /// Nothing is stored.
    Refused,
    /// The bytes are stored, but the caller is told that they are not: the answer was lost.
    AnswerLost,
}

/// A [`SegmentStore`] in memory that fails when it is told to, and whose segments can be damaged.
#[derive(Debug, Default)]
pub struct FaultySegments {
    segments: MemorySegments,
    plan: Mutex<Option<Plan>>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Puts that still succeed.
    after: usize,
    /// Puts that then fail.
    count: usize,
    fault: PutFault,
}

impl FaultySegments {
    /// An empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `after` puts succeed, then fails `count` of them.
    pub fn fail_puts(&self, after: usize, count: usize, fault: PutFault) {
        *self.plan() = Some(Plan { after, count, fault });
    }

    /// No put fails any more.
    pub fn heal(&self) {
        *self.plan() = None;
    }

    /// The segments beneath: to look at, to damage and to delete.
    pub fn segments(&self) -> &MemorySegments {
        &self.segments
    }

    /// The bytes of all segments together.
    pub fn total_bytes(&self) -> u64 {
        self.segments.segments().iter().map(|segment| segment.len).sum()
    }

    /// Deletes every segment that is not in `kept`.
    pub fn keep_only<'a>(&self, kept: impl IntoIterator<Item = &'a SegmentName> + Clone) {
        for segment in self.segments.segments() {
            if !kept.clone().into_iter().any(|name| *name == segment.name) {
                self.segments.remove(&segment.name);
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Option<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that the next put suffers.
    fn next_fault(&self) -> Option<PutFault> {
        let mut slot = self.plan();
        let plan = slot.as_mut()?;
        if plan.after > 0 {
            plan.after -= 1;
            return None;
        }
        let fault = (plan.count > 0).then_some(plan.fault);
        plan.count = plan.count.saturating_sub(1);
        fault
    }
}

#[async_trait]
impl SegmentStore for FaultySegments {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let fault = self.next_fault();
        if fault != Some(PutFault::Refused) {
            let segment = self.segments.put(bytes).await?;
            if fault.is_none() {
                return Ok(segment);
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the store was told to fail"))
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        self.segments.read(segment, range).await
    }
}
