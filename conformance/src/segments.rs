//! Segments in memory, with faults on demand.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use strandline_state_api::format::MemorySegments;
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyHash, Result, SegmentName, SegmentRef, SegmentStore,
};

/// How a [`put`](SegmentStore::put) fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutFault {
    /// Nothing is stored.
    Refused,
    /// The bytes are stored, but the caller is told that they are not: the answer was lost.
    AnswerLost,
}

/// A [`SegmentStore`] in memory that fails when it is told to, and whose segments can be damaged.
///
/// A name holds the term and the checkpoint that the segment was written for, then the hash of its bytes, as in a real
/// storage.
#[derive(Debug, Default)]
pub struct FaultySegments {
    segments: MemorySegments,
    plan: Mutex<Option<Plan>>,
    /// The term and the checkpoint that segments are written for.
    target: Mutex<(u64, u64)>,
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

    /// Segments are written for this checkpoint from now on.
    pub fn write_for(&self, term: u64, checkpoint: CheckpointId) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = (term, checkpoint.0);
    }

    /// Deletes what no complete checkpoint needs and no running one can need, by the rule of the storage crate: a segment that is
    /// not in `marked` goes if its term is over, or if it was written for `completed` or a checkpoint before.
    pub fn sweep(&self, term: u64, completed: CheckpointId, marked: &BTreeSet<SegmentName>) {
        for SegmentRef { name, .. } in self.segments.segments() {
            let mut numbers = name.0.split('-').map(|number| number.parse().unwrap_or(u64::MAX));
            let (of_term, of_checkpoint) = (numbers.next(), numbers.next());
            let over = of_term < Some(term) || of_checkpoint <= Some(completed.0);
            if over && !marked.contains(&name) {
                self.segments.remove(&name);
            }
        }
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
            let (term, checkpoint) = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
            let hash = KeyHash::of_encoded(&bytes).0;
            let name = SegmentName(format!("{term:04}-{checkpoint:06}-{hash:016x}.seg"));
            let segment = self.segments.replace(name, &bytes);
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
