//! From what the tasks of a job acknowledged to the manifest of their checkpoint.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strandline_checkpoint_protocol::{CommitParts, Term};
use strandline_state_api::{CheckpointId, Error, OperatorId, Result};

use crate::{CheckpointTrace, Manifest, OperatorSnapshot, OperatorTypes, Storage, SubtaskSnapshot};

/// What one subtask of an operator hands in for a checkpoint: of what a task acknowledges with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPart {
    /// The operator.
    pub operator: OperatorId,
    /// What the subtask hands in.
    pub snapshot: SubtaskSnapshot,
}

/// What all manifests of one term have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLayout {
    /// The name of the job.
    pub job: String,
    /// The term of the coordinator.
    pub term: Term,
    /// The checkpoint that the term started from.
    pub restored_from: Option<CheckpointId>,
    /// The operators in the order of the manifest, each with the number of its subtasks.
    pub operators: Vec<(OperatorId, u32)>,
}

impl JobLayout {
    /// Puts a manifest together from what a coordinator collected
    /// ([`CommitPermit::into_parts`](strandline_checkpoint_protocol::CommitPermit::into_parts)). `start` is
    /// when the checkpoint was triggered, `acknowledged` when the last part came.
    ///
    /// Tasks that had finished before the barrier hand in nothing; whoever lets tasks finish adds their part,
    /// with [`finished`](SubtaskSnapshot::finished) set, to the acknowledgements, so that a restore does not
    /// run them again.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the parts are not exactly those of the
    /// operators: a checkpoint without one would lose its state without a trace.
    pub fn manifest<S: IntoIterator<Item = OperatorPart>>(
        &self,
        parts: CommitParts<S>,
        start: &CheckpointStart,
        acknowledged: Instant,
    ) -> Result<Manifest> {
        let CommitParts { checkpoint, kind, acks, .. } = parts;
        let mut by_operator: BTreeMap<OperatorId, Vec<SubtaskSnapshot>> = BTreeMap::new();
        for OperatorPart { operator, mut snapshot } in acks.into_values().flatten() {
            snapshot.trace.objects = snapshot.written_objects(self.term, checkpoint);
            by_operator.entry(operator).or_default().push(snapshot);
        }
        let mut operators = Vec::new();
        for (id, parallelism) in &self.operators {
            let mut subtasks = by_operator.remove(id).unwrap_or_default();
            subtasks.sort_by_key(|subtask| subtask.subtask);
            let expected = 0..*parallelism;
            if !subtasks.iter().map(|subtask| subtask.subtask).eq(expected) {
                let found: Vec<_> = subtasks.iter().map(|subtask| subtask.subtask.to_string()).collect();
                let message = format!(
                    "a checkpoint has the subtasks {} of an operator with {parallelism}",
                    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
                );
                return Err(Error::invalid(message).with("operator", id).with("checkpoint", checkpoint));
            }
            let mut types = OperatorTypes::default();
            for subtask in &mut subtasks {
                types.add(&subtask.types);
                subtask.types = Arc::default();
            }
            operators.push(OperatorSnapshot { id: id.clone(), parallelism: *parallelism, subtasks, types });
        }
        if let Some(unknown) = by_operator.keys().next() {
            let message = "a checkpoint has a part of an operator that the job does not have";
            return Err(Error::invalid(message).with("operator", unknown).with("checkpoint", checkpoint));
        }
        let trace = start.trace(&operators, acknowledged);
        Ok(Manifest {
            kind,
            created_unix_ms: unix_ms(start.clock.wall()),
            restored_from: self.restored_from,
            operators,
            trace,
            ..Manifest::new(checkpoint, self.term, &self.job)
        })
    }
}

/// Where a coordinator reads the time: at the system, or in a simulation.
pub trait TimeSource: Send + Sync + fmt::Debug {
    /// Returns the time that passes.
    fn now(&self) -> Instant;

    /// Returns the time of the day.
    fn wall(&self) -> SystemTime;
}

/// The clocks of the system.
#[derive(Debug)]
struct SystemTimes;

impl TimeSource for SystemTimes {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// When a checkpoint was triggered: for the [trace](Manifest::trace) in its manifest.
#[derive(Clone, Debug)]
pub struct CheckpointStart {
    clock: Arc<dyn TimeSource>,
    at: Instant,
    wall: SystemTime,
    storage: Option<Storage>,
    /// How many operations had been retried then.
    retries: u64,
}

impl CheckpointStart {
    /// A checkpoint that is triggered now, and stored in `storage` if in one.
    pub fn now<'s>(storage: impl Into<Option<&'s Storage>>) -> Self {
        Self::now_by(Arc::new(SystemTimes), storage)
    }

    /// As [`now`](Self::now), by another clock, from which the manifest has all its times.
    pub fn now_by<'s>(clock: Arc<dyn TimeSource>, storage: impl Into<Option<&'s Storage>>) -> Self {
        let storage = storage.into().cloned();
        let retries = storage.as_ref().map_or(0, Storage::retries);
        Self { at: clock.now(), wall: clock.wall(), clock, storage, retries }
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.since(self.at)
    }

    fn since(&self, then: Instant) -> Duration {
        self.clock.now().saturating_duration_since(then)
    }

    fn trace(&self, operators: &[OperatorSnapshot], acknowledged: Instant) -> CheckpointTrace {
        let traces =
            || operators.iter().flat_map(|operator| &operator.subtasks).map(|subtask| &subtask.trace);
        let held: u64 = operators.iter().flat_map(|operator| &operator.subtasks).map(held_bytes).sum();
        let retries = self.storage.as_ref().map_or(0, Storage::retries);
        CheckpointTrace {
            trigger_unix_ms: unix_ms(self.wall),
            duration_us: micros(self.elapsed()),
            commit_us: micros(self.since(acknowledged)),
            bytes: traces().map(|trace| trace.bytes_written).sum::<u64>() + held,
            full_bytes: traces().map(|trace| trace.full_bytes).sum::<u64>() + held,
            objects: traces().map(|trace| trace.objects).sum(),
            retries: retries.saturating_sub(self.retries),
        }
    }
}

/// How many bytes of a subtask the manifest itself holds: positions, committables, what was in flight,
/// and operator state.
fn held_bytes(subtask: &SubtaskSnapshot) -> u64 {
    let states = subtask.operator_state.iter().flat_map(|entry| &entry.elements);
    let held = subtask.positions.iter().chain(&subtask.committables).chain(&subtask.in_flight).map(Vec::len);
    held.chain(states.map(Vec::len)).map(|len| len as u64).sum()
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use strandline_checkpoint_protocol::{CheckpointKind, Millis, TaskId};
    use strandline_state_api::{ErrorKind, KeyGroupRange};

    use super::*;

    fn id(id: &str) -> OperatorId {
        OperatorId::new(id).unwrap()
    }

    /// The parts of tasks that each hold one subtask of these operators.
    fn parts(tasks: &[&[(&str, u32)]]) -> CommitParts<Vec<OperatorPart>> {
        let part = |(operator, subtask): &(&str, u32)| {
            let snapshot = SubtaskSnapshot::new(*subtask, KeyGroupRange::EMPTY);
            OperatorPart { operator: id(operator), snapshot }
        };
        let acks: BTreeMap<_, Vec<_>> = (0..)
            .zip(tasks)
            .map(|(task, parts)| (TaskId::new(task, 0), parts.iter().map(part).collect()))
            .collect();
        let (checkpoint, kind) = (CheckpointId(7), CheckpointKind::Api);
        CommitParts { checkpoint, kind, triggered_at: Millis(0), acks, finished: BTreeSet::new() }
    }

    fn manifest(tasks: &[&[(&str, u32)]]) -> Result<Manifest> {
        let operators = vec![(id("source"), 2), (id("count"), 1)];
        let layout =
            JobLayout { job: "job".into(), term: Term(3), restored_from: Some(CheckpointId(5)), operators };
        layout.manifest(parts(tasks), &CheckpointStart::now(None), Instant::now())
    }

    #[test]
    fn a_manifest_has_the_operators_in_their_order_and_all_subtasks() {
        let manifest = manifest(&[&[("source", 1), ("count", 0)], &[("source", 0)]]).unwrap();
        let found: Vec<_> = manifest
            .operators
            .iter()
            .flat_map(|of| {
                of.subtasks.iter().map(|subtask| (of.id.as_str(), of.parallelism, subtask.subtask))
            })
            .collect();
        assert_eq!(found, [("source", 2, 0), ("source", 2, 1), ("count", 1, 0)]);
        assert_eq!(
            (manifest.checkpoint, manifest.term, manifest.kind),
            (CheckpointId(7), Term(3), CheckpointKind::Api)
        );
        assert_eq!(manifest.restored_from, Some(CheckpointId(5)));
    }

    #[test]
    fn a_part_that_is_missing_or_too_much_is_refused() {
        let whole = [("source", 0), ("source", 1), ("count", 0)];
        for without in 0..whole.len() {
            let mut some = whole.to_vec();
            let (operator, _) = some.remove(without);
            let error = manifest(&[&some]).unwrap_err();
            assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Invalid, Some(operator)));
        }
        for more in [("source", 1), ("count", 1), ("other", 0)] {
            let error = manifest(&[&whole, &[more]]).unwrap_err();
            assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Invalid, Some(more.0)));
        }
    }
}
