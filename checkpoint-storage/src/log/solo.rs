//! Commits of a job of one task.

use strandline_checkpoint_protocol::CommitRight;
use strandline_state_api::Result;

use super::commit::{CommitLog, Committed};
use crate::Manifest;

impl CommitLog {
    /// Commits as [`commit`](Self::commit) does, for a job of one task, which is the caller: all files that
    /// `manifest` names must be stored, and there is nobody else to wait for.
    ///
    /// A job of several tasks takes the right to commit from a
    /// [`Coordinator`](strandline_checkpoint_protocol::Coordinator), which waits for all of them.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_alone(&mut self, manifest: &Manifest) -> Result<Committed> {
        self.commit(&CommitRight::of_sole_participant(manifest.checkpoint), manifest).await
    }
}
