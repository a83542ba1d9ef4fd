//! The snapshots of one keyed operator: from the barrier to the writer thread.
//!
//! The types of a backend end at [`SnapshotBackend`] and [`AnyWriter`]: what passes from the one to the other
//! is a box.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use strandline_checkpoint_storage::SubtaskSnapshot;
use strandline_state_api::backend::{
    BackendScope, EncodedEntry, Progress, SnapshotKind, SnapshotSource, SnapshotWriter, Statistic,
};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, Keyed, KeyedBackend, OperatorId, Result, StateKey,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet, LocalSet};

use crate::barrier::OperatorPart;
use crate::chain::assembly::Attempt;
use crate::live::LiveStore;
use crate::metrics::micros;
use crate::passing::{Ack, PassingBarrier};
use crate::sync::{guarded_async, located};
use crate::threads::{Thread, Threads};

/// What [`SnapshotBackend`] hands to [`AnyWriter`].
pub(super) type AnyPrepared = Box<dyn Any + Send>;

/// A backend as its snapshots see it.
pub(super) trait SnapshotBackend {
    /// As [`SnapshotSource::prepare`].
    fn prepare_snapshot(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()>;

    /// As [`SnapshotSource::advance`].
    fn advance_snapshot(&mut self, budget: usize) -> Result<Progress<AnyPrepared>>;

    /// As [`KeyedBackend::look_up`], of an encoded key.
    fn look_up_encoded(
        &mut self,
        state: &str,
        key: &[u8],
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()>;

    /// The description of a registered state.
    fn meta_of(&self, state: &str) -> Option<StateMeta>;

    /// As [`KeyedBackend::statistics`].
    fn measurements(&self) -> Vec<Statistic>;

    /// As [`KeyedBackend::entries`].
    fn entry_count(&self) -> u64;
}

impl<B: KeyedBackend + SnapshotSource> SnapshotBackend for B {
    fn prepare_snapshot(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        self.prepare(checkpoint, kind)
    }

    fn advance_snapshot(&mut self, budget: usize) -> Result<Progress<AnyPrepared>> {
        Ok(match self.advance(budget)? {
            Progress::Idle => Progress::Idle,
            Progress::More => Progress::More,
            Progress::Ready(checkpoint, prepared) => Progress::Ready(checkpoint, Box::new(prepared)),
        })
    }

    fn look_up_encoded(
        &mut self,
        state: &str,
        key: &[u8],
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let key = B::Key::decode(key).map_err(|error| {
            Error::invalid("these bytes are no key of the operator").with("state", state).caused_by(error)
        })?;
        self.look_up(state, Keyed::new(&key), visit)
    }

    fn meta_of(&self, state: &str) -> Option<StateMeta> {
        self.schemas().into_iter().map(|schema| schema.meta).find(|meta| meta.name == state)
    }

    fn measurements(&self) -> Vec<Statistic> {
        self.statistics()
    }

    fn entry_count(&self) -> u64 {
        self.entries()
    }
}

/// The writer of a backend's snapshots.
#[async_trait]
pub(super) trait AnyWriter: Send + Sync {
    /// As [`SnapshotWriter::commit`].
    async fn write(&self, prepared: AnyPrepared, store: &dyn SegmentStore) -> Result<KeyedSnapshot>;
}

#[async_trait]
impl<W: SnapshotWriter> AnyWriter for W {
    async fn write(&self, prepared: AnyPrepared, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        match prepared.downcast() {
            Ok(prepared) => self.commit(*prepared, store).await,
            Err(_) => Err(Error::new(ErrorKind::Internal, "a snapshot is of another backend")),
        }
    }
}

/// A prepared snapshot, and what to acknowledge once it is stored.
struct WriteJob {
    prepared: AnyPrepared,
    ack: Arc<Ack>,
    part: OperatorPart,
    live: Option<Arc<LiveStore>>,
}

/// What the processing thread asks of the writer thread.
enum Order {
    Write(Box<WriteJob>),
    /// The checkpoint will never be complete: its commit is dropped, and the next one stores its changes.
    Abort(CheckpointId),
}

/// A snapshot whose barrier has passed, and that the backend has not handed over.
struct PendingSnapshot {
    checkpoint: CheckpointId,
    ack: Arc<Ack>,
    operator: OperatorId,
    snapshot: SubtaskSnapshot,
    /// Where it is stored, if it belongs to no checkpoint.
    live: Option<Arc<LiveStore>>,
    is_aborted: bool,
}

/// Snapshots under way. Bound to the processing thread; a thread of its own writes what is ready. An upload
/// that hangs delays no later one.
pub(super) struct Snapshots {
    pending: VecDeque<PendingSnapshot>,
    /// `None` without checkpoints.
    orders: Option<UnboundedSender<Order>>,
    thread: Option<Thread>,
    threads: Threads,
}

impl Snapshots {
    pub(super) fn start(
        attempt: &Arc<Attempt>,
        scope: &BackendScope,
        writer: Option<Arc<dyn AnyWriter>>,
    ) -> Result<Self> {
        let (pending, threads) = (VecDeque::new(), attempt.threads.clone());
        let Some(writer) = writer else {
            return Ok(Self { pending, orders: None, thread: None, threads });
        };
        let (orders, queue) = unbounded_channel();
        let attempt = Arc::clone(attempt);
        let name = format!("{}-{}-snapshots", scope.operator, scope.subtask);
        let thread = threads.spawn(name, move || {
            let local = LocalSet::new();
            attempt.threads.block_on(local.run_until(write_all(&attempt, writer, queue)));
        });
        let thread = thread.map_err(|error| error.with("operator", &scope.operator))?;
        Ok(Self { pending, orders: Some(orders), thread: Some(thread), threads })
    }

    /// Prepares a snapshot at the barrier.
    pub(super) fn prepare(
        &mut self,
        backend: &mut dyn SnapshotBackend,
        passing: &mut PassingBarrier,
        operator: &OperatorId,
        mut snapshot: SubtaskSnapshot,
        start: Instant,
    ) {
        let (checkpoint, subtask) = (passing.barrier.checkpoint, snapshot.subtask);
        if self.orders.is_none() {
            passing.add(operator, snapshot, self.threads.since(start));
            return;
        }
        match backend.prepare_snapshot(checkpoint, passing.barrier.kind) {
            Ok(()) => {
                let pause = self.threads.since(start);
                snapshot.trace.pause_us = micros(pause);
                let (operator, ack) = (operator.clone(), passing.expect_snapshot());
                self.pending.push_back(PendingSnapshot {
                    checkpoint,
                    ack,
                    operator,
                    snapshot,
                    live: passing.barrier.live.clone(),
                    is_aborted: false,
                });
            }
            Err(error) => {
                passing.fail(located(error, operator, subtask));
            }
        }
    }

    /// Moves about `budget` entries on; returns whether there is more to do now.
    pub(super) fn step(&mut self, backend: &mut dyn SnapshotBackend, budget: usize) -> Result<bool> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        match backend.advance_snapshot(budget) {
            Ok(Progress::More) => Ok(true),
            Ok(Progress::Ready(checkpoint, prepared)) => {
                let pending = self.pending.pop_front().filter(|pending| pending.checkpoint == checkpoint);
                let PendingSnapshot { ack, operator, mut snapshot, live, is_aborted, .. } =
                    pending.ok_or_else(|| out_of_order(checkpoint))?;
                let statistics = backend.measurements();
                snapshot.statistics = statistics.iter().cloned().map(Into::into).collect();
                let part = OperatorPart { operator, snapshot, statistics };
                self.order(Order::Write(Box::new(WriteJob { prepared, ack, part, live })))?;
                if is_aborted {
                    self.order(Order::Abort(checkpoint))?;
                }
                Ok(!self.pending.is_empty())
            }
            Ok(Progress::Idle) => {
                let error =
                    Error::new(ErrorKind::Internal, "the backend forgot a snapshot that was prepared");
                self.fail_oldest(&error);
                Err(error)
            }
            Err(error) => {
                self.fail_oldest(&error);
                Ok(!self.pending.is_empty())
            }
        }
    }

    /// Gives up the snapshot of a checkpoint that will never be complete.
    pub(super) fn abort(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if self.orders.is_none() {
            return Ok(());
        }
        match self.pending.iter_mut().find(|pending| pending.checkpoint == checkpoint) {
            Some(pending) => pending.is_aborted = true,
            None => self.order(Order::Abort(checkpoint))?,
        }
        Ok(())
    }

    fn order(&self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if sent { Ok(()) } else { Err(writer_gone()) }
    }

    fn fail_oldest(&mut self, error: &Error) {
        if let Some(pending) = self.pending.pop_front() {
            pending.ack.fail(located(error.clone(), &pending.operator, pending.snapshot.subtask));
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has become a failed snapshot already.
            thread.join();
        }
    }
}

/// Stores prepared snapshots until no more can come, several at once where uploads take long.
async fn write_all(attempt: &Arc<Attempt>, writer: Arc<dyn AnyWriter>, mut queue: UnboundedReceiver<Order>) {
    let mut stop = attempt.cancelled.clone();
    let mut commits = JoinSet::new();
    let mut under_way: Vec<(CheckpointId, AbortHandle)> = Vec::new();
    loop {
        tokio::select! {
            biased;
            // What is under way is dropped: nobody waits for it any more.
            _ = stop.wait_for(|cancelled| *cancelled) => return,
            order = queue.recv() => match order {
                Some(Order::Write(job)) => {
                    let checkpoint = job.ack.checkpoint();
                    let commit = write(Arc::clone(attempt), Arc::clone(&writer), *job);
                    under_way.push((checkpoint, commits.spawn_local(commit)));
                }
                Some(Order::Abort(checkpoint)) => {
                    for (_, commit) in under_way.iter().filter(|(of, _)| *of == checkpoint) {
                        commit.abort();
                    }
                }
                None => return,
            },
            Some(_) = commits.join_next() => under_way.retain(|(_, commit)| !commit.is_finished()),
        }
    }
}

/// Stores one snapshot, and acknowledges it.
async fn write(attempt: Arc<Attempt>, writer: Arc<dyn AnyWriter>, job: WriteJob) {
    let WriteJob { prepared, ack, mut part, live } = job;
    let start = attempt.threads.now();
    let live = live.map(|live| live as Arc<dyn SegmentStore>);
    let Some(store) = live.or_else(|| attempt.segments(ack.checkpoint())) else { return };
    match guarded_async(writer.write(prepared, store.as_ref())).await {
        Ok(keyed) => {
            let snapshot = &mut part.snapshot;
            snapshot.trace.write_us = micros(attempt.threads.since(start));
            snapshot.trace.bytes_written = keyed.written_bytes;
            snapshot.trace.full_bytes = keyed.full_bytes();
            snapshot.keyed = keyed;
            ack.complete(part);
        }
        Err(error) => ack.fail(located(error, &part.operator, part.snapshot.subtask)),
    }
}

fn writer_gone() -> Error {
    Error::new(ErrorKind::Internal, "the thread that writes snapshots has died")
}

fn out_of_order(checkpoint: CheckpointId) -> Error {
    Error::new(ErrorKind::Internal, "the backend handed over a snapshot out of order")
        .with("checkpoint", checkpoint)
}
