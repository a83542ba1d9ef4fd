//! Checkpoints that are aborted, and the failures of the job that follow.

use std::sync::Arc;

use strandline_checkpoint_protocol::{AbortReason, CheckpointKind, FailReason};
use strandline_state_api::{AbortNotice, CheckpointId, Error, ErrorKind};

use super::{AttemptPhase, Driver};
use crate::event::{AbortedCheckpoint, JobEvent};
use crate::mailbox::Control;

/// How many of the subtasks that are missing an error names.
const NAMED: usize = 5;

impl Driver<'_, '_> {
    pub(super) fn aborted(&mut self, checkpoint: CheckpointId, kind: CheckpointKind, reason: AbortReason) {
        self.triggered.remove(&checkpoint);
        let late = self.late.remove(&checkpoint);
        let task = match reason {
            AbortReason::Declined(task, _) => Some(self.task_name(task)),
            AbortReason::Expired => late,
            _ => None,
        };
        let aborted =
            AbortedCheckpoint { checkpoint, kind, reason, task, cause: self.causes.remove(&checkpoint) };
        let error = aborted.to_error();
        let notice = Arc::new(AbortNotice::new(checkpoint, kind, error.clone()));
        self.tasks.iter().for_each(|task| task.send(Control::Aborted(Arc::clone(&notice))));
        self.run.aborted_checkpoints += 1;
        self.run.notify(&JobEvent::CheckpointAborted(aborted.clone()));
        self.requests.ended(checkpoint, Err(error));
        // The others end with the job, or with one that completed: they are no reason for it to fail.
        if matches!(reason, AbortReason::Declined(..) | AbortReason::Expired | AbortReason::CommitFailed) {
            self.last_aborted = Some(aborted);
        }
        if kind == CheckpointKind::Final && self.phase == AttemptPhase::Running && self.failure.is_none() {
            // The sources have stopped: there is no way but to try again.
            self.final_requested = false;
        }
    }

    /// Remembers whom checkpoints wait for, in case they are about to expire.
    pub(super) fn note_missing(&mut self) {
        let pending: Vec<_> = self.coordinator.pending().collect();
        self.late.clear();
        for checkpoint in pending {
            let missing: Vec<_> = self.coordinator.missing(checkpoint).collect();
            if missing.is_empty() {
                continue;
            }
            let mut names: Vec<_> = missing.iter().take(NAMED).map(|task| self.task_name(*task)).collect();
            if missing.len() > NAMED {
                names.push(format!("{} more", missing.len() - NAMED));
            }
            self.late.insert(checkpoint, names.join(", "));
        }
    }

    /// Why the job fails, with the error that made its last checkpoint fail as the cause.
    pub(super) fn job_failed(&mut self, reason: FailReason) -> Error {
        let (checkpoint, message) = match reason {
            FailReason::TooManyFailures { failures: 1, last, .. } => (last, "a checkpoint failed".to_owned()),
            FailReason::TooManyFailures { failures, last, .. } => {
                (last, format!("{failures} checkpoints in a row failed, the last"))
            }
            FailReason::FinalDeclined(checkpoint) => {
                (checkpoint, "the final checkpoint could not be taken, so the job cannot end".to_owned())
            }
            FailReason::CommitUnknown(checkpoint) => return self.commit_unknown(checkpoint),
        };
        match &self.last_aborted {
            Some(last) if last.checkpoint == checkpoint => last.explain(format!("{message}: {}", last.why())),
            _ => Error::new(ErrorKind::Unavailable, message).with("checkpoint", checkpoint),
        }
    }

    fn commit_unknown(&mut self, checkpoint: CheckpointId) -> Error {
        let message = "it cannot be learned whether a checkpoint was committed";
        let error = Error::new(ErrorKind::Unavailable, message).with("checkpoint", checkpoint);
        match self.committing.take().and_then(|done| done.error) {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}
