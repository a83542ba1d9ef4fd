//! Restoring a loop, and snapshotting it.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use strandline_state_api::backend::{
    CheckpointedBackend, Progress, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};

use super::options::LoopOptions;
use super::worker::Worker;
use crate::layout::micros;
use crate::{Manifest, OperatorTypes, Segments, Storage, SubtaskAssignment, SubtaskSnapshot, Term};

/// Entries that are drained at once.
const STEP: usize = 4096;

/// Where a loop starts, and on whose behalf it writes.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) storage: Storage,
    /// The term of the group.
    pub(super) term: Term,
    /// The checkpoint to restore.
    pub(super) manifest: Option<Arc<Manifest>>,
    pub(super) options: LoopOptions,
}

/// What a loop has once it is restored.
#[derive(Debug)]
pub(super) struct Running<W> {
    storage: Storage,
    term: Term,
    writer: Arc<W>,
    /// The types of the registered states.
    types: Arc<OperatorTypes>,
}

/// The state of one worker at one checkpoint, stored; for its [`WorkerGroup`](crate::WorkerGroup).
#[derive(Clone, Debug)]
pub struct WorkerSnapshot {
    pub(super) checkpoint: CheckpointId,
    pub(super) operator: OperatorId,
    pub(super) snapshot: SubtaskSnapshot,
}

impl<B: CheckpointedBackend, R> Worker<B, R> {
    pub(super) async fn start(&mut self, start: Start) -> Result<()> {
        if self.running.is_some() {
            return Err(self.locate(Error::invalid("the loop is restored already")));
        }
        if let Some(manifest) = &start.manifest {
            self.load(manifest, &start).await.map_err(|e| e.with("checkpoint", manifest.checkpoint))?;
        }
        let writer = Arc::new(self.backend.take_writer()?);
        let Start { storage, term, .. } = start;
        let types = OperatorTypes::of_states(&self.backend.schemas(), self.operator_state.types());
        self.running = Some(Running { storage, term, writer, types: Arc::new(types) });
        Ok(())
    }

    async fn load(&mut self, manifest: &Manifest, start: &Start) -> Result<()> {
        let scope = self.backend.scope().clone();
        start.options.plan(manifest, &scope.operator, self.backend.schemas()).check()?;
        let mut operators = manifest.assign(scope.parallelism)?.operators;
        let stored = operators.keys().find(|id| start.options.current_id(id) == &scope.operator).cloned();
        let operator = stored.and_then(|id| operators.remove(&id)).unwrap_or_default();
        let subtask = operator.subtasks.into_iter().nth(scope.subtask as usize).unwrap_or_default();
        let SubtaskAssignment { keyed, operator_state, watermark, in_flight, .. } = subtask;
        if !in_flight.is_empty() {
            let message = "the checkpoint holds records in flight on their way to the operator, and a loop has \
                           no channels that they could come from; start from a savepoint, which holds none";
            return Err(self.locate(Error::new(ErrorKind::Incompatible, message)));
        }
        self.operator_state.restore(operator_state)?;
        self.backend.restore(&keyed, &start.storage.reader()).await?;
        self.time.restore(&mut self.backend, watermark);
        Ok(())
    }

    /// Takes a snapshot of this loop as it is now, as its part of `checkpoint`; nothing is stored yet.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) before the restore, and when `checkpoint` is not
    /// above the one before.
    pub(super) fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Result<UnstoredSnapshot<B::Writer>> {
        self.check_restored()?;
        if let Some(error) = self.time.failed.take() {
            return Err(error);
        }
        let operator_state = self.operator_state.snapshot()?;
        let scope = self.backend.scope().clone();
        let Self { backend, running: Some(running), .. } = self else {
            return Err(Error::invalid("a snapshot before the restore"));
        };
        let begun = Instant::now();
        let prepared = prepare(backend, checkpoint)?;
        let writer = Arc::clone(&running.writer);
        let segments = running.storage.segments(running.term, checkpoint);
        let mut snapshot = SubtaskSnapshot::new(scope.subtask, scope.key_groups);
        snapshot.operator_state = operator_state;
        snapshot.watermark = self.time.watermark;
        snapshot.types = Arc::clone(&running.types);
        snapshot.statistics = self.backend.statistics().into_iter().map(Into::into).collect();
        let operator = scope.operator;
        let term = running.term;
        Ok(UnstoredSnapshot { writer, segments, prepared, term, checkpoint, operator, snapshot, begun })
    }
}

/// Takes the keyed state as it is now.
fn prepare<B: SnapshotSource>(backend: &mut B, checkpoint: CheckpointId) -> Result<B::Prepared> {
    backend.prepare(checkpoint, SnapshotKind::Incremental)?;
    loop {
        match backend.advance(STEP)? {
            Progress::Ready(of, prepared) if of == checkpoint => return Ok(prepared),
            // An earlier one was prepared for a checkpoint that failed; its changes belong to this one, too.
            Progress::Ready(..) | Progress::More => {}
            Progress::Idle => {
                return Err(Error::new(ErrorKind::Internal, "the backend lost a snapshot under way"));
            }
        }
    }
}

/// A snapshot of one worker that is not stored yet: owned, and independent of what the worker does next. A
/// drop aborts it; the next snapshot then holds its changes, too.
pub struct UnstoredSnapshot<W: SnapshotWriter> {
    writer: Arc<W>,
    segments: Segments,
    prepared: W::Prepared,
    term: Term,
    checkpoint: CheckpointId,
    operator: OperatorId,
    snapshot: SubtaskSnapshot,
    begun: Instant,
}

impl<W: SnapshotWriter> UnstoredSnapshot<W> {
    /// Returns the checkpoint that the snapshot is a part of.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Stores the snapshot. Several may be stored at once, and end in any order; start them in the order of
    /// their checkpoints.
    ///
    /// After an error, or when the future is dropped, the worker may go on: its next snapshot holds what this
    /// one should have stored.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn store(self) -> Result<WorkerSnapshot> {
        let Self { writer, segments, prepared, term, checkpoint, operator, mut snapshot, begun } = self;
        let keyed = writer.commit(prepared, &segments).await?;
        snapshot.trace.write_us = micros(begun.elapsed());
        snapshot.trace.bytes_written = keyed.written_bytes;
        snapshot.trace.full_bytes = keyed.full_bytes();
        snapshot.keyed = keyed;
        snapshot.trace.objects = snapshot.written_objects(term, checkpoint);
        Ok(WorkerSnapshot { checkpoint, operator, snapshot })
    }
}

impl<W: SnapshotWriter> fmt::Debug for UnstoredSnapshot<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnstoredSnapshot")
            .field("operator", &self.operator)
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}
