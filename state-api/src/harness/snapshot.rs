//! Snapshots of a harness, and what follows from them.

use super::{Harness, Subtask, block_on};
use crate::format::MemorySegments;
use crate::{
    BackendFactory, BackendScope, CheckpointId, Error, ErrorKind, KeyGroupRange, KeyedProcess, KeyedSnapshot,
    Open, Operator, OperatorId, OperatorStateEntry, Output, Progress, RestoreSnapshot, Restored, Result,
    SnapshotKind, SnapshotSource, SnapshotWriter, StateKey, assign_keyed, assign_operator_state,
};

/// How many entries a snapshot moves on in one step.
const STEP: usize = 1 << 16;

/// A checkpoint of a [`Harness`]: keyed state in files of its own, operator state, and time. Good for any number of
/// [restores](Harness::restore), also in a harness with another backend that reads the files.
///
/// It holds the files that it names and no others, and nothing that happens to the harness later changes it.
#[derive(Clone, Debug)]
pub struct HarnessSnapshot {
    operator: OperatorId,
    checkpoint: CheckpointId,
    subtasks: Vec<SubtaskSnapshot>,
    watermark: i64,
    processing_time: i64,
    ended: bool,
    segments: MemorySegments,
}

#[derive(Clone, Debug)]
struct SubtaskSnapshot {
    key_groups: KeyGroupRange,
    keyed: KeyedSnapshot,
    operator_state: Vec<OperatorStateEntry>,
}

impl HarnessSnapshot {
    /// That of a new job.
    pub(super) fn start(operator: OperatorId) -> Self {
        let (subtasks, segments) = (Vec::new(), MemorySegments::new());
        let (watermark, processing_time) = (i64::MIN, i64::MIN);
        let checkpoint = CheckpointId(0);
        Self { operator, checkpoint, subtasks, watermark, processing_time, ended: false, segments }
    }

    /// Its number; numbers rise over all snapshots and restores of a harness.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// How many subtasks it is of.
    pub fn parallelism(&self) -> u32 {
        self.subtasks.len() as u32
    }

    /// The key groups and the keyed state of each subtask.
    pub fn keyed(&self) -> impl Iterator<Item = (KeyGroupRange, &KeyedSnapshot)> {
        self.subtasks.iter().map(|subtask| (subtask.key_groups, &subtask.keyed))
    }

    /// The operator state of each subtask.
    pub fn operator_state(&self) -> impl Iterator<Item = &[OperatorStateEntry]> {
        self.subtasks.iter().map(|subtask| subtask.operator_state.as_slice())
    }

    /// The watermark that it was taken at; `i64::MIN` before the first.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The processing time that it was taken at; `i64::MIN` before the first.
    pub fn processing_time(&self) -> i64 {
        self.processing_time
    }

    /// The bytes that it added to the files of the snapshots before.
    pub fn written_bytes(&self) -> u64 {
        self.keyed().map(|(_, keyed)| keyed.written_bytes).sum()
    }

    /// The bytes of all files that it needs.
    pub fn full_bytes(&self) -> u64 {
        self.keyed().map(|(_, keyed)| keyed.full_bytes()).sum()
    }

    /// Its files: to look at, and to damage, to see that a restore finds out.
    pub fn segments(&self) -> &MemorySegments {
        &self.segments
    }
}

impl<F, K, O, M> Harness<F, K, O, M>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
    M: Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O>,
{
    /// Takes a snapshot of everything: keyed and operator state, timers, watermark, processing time. It may be taken
    /// anywhere between two calls, also while [timers are left](Self::max_timers). What was emitted is not part of it.
    ///
    /// # Errors
    /// When a value cannot be encoded.
    pub fn snapshot(&mut self, kind: SnapshotKind) -> Result<HarnessSnapshot> {
        self.last = self.last.next();
        let mut subtasks = Vec::new();
        for i in 0..self.subtasks.len() {
            let subtask = &mut self.subtasks[i];
            let (number, taken) = (subtask.number, subtask.snapshot(self.last, kind, &self.store));
            subtasks.push(taken.map_err(|error| self.located(error, number).with("checkpoint", self.last))?);
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

    /// Replaces all subtasks by `parallelism` new ones that go on from `snapshot`, as after a failure or a rescale: the
    /// operator is opened anew for each. Time goes on from that of the snapshot, without firing what is due; the next call of
    /// [`watermark`](Self::watermark) or [`processing_time`](Self::processing_time) does.
    ///
    /// What was emitted before and not taken stays: [take it](Self::take_output) first to tell it from what follows.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the snapshot is of another operator, or for a parallelism of 0;
    /// [`Incompatible`](ErrorKind::Incompatible) when a state has another type, codec or schema version than its
    /// descriptor; [`Corrupt`](ErrorKind::Corrupt) when a file was damaged.
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
        let mut found = Restored::default();
        for ((number, assigned), operator_state) in (0..).zip(keyed).zip(operator_state) {
            let share = SubtaskSnapshot {
                key_groups: assigned.range,
                keyed: KeyedSnapshot::default(),
                operator_state,
            };
            let opened = self.open_subtask(number, share, &assigned.snapshots, snapshot, &mut found);
            subtasks.push(opened.map_err(|error| {
                let error = self.located(error, number);
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
        Ok(found)
    }

    /// Goes on with `parallelism` subtasks: a snapshot, and a restore from it.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot) and [`restore`](Self::restore).
    pub fn rescale(&mut self, parallelism: u32) -> Result<()> {
        let snapshot = self.snapshot(SnapshotKind::Incremental)?;
        self.restore(&snapshot, parallelism).map(drop)
    }

    fn open_subtask(
        &self,
        number: u32,
        share: SubtaskSnapshot,
        keyed: &[KeyedSnapshot],
        snapshot: &HarnessSnapshot,
        found: &mut Restored,
    ) -> Result<Subtask<F, K, O>> {
        let key_groups = share.key_groups;
        let scope = BackendScope { operator: self.operator.clone(), subtask: number, key_groups };
        let backend = self.factory.create::<K>(scope)?;
        let mut process = KeyedProcess::open(&self.open, backend, share.operator_state)?;
        if !keyed.is_empty() {
            let restored = block_on(process.backend_mut().restore(keyed, &self.store))?;
            found.entries += restored.entries;
            found.bytes += restored.bytes;
            found.unclaimed.extend(restored.unclaimed);
            found.unclaimed.sort();
            found.unclaimed.dedup();
        }
        if snapshot.watermark > i64::MIN {
            process.restore_watermark(snapshot.watermark);
        }
        if snapshot.processing_time > i64::MIN {
            // Only tells the time: with a bound of 0 no timer fires, so nothing is emitted.
            process.advance_processing_time(snapshot.processing_time, 0, &mut Output::new())?;
        }
        let writer = process.backend_mut().take_writer()?;
        Ok(Subtask { number, key_groups, process, writer })
    }
}

impl<F, K, O> Subtask<F, K, O>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
{
    fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        store: &MemorySegments,
    ) -> Result<SubtaskSnapshot> {
        let operator_state = self.process.operator_state().snapshot()?;
        let backend = self.process.backend_mut();
        backend.prepare(checkpoint, kind)?;
        let prepared = loop {
            match backend.advance(STEP)? {
                Progress::Ready(_, prepared) => break prepared,
                Progress::More => {}
                Progress::Idle => {
                    let message = "the backend lost a snapshot that was under way";
                    return Err(Error::new(ErrorKind::Internal, message));
                }
            }
        };
        let keyed = block_on(self.writer.commit(prepared, store))?;
        Ok(SubtaskSnapshot { key_groups: self.key_groups, keyed, operator_state })
    }
}
