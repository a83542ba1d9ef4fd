//! How a commit ended, as a coordinator wants to know it.

use strandline_checkpoint_protocol::{CommitResult, CommitRight};
use strandline_state_api::{Error, ErrorKind, Result};

use super::commit::{CommitLog, Committed};
use super::record::CompletedCheckpoint;
use crate::Manifest;

/// How a commit ended. A [`Coordinator`](strandline_checkpoint_protocol::Coordinator) takes its
/// [`result`](Self::result): no error that a caller sees need be interpreted.
#[derive(Clone, Debug)]
#[must_use = "the coordinator waits for the result"]
pub enum CommitOutcome {
    /// The checkpoint exists, and its sinks may commit.
    Committed(Committed),
    /// The checkpoint does not exist, and never will.
    Failed(Error),
    /// The store answered no question about it any more. The checkpoint may exist: no sink may commit, and
    /// none may roll back. The job has to restart, which reads the log; or the next
    /// [`commit`](CommitLog::commit) finds out.
    Unknown(Error),
    /// A newer coordinator has taken over: stop. It notifies the sinks if the checkpoint exists.
    Fenced(Error),
}

impl CommitOutcome {
    /// Returns what the coordinator takes.
    pub fn result(&self) -> CommitResult {
        match self {
            Self::Committed(_) => CommitResult::Committed,
            Self::Failed(_) => CommitResult::Failed,
            Self::Unknown(_) => CommitResult::Unknown,
            Self::Fenced(_) => CommitResult::Fenced,
        }
    }

    /// Returns the checkpoint, or why it does not exist or may not.
    ///
    /// # Errors
    /// That of the outcome, which does not show whether the checkpoint may exist.
    pub fn into_result(self) -> Result<Committed> {
        match self {
            Self::Committed(committed) => Ok(committed),
            Self::Failed(error) | Self::Unknown(error) | Self::Fenced(error) => Err(error),
        }
    }
}

impl CommitLog {
    /// Writes the manifest and then claims the next slot of the log for it: the instant at which the
    /// checkpoint exists. All segments that it names must be stored before.
    ///
    /// The first manifest of a term shows by [`Manifest::restored_from`] from where the job goes on: whatever
    /// is newer than that is given up, and with `None` everything is. Given up means that no recovery falls
    /// back to it; what is no savepoint is not retained, either.
    ///
    /// Where the answer of the store gets lost, the log is read until it shows whether the checkpoint exists.
    /// [`Unknown`](CommitOutcome::Unknown) remains for a store that does not answer at all.
    ///
    /// The error of a [failed](CommitOutcome::Failed) commit has the kind [`ErrorKind::Invalid`] when the
    /// manifest is of another term, checkpoint or kind than the right, not newer than the last (unless it is
    /// a savepoint of this term), or too large, so that it can never be committed; [`ErrorKind::Corrupt`]
    /// when what this process wrote to the log was deleted; else [`ErrorKind::Unavailable`].
    pub async fn commit(&mut self, right: &CommitRight, manifest: &Manifest) -> CommitOutcome {
        let error = match self.try_commit(right, manifest).await {
            Ok(committed) => return CommitOutcome::Committed(committed),
            Err(error) if error.kind() == ErrorKind::Fenced => return CommitOutcome::Fenced(error),
            Err(error) => error,
        };
        if self.pending.is_none() && error.kind() == ErrorKind::Invalid {
            return CommitOutcome::Failed(error);
        }
        let checkpoint = manifest.checkpoint;
        let error = match error.context("checkpoint") {
            Some(_) => error,
            None => error.with("checkpoint", checkpoint),
        };
        // The check settles what was left open. Then nothing is under way, and the log shows what exists.
        let checked = self.check().await;
        if let Err(fenced) = checked.as_ref()
            && fenced.kind() == ErrorKind::Fenced
        {
            return CommitOutcome::Fenced(fenced.clone());
        }
        // The commit may be settled although the store failed after that.
        let is_read = checked.as_ref().map_or_else(|error| error.kind() == ErrorKind::Unavailable, |()| true);
        let retained = self.retained();
        let is_it =
            |known: &&CompletedCheckpoint| (known.term, known.checkpoint) == (self.term(), checkpoint);
        match (retained.iter().find(is_it).filter(|_| is_read).cloned(), checked) {
            (Some(completed), _) => {
                tracing::warn!(%checkpoint, %error, "a checkpoint was committed, and the answer was lost");
                CommitOutcome::Committed(Committed { completed, retained })
            }
            (None, Ok(())) => CommitOutcome::Failed(error),
            (None, Err(unsettled)) => {
                tracing::warn!(%checkpoint, error = %unsettled, "the outcome of a commit could not be read");
                CommitOutcome::Unknown(error)
            }
        }
    }
}
