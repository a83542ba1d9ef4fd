//! Commits of a job of one task.

use strandline_checkpoint_protocol::CommitRight;
#[cfg(doc)]
use strandline_state_api::ErrorKind;
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
    /// [`ErrorKind::Fenced`] when a newer coordinator has taken over: stop. [`ErrorKind::Invalid`] when the
    /// manifest can never be committed, see [`commit`](Self::commit). [`ErrorKind::Unavailable`] when the
    /// store fails: call again with the same manifest, or with that of the next checkpoint, to find out
    /// whether the checkpoint exists, where that is open.
    pub async fn commit_alone(&mut self, manifest: &Manifest) -> Result<Committed> {
        let right = CommitRight::of_sole_participant(manifest.checkpoint, manifest.kind);
        self.commit(&right, manifest).await.into_result()
    }
}
