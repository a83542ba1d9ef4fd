//! A store of segments in memory, with faults on demand.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use strandline_snapshot_format::MemorySegments;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyHash, Result};
use tokio::sync::Semaphore;

/// How a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// A put stores nothing.
    PutRefused,
    /// A put stores the bytes and returns an error, as if the answer was lost.
    PutAnswerLost,
    /// A read fails.
    ReadRefused,
}

/// A [`SegmentStore`] in memory that fails on demand, and whose segments a test can damage.
///
/// A name consists of the term and the checkpoint that the segment was written for, and the hash of its
/// bytes, as in a real storage.
#[derive(Debug, Default)]
pub struct FaultySegments {
    segments: MemorySegments,
    plan: Mutex<Option<Plan>>,
    /// The term and the checkpoint that segments are written for.
    target: Mutex<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    /// The number of operations that still succeed.
    after: usize,
    /// The number of operations that fail after that.
    count: usize,
    fault: StoreFault,
}

impl FaultySegments {
    /// Creates an empty store without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next `after` operations of the kind of `fault` succeed, then fails `count`.
    pub fn fail(&self, after: usize, count: usize, fault: StoreFault) {
        *self.plan() = Some(Plan { after, count, fault });
    }

    /// Returns a door to this store that writes for one checkpoint. It lets `operations` pass, and all others
    /// wait until it is opened.
    pub fn gate(self: &Arc<Self>, term: u64, checkpoint: CheckpointId, operations: usize) -> Gate {
        Gate { store: Arc::clone(self), target: (term, checkpoint.0), permits: Semaphore::new(operations) }
    }

    /// Returns a store of its own with all segments of this one.
    pub(crate) fn fork(&self) -> Arc<Self> {
        Arc::new(Self { segments: self.segments.fork(), ..Self::default() })
    }

    /// Ends all faults.
    pub fn heal(&self) {
        *self.plan() = None;
    }

    /// Sets the term and the checkpoint that later segments are written for.
    pub fn write_for(&self, term: u64, checkpoint: CheckpointId) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = (term, checkpoint.0);
    }

    /// Deletes the segments that no complete checkpoint needs and no running one can need, by the rule of the
    /// storage crate: a segment that is not in `marked` goes if its term is over, or if it was written for
    /// `completed` or an earlier checkpoint.
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

    /// Returns the inner store, to read segments, to damage them and to delete them.
    pub fn segments(&self) -> &MemorySegments {
        &self.segments
    }

    /// Returns the number of bytes of all segments.
    pub fn total_bytes(&self) -> u64 {
        self.segments.segments().iter().map(|segment| segment.len).sum()
    }

    /// Deletes every segment that none of these snapshots needs.
    pub fn keep_only<'a>(&self, snapshots: impl IntoIterator<Item = &'a KeyedSnapshot>) {
        let parts = snapshots.into_iter().flat_map(|snapshot| &snapshot.parts);
        let kept: BTreeSet<&SegmentName> = parts.map(|part| &part.segment.name).collect();
        for segment in self.segments.segments() {
            if !kept.contains(&segment.name) {
                self.segments.remove(&segment.name);
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Option<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault of the next operation, a read or a put.
    fn next_fault(&self, read: bool) -> Option<StoreFault> {
        let mut slot = self.plan();
        let plan = slot.as_mut().filter(|plan| read == (plan.fault == StoreFault::ReadRefused))?;
        if plan.after > 0 {
            plan.after -= 1;
            return None;
        }
        let fault = (plan.count > 0).then_some(plan.fault);
        plan.count = plan.count.saturating_sub(1);
        fault
    }
}

impl FaultySegments {
    fn put_for(&self, (term, checkpoint): (u64, u64), bytes: &[u8]) -> Result<SegmentRef> {
        let fault = self.next_fault(false);
        if fault != Some(StoreFault::PutRefused) {
            let hash = KeyHash::of_encoded(bytes).0;
            let name = SegmentName(format!("{term:04}-{checkpoint:06}-{hash:016x}.seg"));
            let segment = self.segments.replace(name, bytes);
            if fault.is_none() {
                return Ok(segment);
            }
        }
        Err(on_demand())
    }
}

#[async_trait]
impl SegmentStore for FaultySegments {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_for(target, &bytes)
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        if self.next_fault(true).is_some() {
            return Err(on_demand().with("segment", &segment.name));
        }
        self.segments.read(segment, range).await
    }
}

/// A door to a store whose operations hang; see [`FaultySegments::gate`].
#[derive(Debug)]
pub struct Gate {
    store: Arc<FaultySegments>,
    target: (u64, u64),
    permits: Semaphore,
}

impl Gate {
    /// Lets all operations pass, those that wait, too.
    pub fn open(&self) {
        self.permits.add_permits(1 << 20);
    }

    async fn pass(&self) -> Result<()> {
        let permit = self.permits.acquire().await.map_err(|_| on_demand())?;
        permit.forget();
        Ok(())
    }
}

#[async_trait]
impl SegmentStore for Gate {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        self.pass().await?;
        self.store.put_for(self.target, &bytes)
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        self.pass().await?;
        self.store.read(segment, range).await
    }
}

fn on_demand() -> Error {
    Error::new(ErrorKind::Unavailable, "the store fails on demand")
}
