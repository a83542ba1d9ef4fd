//! What the coordinator machine wants done.

use std::time::{Instant, SystemTime};

use strandline_checkpoint_protocol::{
    AbortReason, Action, CheckpointKind, CommitResult, DeclineReason, FailReason, TaskId,
};
use strandline_checkpoint_storage::SweepReport;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{AttemptPhase, Driver, SWEEP_PAUSE, SWEEP_WAIT, TaskHandle};
use crate::barrier::Barrier;
use crate::event::JobEvent;
use crate::mailbox::Control;
use crate::report::Outcome;
use crate::run::commit::{CommitDone, Parts, Triggered};

impl Driver<'_, '_> {
    pub(super) fn act(&mut self, actions: Vec<Action<Parts>>) {
        for action in actions {
            match action {
                Action::Trigger { checkpoint, kind, .. } => self.trigger(checkpoint, kind),
                Action::Commit(permit) => {
                    let checkpoint = permit.checkpoint();
                    if let Some(triggered) = self.triggered.get(&checkpoint) {
                        self.committer.commit(permit, *triggered, &self.run.runtime);
                    }
                }
                Action::NotifyComplete { checkpoint, kind } => self.complete(checkpoint, kind),
                Action::NotifyAborted { checkpoint, reason, .. } => self.aborted(checkpoint, reason),
                Action::DropRequest { .. } => {}
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
        let (at, wall, retries) = (Instant::now(), SystemTime::now(), self.committer.retries());
        self.triggered.insert(checkpoint, Triggered { at, wall, kind, retries });
        let configured = self.run.config.checkpointing.as_ref().map(|config| config.kind);
        let stop = kind == CheckpointKind::Final;
        let barrier = Barrier { checkpoint, kind: snapshot_kind(kind, configured), stop, triggered: at };
        self.sources().for_each(|source| source.send(Control::Trigger(barrier)));
    }

    pub(super) fn commit_done(&mut self, mut done: CommitDone) {
        let (checkpoint, result) = (done.checkpoint, done.result);
        if let Some(error) = &done.error {
            tracing::warn!(%checkpoint, ?result, %error, "the commit did not go through at once");
            if result == CommitResult::Failed {
                self.declined.entry(checkpoint).or_insert_with(|| copy(error));
            }
        }
        if matches!(result, CommitResult::Unknown) {
            done.error = done.error.map(|error| {
                Error::new(ErrorKind::Unavailable, "it cannot be learned whether a checkpoint was committed")
                    .with("checkpoint", checkpoint)
                    .caused_by(error)
            });
        }
        self.committing = Some(done);
        let actions = self.coordinator.commit_result(self.now(), checkpoint, result);
        self.act(actions);
        self.committing = None;
    }

    fn complete(&mut self, checkpoint: CheckpointId, kind: CheckpointKind) {
        self.triggered.retain(|id, _| *id > checkpoint);
        self.declined.retain(|id, _| *id > checkpoint);
        let done = self.committing.take();
        let all_finished = done.as_ref().is_some_and(|done| done.all_finished);
        if let Some(done) = done {
            if self.committer.storage.is_some() {
                self.run.completed(done.report);
            }
            if let Err(error) = done.outputs {
                // The next attempt begins with it, and then commits.
                return self.fail(error.with("checkpoint", checkpoint));
            }
        }
        self.tasks.iter().for_each(|task| task.send(Control::Complete(checkpoint)));
        if kind == CheckpointKind::Final && self.phase == AttemptPhase::Running {
            self.phase =
                AttemptPhase::Finishing(if all_finished { Outcome::Finished } else { Outcome::Stopped });
            self.tasks.iter().for_each(|task| task.send(Control::Finish));
        }
        self.sweep(kind == CheckpointKind::Final);
    }

    fn aborted(&mut self, checkpoint: CheckpointId, reason: AbortReason) {
        self.tasks.iter().for_each(|task| task.send(Control::Aborted(checkpoint)));
        let kind = self.triggered.remove(&checkpoint).map(|triggered| triggered.kind);
        let cause = self.declined.remove(&checkpoint);
        let (task, mut why) = match reason {
            AbortReason::Expired => (None, "it took longer than the timeout".to_owned()),
            AbortReason::Declined(task, reason) => (Some(task), declined(reason).to_owned()),
            AbortReason::Subsumed(by) => (None, format!("checkpoint {by} completed first")),
            AbortReason::CommitFailed => (None, "it could not be committed".to_owned()),
            AbortReason::Suspended => (None, "the job stopped or restarts".to_owned()),
            AbortReason::Ended => (None, "the job ended".to_owned()),
        };
        if let Some(task) = task {
            why = format!("{}: {why}", self.task_name(task));
        }
        if let Some(error) = cause {
            why = format!("{why}: {error}");
        }
        self.run.aborted_checkpoints += 1;
        self.run.notify(&JobEvent::CheckpointAborted { checkpoint, reason: why });
        if kind == Some(CheckpointKind::Final)
            && self.phase == AttemptPhase::Running
            && self.failure.is_none()
        {
            // The sources have stopped: there is no way but to try again.
            self.final_requested = false;
        }
    }

    /// Remembers whom checkpoints wait for, in case they are about to expire.
    pub(super) fn note_missing(&mut self) {
        let pending: Vec<_> = self.coordinator.pending().collect();
        for checkpoint in pending {
            let missing: Vec<_> =
                self.coordinator.missing(checkpoint).take(5).map(|task| self.task_name(task)).collect();
            if !missing.is_empty() {
                let message = format!("no acknowledgement from {}", missing.join(", "));
                self.declined.insert(checkpoint, Error::new(ErrorKind::Unavailable, message));
            }
        }
    }

    fn job_failed(&mut self, reason: FailReason) -> Error {
        match reason {
            FailReason::TooManyFailures { failures, last, .. } => {
                let message = format!("{failures} checkpoints in a row failed");
                Error::new(ErrorKind::Unavailable, message).with("checkpoint", last)
            }
            FailReason::FinalDeclined(checkpoint) => {
                let message = "the final checkpoint could not be taken, so the job cannot end";
                Error::new(ErrorKind::Unavailable, message).with("checkpoint", checkpoint)
            }
            FailReason::CommitUnknown(checkpoint) => {
                let known = self.committing.take().and_then(|done| done.error);
                known.unwrap_or_else(|| {
                    let message = "it cannot be learned whether a checkpoint was committed";
                    Error::new(ErrorKind::Unavailable, message).with("checkpoint", checkpoint)
                })
            }
        }
    }

    fn task_name(&self, task: TaskId) -> String {
        let known = self.tasks.iter().find(|handle| handle.id == task);
        known.map_or_else(|| format!("{task:?}"), TaskHandle::name)
    }

    /// Starts a sweep, unless one was just now or is under way; then the `last` one follows it.
    fn sweep(&mut self, last: bool) {
        let due = last || self.sweeper.ended.is_none_or(|ended| ended.elapsed() >= SWEEP_PAUSE);
        let Some(storage) = self.committer.storage.clone() else { return };
        if self.sweeper.running() {
            self.sweeper.last_follows |= last;
            return;
        }
        if !due {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        self.sweeper.stop = Some(stop);
        let done = self.sweeper.done.clone();
        let sweep = async move {
            let ended = || Error::new(ErrorKind::Unavailable, "the job ended before the sweep did");
            tokio::select! {
                swept = storage.sweep() => swept,
                // Also when the driver that could stop it is gone.
                _ = stopped => Err(ended()),
            }
        };
        let sweeping = self.run.runtime.spawn(sweep);
        self.run.runtime.spawn(async move {
            let swept = sweeping.await.unwrap_or_else(|error| {
                Err(Error::new(ErrorKind::Unavailable, "the sweep was interrupted").caused_by(error))
            });
            // When the job has ended meanwhile, the driver has dropped its end.
            let _ = done.send(swept);
        });
    }

    /// Waits for the sweep under way and for the last one that follows it, and stops them if that takes too
    /// long: none must go on when the runtime is gone.
    pub(super) fn end_sweep(&mut self) {
        let deadline = Instant::now() + SWEEP_WAIT;
        while self.sweeper.running() {
            let mut swept = self.sweeper.results.recv_deadline(deadline);
            if swept.is_err() {
                self.sweeper.stop = None;
                self.sweeper.last_follows = false;
                swept = self.sweeper.results.recv_timeout(SWEEP_WAIT);
            }
            match swept {
                Ok(swept) => self.swept(swept),
                Err(_) => break,
            }
        }
    }

    pub(super) fn swept(&mut self, swept: Result<SweepReport>) {
        self.sweeper.stop = None;
        self.sweeper.ended = Some(Instant::now());
        let (removed, error) = match swept {
            Ok(report) => (report.deleted.len() as u64, None),
            Err(error) => (0, Some(error.to_string())),
        };
        if removed > 0 || error.is_some() {
            self.run.notify(&JobEvent::Cleaned { removed, error });
        }
        if std::mem::take(&mut self.sweeper.last_follows) {
            self.sweep(true);
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

/// Errors are not `Clone`: this one is for people.
fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

/// Returns which snapshots a checkpoint takes, in a job with this configuration.
fn snapshot_kind(kind: CheckpointKind, configured: Option<SnapshotKind>) -> SnapshotKind {
    match (kind, configured) {
        (CheckpointKind::Savepoint, _) => SnapshotKind::Savepoint,
        (_, None | Some(SnapshotKind::Incremental)) => SnapshotKind::Incremental,
        // Later checkpoints supersede it, so it is no savepoint.
        (_, Some(SnapshotKind::Full | SnapshotKind::Savepoint)) => SnapshotKind::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sweep counts as superseding older checkpoints is never a savepoint for the backend, and the
    /// other way round.
    #[test]
    fn savepoints_and_nothing_else_are_savepoints_of_backends() {
        let all = [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint];
        for configured in all.map(Some).into_iter().chain([None]) {
            for kind in [CheckpointKind::Periodic, CheckpointKind::Api, CheckpointKind::Operator] {
                assert_ne!(snapshot_kind(kind, configured), SnapshotKind::Savepoint);
            }
            assert_ne!(snapshot_kind(CheckpointKind::Final, configured), SnapshotKind::Savepoint);
            assert_eq!(snapshot_kind(CheckpointKind::Savepoint, configured), SnapshotKind::Savepoint);
        }
    }
}
