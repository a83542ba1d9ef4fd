//! What goes in and out of a coordinator besides requests.

use strandline_state_api::CheckpointId;

use super::{CheckpointKind, CommitPermit, Refusal, RequestId};
use crate::TaskId;

/// What the driver of a [`Coordinator`](super::Coordinator) has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action<S> {
    /// Inject the barrier of `checkpoint` at the sources: at every running task that has no running
    /// predecessor.
    Trigger {
        /// The new checkpoint.
        checkpoint: CheckpointId,
        /// Why it is taken.
        kind: CheckpointKind,
        /// The request that it answers; `None` for a periodic one.
        request: Option<RequestId>,
    },
    /// Write the manifest, then claim the log slot, then report with
    /// [`commit_result`](super::Coordinator::commit_result). There is never more than one of these open.
    Commit(CommitPermit<S>),
    /// Tell all tasks that the checkpoint is complete: two-phase sinks commit now. Best effort; may be lost.
    ///
    /// A savepoint that completes late is not the latest: what it covers was committed with a newer one.
    NotifyComplete {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it was taken.
        kind: CheckpointKind,
    },
    /// Tell all tasks that the checkpoint will never complete. Best effort; may be lost.
    NotifyAborted {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it was to be taken.
        kind: CheckpointKind,
        /// Why it was aborted.
        reason: AbortReason,
        /// The latest one that did complete here, for tasks that missed that notification.
        latest_completed: Option<CheckpointId>,
    },
    /// A queued request is not going to be served.
    DropRequest {
        /// The request.
        request: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// Fail the job (and let its restart strategy decide). The coordinator has suspended itself.
    FailJob {
        /// Why.
        reason: FailReason,
    },
    /// Stop everything without committing anything: a newer coordinator has taken over.
    Fenced,
}

/// Why a checkpoint was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbortReason {
    /// Not all tasks acknowledged in time. Counts as a failure.
    Expired,
    /// A task could not take part; whether it counts as a failure depends on its reason.
    Declined(TaskId, DeclineReason),
    /// A newer one completed first.
    Subsumed(CheckpointId),
    /// The manifest or the log entry could not be written, and it is sure that the entry does not exist.
    /// Counts as a failure, except for a savepoint.
    CommitFailed,
    /// The job was suspended: it stops, restarts or failed.
    Suspended,
    /// The final checkpoint of the job completed.
    Ended,
}

/// Why a task declines a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeclineReason {
    /// Taking or uploading the snapshot failed. The only reason that counts as a failure.
    SnapshotFailed,
    /// The task is not yet ready to take one.
    NotReady,
    /// The task is closing.
    Closing,
    /// The barrier of a newer checkpoint overtook it: see [`Alignment`](crate::Alignment).
    Superseded,
    /// A cancellation marker came instead of the barrier.
    Cancelled,
}

/// Why the job must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailReason {
    /// More checkpoints in a row failed than the policy tolerates.
    TooManyFailures {
        /// How many.
        failures: u32,
        /// The last of them.
        last: CheckpointId,
        /// Why the last one failed.
        reason: AbortReason,
    },
    /// A task declined the final checkpoint, so the job cannot stop gracefully: its sources have already
    /// stopped.
    FinalDeclined(CheckpointId),
    /// It cannot be learned whether the checkpoint was committed. Its tasks may be notified neither that it
    /// is complete nor that it is aborted; only a restart, which reads the log, finds out.
    CommitUnknown(CheckpointId),
}

/// What an acknowledgement did.
///
/// No outcome allows files that the acknowledgement names to be deleted: a late one may be the repetition of
/// one that is part of a completed checkpoint. What nothing refers to is found by the sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum AckOutcome {
    /// It counts; so many tasks are still missing.
    Accepted {
        /// Tasks that have neither acknowledged nor finished.
        missing: usize,
    },
    /// It was the last: the checkpoint is being committed, or waits for another commit.
    Completed,
    /// This task's part was known already. Its first state is kept.
    Duplicate,
    /// The checkpoint has ended, one way or the other, or belongs to an earlier coordinator.
    Late,
    /// No such checkpoint was ever triggered here, or the task (in this attempt) has no part in it.
    Unknown,
}

/// What a decline did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum DeclineOutcome {
    /// The checkpoint is aborted.
    Aborted,
    /// The task had acknowledged before, or the checkpoint has ended.
    Late,
    /// No such checkpoint was ever triggered here, or the task (in this attempt) has no part in it.
    Unknown,
}

/// How a commit ended. Say [`Failed`](Self::Failed) only when it is sure that the log entry does not and
/// never will exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitResult {
    /// The log entry exists: the checkpoint is complete.
    Committed,
    /// The manifest could not be written, or the log entry certainly does not exist.
    Failed,
    /// The log could not be asked any more. The job has to fail and read the log again.
    Unknown,
    /// A newer coordinator has taken over.
    Fenced,
}
