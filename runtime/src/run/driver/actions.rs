//! What the coordinator machine wants done.

use std::sync::Arc;

use strandline_checkpoint_protocol::{Action, CheckpointKind, CommitResult, TaskId};
use strandline_checkpoint_storage::CheckpointStart;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind};

use super::{AttemptPhase, Driver, TaskHandle};
use crate::barrier::Barrier;
use crate::mailbox::Control;
use crate::report::Outcome;
use crate::run::commit::{CommitDone, Parts, Triggered};

impl Driver<'_, '_> {
    pub(super) fn act(&mut self, actions: Vec<Action<Parts>>) {
        for action in actions {
            match action {
                Action::Trigger { checkpoint, kind, request } => {
                    self.requests.triggered(request, checkpoint);
                    self.trigger(checkpoint, kind);
                }
                Action::Commit(permit) => {
                    let checkpoint = permit.checkpoint();
                    if let Some(triggered) = self.triggered.get(&checkpoint) {
                        self.committer.commit(permit, triggered.clone(), &self.run.threads);
                    }
                }
                Action::NotifyComplete { checkpoint, kind } => self.complete(checkpoint, kind),
                Action::NotifyAborted { checkpoint, kind, reason, .. } => {
                    self.aborted(checkpoint, kind, reason);
                }
                Action::DropRequest { request, reason } => self.requests.dropped(request, reason),
                Action::FailJob { reason } => {
                    let error = self.job_failed(reason);
                    self.fail(error);
                }
                Action::Fenced => {
                    let done = self.committing.take().and_then(|done| done.error);
                    self.fail(done.unwrap_or_else(|| {
                        Error::new(ErrorKind::Fenced, "a newer coordinator has taken over this storage")
                    }));
                }
            }
        }
    }

    fn trigger(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) {
        let at = self.run.threads.now();
        let clock = Arc::new(self.run.threads.clone());
        let start = CheckpointStart::now_by(clock, self.committer.storage.as_ref());
        self.triggered.insert(checkpoint, Triggered { start, kind });
        let configured = self.run.config.checkpointing.as_ref().map(|config| config.kind);
        let stop = kind == CheckpointKind::Final;
        let overtake = self.run.config.unaligned().after(kind).map(|after| at + after);
        let kind = snapshot_kind(kind, configured);
        self.inject(&Barrier { checkpoint, kind, stop, triggered: at, overtake, live: None });
    }

    /// Lets the sources send a barrier.
    pub(super) fn inject(&self, barrier: &Barrier) {
        for source in self.sources() {
            source.send(Control::Trigger(barrier.clone()));
            if barrier.overtake.is_some() {
                // It may wait for room in a channel; the barrier enters that behind what the source holds.
                source.urgency.raise(barrier.triggered);
            }
        }
    }

    pub(super) fn commit_done(&mut self, done: CommitDone) {
        let (checkpoint, result) = (done.checkpoint, done.result);
        self.committer.answered();
        if let Some(error) = &done.error {
            tracing::warn!(%checkpoint, ?result, %error, "the commit did not go through at once");
            if result == CommitResult::Failed {
                self.causes.entry(checkpoint).or_insert_with(|| error.clone());
            }
        }
        self.committing = Some(done);
        let actions = self.coordinator.commit_result(self.now(), checkpoint, result);
        self.act(actions);
        self.committing = None;
    }

    fn complete(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) {
        self.triggered.remove(&checkpoint);
        self.causes.remove(&checkpoint);
        let done = self.committing.take();
        let all_finished = done.as_ref().is_some_and(|done| done.all_finished);
        if let Some(done) = done {
            self.requests.ended(checkpoint, Ok(done.report.clone()));
            if self.committer.storage.is_some() {
                self.run.completed(done.report);
            }
            if let Err(error) = done.outputs {
                // The next attempt begins with it, and then commits.
                return self.fail(error.with("checkpoint", checkpoint));
            }
        }
        // Of one that comes late, everything was committed with a newer one.
        if self.coordinator.latest_completed() == Some(checkpoint) {
            self.tasks.iter().for_each(|task| task.send(Control::Complete(checkpoint)));
        }
        if kind == CheckpointKind::Final && self.phase == AttemptPhase::Running {
            self.end_live();
            self.phase =
                AttemptPhase::Finishing(if all_finished { Outcome::Finished } else { Outcome::Stopped });
            self.tasks.iter().for_each(|task| task.send(Control::Finish));
        }
        self.sweep(kind == CheckpointKind::Final);
    }

    pub(super) fn task_name(&self, task: TaskId) -> String {
        let known = self.tasks.iter().find(|handle| handle.id == task);
        known.map_or_else(|| format!("{task:?}"), TaskHandle::name)
    }
}

/// Returns which snapshots a checkpoint takes, in a job with this configuration.
fn snapshot_kind(kind: CheckpointKind, configured: Option<SnapshotKind>) -> SnapshotKind {
    match (kind, configured) {
        (CheckpointKind::Savepoint, _) => SnapshotKind::Savepoint,
        (_, None | Some(SnapshotKind::Incremental)) => SnapshotKind::Incremental,
        // Later checkpoints supersede it, so it is no savepoint.
        (_, Some(SnapshotKind::Full | SnapshotKind::Savepoint | SnapshotKind::View)) => SnapshotKind::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sweep counts as superseding older checkpoints is never a savepoint for the backend, and the
    /// other way round.
    #[test]
    fn savepoints_and_nothing_else_are_savepoints_of_backends() {
        let all =
            [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint, SnapshotKind::View];
        for configured in all.map(Some).into_iter().chain([None]) {
            for kind in [CheckpointKind::Periodic, CheckpointKind::Api, CheckpointKind::Operator] {
                let taken = snapshot_kind(kind, configured);
                assert!(!matches!(taken, SnapshotKind::Savepoint | SnapshotKind::View));
            }
            assert_ne!(snapshot_kind(CheckpointKind::Final, configured), SnapshotKind::Savepoint);
            assert_eq!(snapshot_kind(CheckpointKind::Savepoint, configured), SnapshotKind::Savepoint);
        }
    }
}
