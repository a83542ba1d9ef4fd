//! The events of a running job.

use std::fmt;
use std::time::Duration;

use strandline_checkpoint_protocol::{AbortReason, CheckpointKind, DeclineReason};
use strandline_state_api::schema::RestorePlan;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Timestamp};

use crate::report::CheckpointReport;
use crate::source::Extent;

/// Receives the events of a job, on the coordinating thread; must not block for long.
pub trait Observer: Send + Sync {
    /// Receives an event.
    fn event(&self, event: &JobEvent);
}

impl<F: Fn(&JobEvent) + Send + Sync> Observer for F {
    fn event(&self, event: &JobEvent) {
        self(event);
    }
}

/// An event of a job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JobEvent {
    /// All subtasks of an attempt run.
    Started {
        /// Which attempt, from 1.
        attempt: u32,
        /// The checkpoint that it started from; `None` for a new job.
        from: Option<CheckpointId>,
    },
    /// A newer checkpoint was there but could not be used.
    Skipped {
        /// That checkpoint.
        checkpoint: CheckpointId,
        /// What is wrong with it.
        reason: String,
    },
    /// What becomes of the operators and states of the checkpoint that is about to be restored, where that is
    /// not obvious: some are new, renamed, migrated, orphaned or refused.
    RestorePlanned {
        /// That checkpoint.
        checkpoint: CheckpointId,
        /// The plan; one that [refuses](RestorePlan::check) the start, too.
        plan: RestorePlan,
    },
    /// How far it is; about ten times a second.
    Progress(JobProgress),
    /// More records came to an operator behind its watermark; at most once a second for each operator. What
    /// becomes of them is the operator's choice.
    LateRecords {
        /// The operator.
        operator: String,
        /// How many in this run.
        records: u64,
    },
    /// A checkpoint is complete.
    CheckpointCompleted(CheckpointReport),
    /// A checkpoint will never be complete; the job goes on.
    CheckpointAborted(AbortedCheckpoint),
    /// The attempt failed; another one follows.
    Restarting {
        /// What failed.
        error: Error,
        /// The number of the restart, from 1.
        restart: u32,
        /// How long it waits before.
        delay: Duration,
    },
    /// Old checkpoints or unused files were removed, or could not be.
    Cleaned {
        /// Files that were removed.
        removed: u64,
        /// What went wrong, if anything; it is tried again after the next checkpoint.
        error: Option<Error>,
    },
}

/// A checkpoint that will never be complete. It displays as the reason, with the cause.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AbortedCheckpoint {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it was to be taken.
    pub kind: CheckpointKind,
    /// What ended it.
    pub reason: AbortReason,
    /// The subtask that [declined](AbortReason::Declined) it, or those that had not acknowledged it when it
    /// [expired](AbortReason::Expired).
    pub task: Option<String>,
    /// What failed, with its operator, subtask and file.
    pub cause: Option<Error>,
}

impl AbortedCheckpoint {
    /// Returns the abort as an error of the kind of its cause, which is the cause of the error, too.
    pub fn to_error(&self) -> Error {
        let why = self.why();
        let sentence = format!("the checkpoint was aborted: {why}");
        self.explain(sentence)
    }

    /// An error that follows from the abort.
    pub(crate) fn explain(&self, message: String) -> Error {
        let kind = self.cause.as_ref().map_or(ErrorKind::Unavailable, Error::kind);
        let mut error = Error::new(kind, message);
        if self.cause.as_ref().is_none_or(|cause| cause.context("checkpoint").is_none()) {
            error = error.with("checkpoint", self.checkpoint);
        }
        match &self.cause {
            Some(cause) => error.caused_by(cause.clone()),
            None => error,
        }
    }

    /// The reason without the cause. Names the subtask unless the cause does.
    pub(crate) fn why(&self) -> String {
        let why = match self.reason {
            AbortReason::Expired => match &self.task {
                Some(tasks) => {
                    return format!("it took longer than the timeout; no acknowledgement from {tasks}");
                }
                None => "it took longer than the timeout".to_owned(),
            },
            AbortReason::Declined(_, reason) => declined(reason).to_owned(),
            AbortReason::Subsumed(by) => format!("checkpoint {by} completed first"),
            AbortReason::CommitFailed => "it could not be committed".to_owned(),
            AbortReason::Suspended => "the job stopped or restarts".to_owned(),
            AbortReason::Ended => "the job ended".to_owned(),
        };
        let named = self.cause.as_ref().is_some_and(|cause| cause.context("operator").is_some());
        match &self.task {
            Some(task) if !named => format!("{task}: {why}"),
            _ => why,
        }
    }
}

impl fmt::Display for AbortedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why())?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

fn declined(reason: DeclineReason) -> &'static str {
    match reason {
        DeclineReason::SnapshotFailed => "the snapshot failed",
        DeclineReason::NotReady => "not ready",
        DeclineReason::Closing => "closing",
        DeclineReason::Superseded => "a newer checkpoint overtook it",
        DeclineReason::Cancelled => "it was cancelled upstream",
    }
}

/// How far a job is, since [`run`](crate::run) was called.
///
/// A restart takes what was read and what sinks took back to what it was at the checkpoint, so neither counts
/// anything twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Since the job started.
    pub elapsed: Duration,
    /// Records that sources read, each once.
    pub read: u64,
    /// Records that they read again after restarts.
    pub read_again: u64,
    /// How much of the input is read, added up over the subtasks; `None` where a source does not know it.
    pub input: Option<Extent>,
    /// The watermark of the slowest source, where sources have event times; those at their end do not count.
    pub watermark: Option<Timestamp>,
    /// Records that the first keyed operators took, or the sinks in a job without; what was done twice
    /// counted twice.
    pub done: u64,
    /// Records that sinks took.
    pub emitted: u64,
    /// Entries of keyed state now, as far as backends know.
    pub state_entries: u64,
}
