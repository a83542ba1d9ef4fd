//! The right to commit a checkpoint, as a value.

use std::collections::{BTreeMap, BTreeSet};

use strandline_state_api::CheckpointId;

use super::CheckpointKind;
use crate::{Millis, TaskId};

/// The right to write the manifest of a checkpoint and to claim its slot of the commit log.
///
/// Only a [`Coordinator`](super::Coordinator) makes one, and only when every task has acknowledged (or had
/// finished before the barrier). It is `Clone` because every machine of this crate is plain data that a model
/// checker may branch; a driver uses it once. [`LogClient`](crate::LogClient) refuses a second entry for the
/// same checkpoint all the same.
#[must_use = "a checkpoint whose permit is dropped stays pending for ever: report a commit result"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitPermit<S> {
    pub(super) checkpoint: CheckpointId,
    pub(super) kind: CheckpointKind,
    pub(super) triggered_at: Millis,
    pub(super) acks: BTreeMap<TaskId, S>,
    pub(super) finished: BTreeSet<TaskId>,
    pub(super) open_savepoint: Option<CheckpointId>,
}

impl<S> CommitPermit<S> {
    /// The checkpoint that may be committed.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Takes it apart: the right goes to [`LogClient::commit`](crate::LogClient::commit), the parts into the
    /// manifest.
    pub fn into_parts(self) -> (CommitRight, CommitParts<S>) {
        let Self { checkpoint, kind, triggered_at, acks, finished, open_savepoint } = self;
        let right = CommitRight { checkpoint, kind, open_savepoint };
        (right, CommitParts { checkpoint, kind, triggered_at, acks, finished })
    }
}

/// What remains of a [`CommitPermit`] once its parts are in a manifest: the right to claim the log slot. A
/// job of one task makes it [itself](Self::of_sole_participant).
#[must_use = "the checkpoint does not exist before its log entry does"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitRight {
    checkpoint: CheckpointId,
    kind: CheckpointKind,
    open_savepoint: Option<CheckpointId>,
}

impl CommitRight {
    /// The right of a participant that is alone: a checkpoint of a job whose only task is the caller itself.
    ///
    /// A coordinator exists to wait for every task. Where there is one task, and that task commits, it waits
    /// for itself: it must call this after all files that the manifest names are stored. Nobody checks that.
    /// A job of several tasks takes its rights from a [`Coordinator`](super::Coordinator), or its checkpoints
    /// may lack the state of some.
    pub fn of_sole_participant(checkpoint: CheckpointId, kind: CheckpointKind) -> Self {
        Self { checkpoint, kind, open_savepoint: None }
    }

    /// The same right of a participant that is alone and still stores a savepoint that is older than its
    /// newest checkpoint, this one or one before it, and will follow: a sweep then leaves the files of that
    /// one. With several, `oldest` is the oldest.
    #[must_use = "the files of the savepoint stay only with this right"]
    pub fn beside_savepoint(self, oldest: CheckpointId) -> Self {
        Self { open_savepoint: Some(oldest), ..self }
    }

    /// The checkpoint that may be committed.
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Why it was taken.
    pub fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// The oldest savepoint that was under way when the right was handed out, and is older.
    pub fn open_savepoint(&self) -> Option<CheckpointId> {
        self.open_savepoint
    }
}

/// What a manifest is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitParts<S> {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered_at: Millis,
    /// What each task acknowledged with.
    pub acks: BTreeMap<TaskId, S>,
    /// Tasks that had ended before the barrier and so have no state in it; everything they emitted is before
    /// the barrier. A restore must not run them again.
    pub finished: BTreeSet<TaskId>,
}

impl<S> CommitParts<S> {
    /// Changes what each task acknowledged with.
    pub fn map<T>(self, mut change: impl FnMut(S) -> T) -> CommitParts<T> {
        let Self { checkpoint, kind, triggered_at, acks, finished } = self;
        let acks = acks.into_iter().map(|(task, state)| (task, change(state))).collect();
        CommitParts { checkpoint, kind, triggered_at, acks, finished }
    }
}
