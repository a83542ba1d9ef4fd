//! One checkpoint that is under way.

use std::collections::{BTreeMap, BTreeSet};

use strandline_state_api::CheckpointId;

use super::{CheckpointKind, CommitPermit};
use crate::{Millis, TaskId};

/// A checkpoint between its trigger and its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending<S> {
    pub(super) kind: CheckpointKind,
    pub(super) triggered_at: Millis,
    pub(super) stage: Stage<S>,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage<S> {
    /// Some tasks have not acknowledged.
    Collecting { deadline: Millis, waiting: BTreeSet<TaskId>, parts: Parts<S> },
    /// All have; another commit is under way.
    Ready(Parts<S>),
    /// The permit is out. From here on it may exist, so nothing but the commit's result can end it.
    Committing,
}

/// What has been collected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Parts<S> {
    pub(super) acks: BTreeMap<TaskId, S>,
    pub(super) finished: BTreeSet<TaskId>,
}

impl<S> Pending<S> {
    pub(super) fn is_committing(&self) -> bool {
        matches!(self.stage, Stage::Committing)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// When it expires; only while tasks are missing.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match &self.stage {
            Stage::Collecting { deadline, .. } => Some(*deadline),
            Stage::Ready(_) | Stage::Committing => None,
        }
    }

    /// Moves from collecting to ready if nobody is missing any more.
    pub(super) fn settle(&mut self) -> bool {
        match &mut self.stage {
            Stage::Collecting { waiting, parts, .. } if waiting.is_empty() => {
                let parts = Parts {
                    acks: std::mem::take(&mut parts.acks),
                    finished: std::mem::take(&mut parts.finished),
                };
                self.stage = Stage::Ready(parts);
                true
            }
            _ => false,
        }
    }

    /// A task has ended; the last barrier that it emitted or snapshotted at is `last_barrier`.
    pub(super) fn finish(&mut self, id: CheckpointId, task: TaskId, last_barrier: Option<CheckpointId>) {
        if let Stage::Collecting { waiting, parts, .. } = &mut self.stage {
            // A task that passed this barrier before it ended has a state in the checkpoint, and an
            // acknowledgement of it under way. To count it as finished would lose what it emitted between the
            // barrier and its end.
            let passed = last_barrier.is_some_and(|last| last >= id);
            if !passed && waiting.remove(&task) {
                parts.finished.insert(task);
            }
        }
    }

    /// Hands out the permit if it is ready; `open_savepoint` is the oldest savepoint before it.
    pub(super) fn permit(
        &mut self,
        checkpoint: CheckpointId,
        open_savepoint: Option<CheckpointId>,
    ) -> Option<CommitPermit<S>> {
        match std::mem::replace(&mut self.stage, Stage::Committing) {
            Stage::Ready(Parts { acks, finished }) => Some(CommitPermit {
                checkpoint,
                kind: self.kind,
                triggered_at: self.triggered_at,
                acks,
                finished,
                open_savepoint,
            }),
            other => {
                self.stage = other;
                None
            }
        }
    }
}
