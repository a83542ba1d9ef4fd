//! The events of a running job.

use std::time::Duration;

use strandline_state_api::CheckpointId;
use strandline_state_api::schema::RestorePlan;

use crate::report::CheckpointReport;

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
    /// A checkpoint is complete.
    CheckpointCompleted(CheckpointReport),
    /// A checkpoint will never be complete; the job goes on.
    CheckpointAborted {
        /// That checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
    },
    /// The attempt failed; another one follows.
    Restarting {
        /// What failed.
        error: String,
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
        error: Option<String>,
    },
}

/// How far a job is. Counts are of all attempts since [`run`](crate::run) was called, what was done twice
/// counted twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Since the job started.
    pub elapsed: Duration,
    /// Records that sources read.
    pub read: u64,
    /// Records that the first keyed operators took, or the sinks in a job without.
    pub done: u64,
    /// Records that sinks took.
    pub emitted: u64,
    /// Entries of keyed state now, as far as backends know.
    pub state_entries: u64,
}
