//! Snapshots of a harness, and restores from them.

use strandline_snapshot_format::MemorySegments;
use strandline_state_api::assignment::{assign_keyed, assign_operator_state};
use strandline_state_api::backend::{
    BackendFactory, BackendScope, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource,
};
use strandline_state_api::host::{KeyedProcess, OperatorStateEntry};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    Batch, CheckpointId, Error, KeyGroupRange, Open, Operator, OperatorId, Result, Timestamp,
};

use crate::Harness;
use crate::subtask::{Subtask, SubtaskState, located};
use crate::wait::block_on;

/// A checkpoint of a [`Harness`]: keyed state in files of its own, operator state, and time. It serves any
/// number of [restores](Harness::restore), also in a harness with another backend that reads the files.
///
/// A snapshot holds the files that it names and no others, and nothing that happens to the harness later
/// changes it.
#[derive(Clone, Debug)]
pub struct HarnessSnapshot {
    operator: OperatorId,
    checkpoint: CheckpointId,
    subtasks: Vec<SubtaskState>,
    watermark: Option<Timestamp>,
    processing_time: Option<Timestamp>,
    ended: bool,
    segments: MemorySegments,
}

impl HarnessSnapshot {
    /// Returns the snapshot that a new job starts from.
    pub(crate) fn start(operator: OperatorId) -> Self {
        Self {
            operator,
            checkpoint: CheckpointId(0),
            subtasks: Vec::new(),
            watermark: None,
            processing_time: None,
            ended: false,
            segments: MemorySegments::new(),
        }
    }

    /// Returns the number of the checkpoint; numbers rise over all snapshots and restores of a harness.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Returns the number of subtasks that the snapshot was taken of.
    pub fn parallelism(&self) -> u32 {
        self.subtasks.len() as u32
    }

    /// Returns the key groups and the keyed state of each subtask.
    pub fn keyed(&self) -> impl Iterator<Item = (KeyGroupRange, &KeyedSnapshot)> {
        self.subtasks.iter().map(|subtask| (subtask.key_groups, &subtask.keyed))
    }

    /// Returns the operator state of each subtask.
    pub fn operator_state(&self) -> impl Iterator<Item = &[OperatorStateEntry]> {
        self.subtasks.iter().map(|subtask| subtask.operator_state.as_slice())
    }

    /// Returns the watermark at the barrier; `None` before the first.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }

    /// Returns the processing time at the barrier; `None` before the first.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.processing_time
    }

    /// Returns the number of bytes that the snapshot added to the files of earlier snapshots.
    pub fn written_bytes(&self) -> u64 {
        self.keyed().map(|(_, keyed)| keyed.written_bytes).sum()
    }

    /// Returns the number of bytes of all files that the snapshot needs.
    pub fn full_bytes(&self) -> u64 {
        self.keyed().map(|(_, keyed)| keyed.full_bytes()).sum()
    }

    /// Returns the files, to read them, and to damage them in a test of a restore.
    pub fn segments(&self) -> &MemorySegments {
        &self.segments
    }
}

impl<F, O, M> Harness<F, O, M>
where
    F: BackendFactory,
    O: Operator,
    M: Fn(&mut Open<'_, F::Backend<O::Key>, O::Namespace>) -> Result<O>,
{
    /// Takes a snapshot of everything: keyed and operator state, timers, watermark, processing time. The
    /// snapshot may be taken between any two calls, also while [timers are left](Self::max_timers). The
    /// emitted records are not part of it.
    ///
    /// # Errors
    /// Fails when a value cannot be encoded.
    pub fn snapshot(&mut self, kind: SnapshotKind) -> Result<HarnessSnapshot> {
        self.last = self.last.next();
        let mut subtasks = Vec::new();
        for subtask in &mut self.subtasks {
            let taken = subtask.snapshot(self.last, kind, &self.store);
            subtasks.push(
                taken
                    .map_err(|error| subtask.located(error, &self.operator).with("checkpoint", self.last))?,
            );
        }
        let parts = subtasks.iter().flat_map(|subtask| &subtask.keyed.parts);
        let segments = self.store.only(parts.map(|part| &part.segment.name));
        Ok(HarnessSnapshot {
            operator: self.operator.clone(),
            checkpoint: self.last,
            subtasks,
            watermark: self.watermark,
            processing_time: self.processing_time,
            ended: self.ended,
            segments,
        })
    }

    /// Replaces all subtasks by `parallelism` new ones that continue from `snapshot`, as after a failure or a
    /// rescale: each opens the operator anew. Time continues from that of the snapshot without firing the
    /// timers that are due; the next call of [`watermark`](Self::watermark) or
    /// [`processing_time`](Self::processing_time) fires them.
    ///
    /// Records that were emitted before and not taken stay: [take them](Self::take_output) first to tell them
    /// from later ones.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the snapshot is of another operator, or for
    /// a parallelism of 0; [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when a stored
    /// state has another type, codec or schema version than its descriptor;
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when a file is damaged.
    pub fn restore(&mut self, snapshot: &HarnessSnapshot, parallelism: u32) -> Result<Restored> {
        if snapshot.operator != self.operator {
            return Err(Error::invalid("the snapshot is of another operator: open the harness with its id")
                .with("operator", &self.operator)
                .with("snapshot of operator", &snapshot.operator));
        }
        let old: Vec<_> = snapshot.keyed().map(|(range, keyed)| (range, keyed.clone())).collect();
        let keyed = assign_keyed(&old, parallelism)?;
        let old: Vec<_> = snapshot.operator_state().map(<[_]>::to_vec).collect();
        let operator_state = assign_operator_state(&old, parallelism)?;

        // A backend may hold on to something that the next one for the same key groups needs.
        self.subtasks.clear();
        self.store = snapshot.segments.fork();
        let mut subtasks = Vec::new();
        let mut restored = Restored::default();
        for ((number, assigned), operator_state) in (0..).zip(keyed).zip(operator_state) {
            let scope = BackendScope::new(self.operator.clone(), number, parallelism);
            let opened =
                self.open_subtask(scope, operator_state, &assigned.snapshots, snapshot, &mut restored);
            subtasks.push(opened.map_err(|error| {
                let error = located(error, &self.operator, number);
                if snapshot.subtasks.is_empty() {
                    error
                } else {
                    error.with("checkpoint", snapshot.checkpoint)
                }
            })?);
        }
        self.subtasks = subtasks;
        self.last = self.last.max(snapshot.checkpoint);
        (self.watermark, self.processing_time) = (snapshot.watermark, snapshot.processing_time);
        self.ended = snapshot.ended;
        Ok(restored)
    }

    /// Continues with `parallelism` subtasks: takes a snapshot, and restores from it.
    ///
    /// # Errors
    /// Those of [`snapshot`](Self::snapshot) and [`restore`](Self::restore).
    pub fn rescale(&mut self, parallelism: u32) -> Result<()> {
        let snapshot = self.snapshot(SnapshotKind::Incremental)?;
        self.restore(&snapshot, parallelism).map(drop)
    }

    fn open_subtask(
        &self,
        scope: BackendScope,
        operator_state: Vec<OperatorStateEntry>,
        keyed: &[KeyedSnapshot],
        snapshot: &HarnessSnapshot,
        found: &mut Restored,
    ) -> Result<Subtask<F, O>> {
        let (number, key_groups) = (scope.subtask, scope.key_groups);
        let backend = self.factory.create::<O::Key>(scope)?;
        let mut process = KeyedProcess::open(&self.open, backend, operator_state)?;
        if !keyed.is_empty() {
            let restored = block_on(process.backend_mut().restore(keyed, &self.store))?;
            found.entries += restored.entries;
            found.bytes += restored.bytes;
            found.orphans.extend(restored.orphans);
            found.orphans.sort();
            found.orphans.dedup();
        }
        process.restore_watermark(snapshot.watermark);
        if let Some(now) = snapshot.processing_time {
            // This sets the time only: with a bound of 0 no timer fires.
            process.advance_processing_time(now, 0, &mut Batch::new())?;
        }
        let writer = process.backend_mut().take_writer()?;
        Ok(Subtask { number, key_groups, process, writer })
    }
}
