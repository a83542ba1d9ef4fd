//! Commits of a job that is one loop.

use strandline_checkpoint_protocol::{
    Action, CheckpointKind, CommitRight, Coordinator, Millis, Policy, TaskId,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::commit::{CommitLog, Committed};
use crate::Manifest;

impl CommitLog {
    /// As [`commit`](Self::commit), for a job that is one loop in one thread: there is nobody else who has to acknowledge,
    /// so the loop's own snapshot is all there is to wait for.
    ///
    /// With several tasks, use a [`Coordinator`]: it gives the right to commit only when all of them have stored their
    /// part.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn commit_alone(&mut self, manifest: &Manifest) -> Result<Committed> {
        let right = right_of_one(manifest.checkpoint)?;
        self.commit(&right, manifest).await
    }
}

/// Has a coordinator take a checkpoint of one task that acknowledges at once.
fn right_of_one(checkpoint: CheckpointId) -> Result<CommitRight> {
    let (now, task) = (Millis(0), TaskId::new(0, 0));
    let mut coordinator = Coordinator::new(Policy::default(), checkpoint);
    coordinator.start(now, [task]);
    coordinator.request(now, CheckpointKind::Api);
    let (_, actions) = coordinator.ack(now, task, checkpoint, ());
    let permit = actions.into_iter().find_map(|action| match action {
        Action::Commit(permit) => Some(permit),
        _ => None,
    });
    let permit =
        permit.ok_or_else(|| Error::new(ErrorKind::Internal, "no permit for a checkpoint of one task"))?;
    Ok(permit.into_parts().0)
}
