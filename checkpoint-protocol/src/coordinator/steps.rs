//! What a coordinator does by itself once an input has been taken in: start, commit, abort, fail.

use std::collections::BTreeSet;

use strandline_state_api::CheckpointId;

use super::{
    AbortReason, AckOutcome, Action, CheckpointKind, Coordinator, DeclineReason, FailReason, Life, Parts,
    Pending, Phase, Refusal, RequestId, Stage,
};
use crate::{Millis, TaskId};

impl<S> Coordinator<S> {
    /// Hands out the next permit and starts what may start. Every input ends here.
    pub(super) fn proceed(&mut self, now: Millis, actions: &mut Vec<Action<S>>) {
        loop {
            for pending in self.pending.values_mut() {
                pending.settle();
            }
            actions.extend(self.next_permit().map(Action::Commit));
            let Some((kind, request)) = self.startable(now) else { return };
            match request {
                Some(id) => self.queue.remove(id),
                None => self.advance_schedule(now),
            }
            self.trigger(now, kind, request, actions);
        }
    }

    /// The permit of the oldest ready checkpoint, unless a commit is under way. It waits for nothing else: a
    /// savepoint that takes longer follows, late.
    fn next_permit(&mut self) -> Option<super::CommitPermit<S>> {
        if self.phase == Phase::Fenced || self.commit_in_flight().is_some() {
            return None;
        }
        let is_savepoint = |pending: &Pending<S>| pending.kind == CheckpointKind::Savepoint;
        let open = self.pending.iter().find(|(_, pending)| is_savepoint(pending)).map(|(id, _)| *id);
        let (id, first) = self.pending.iter_mut().find(|(_, pending)| pending.is_ready())?;
        first.permit(*id, open.filter(|open| open < id))
    }

    /// What may start now: the first of the queue that can, else a periodic one that is due. Whoever waits
    /// behind a savepoint overtakes those that wait for it.
    fn startable(&self, now: Millis) -> Option<(CheckpointKind, Option<RequestId>)> {
        if self.refusal().is_some() || self.is_ending() {
            return None;
        }
        let is_free = |kind: CheckpointKind| match kind.is_forced() {
            true => self.pending.values().all(|pending| pending.kind != kind),
            false => self.has_place(),
        };
        if let Some(first) = self.queue.find(is_free) {
            return Some((first.kind, Some(first.id)));
        }
        let due = self.has_room() && self.periodic_start().is_some_and(|start| start <= now);
        due.then_some((CheckpointKind::Periodic, None))
    }

    /// Whether a periodic checkpoint could start if its time had come.
    pub(super) fn has_room(&self) -> bool {
        let is_ordinary = |kind: CheckpointKind| !kind.is_forced();
        self.refusal().is_none()
            && !self.is_ending()
            && self.queue.find(is_ordinary).is_none()
            && self.has_place()
    }

    /// Whether fewer ordinary checkpoints are under way than may be.
    fn has_place(&self) -> bool {
        let ordinary = self.pending.values().filter(|pending| !pending.kind.is_forced());
        ordinary.count() < self.policy.concurrency()
    }

    /// When the next periodic checkpoint may start at the earliest.
    pub(super) fn periodic_start(&self) -> Option<Millis> {
        if self.held {
            return None;
        }
        let pause_over = self.last_end.map(|end| end.after(self.policy.min_pause));
        self.next_periodic.map(|due| pause_over.map_or(due, |over| due.max(over)))
    }

    /// Sets the next periodic checkpoint to the next multiple of the interval that lies in the future; those
    /// that were missed are not made up for.
    fn advance_schedule(&mut self, now: Millis) {
        if let (Some(due), Some(period)) = (self.next_periodic, self.policy.period(self.backlog)) {
            self.last_periodic = now;
            let missed = now.since(due).as_millis() / period.as_millis().max(1);
            let skip = period.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1));
            self.next_periodic = Some(due.after(skip).max(Millis(now.0.saturating_add(1))));
        }
    }

    fn trigger(
        &mut self,
        now: Millis,
        kind: CheckpointKind,
        request: Option<RequestId>,
        actions: &mut Vec<Action<S>>,
    ) {
        let checkpoint = self.next_id;
        self.next_id = checkpoint.next();
        let parts = Parts { acks: Default::default(), finished: BTreeSet::new() };
        let waiting = self.tasks.keys().copied().collect();
        let deadline = now.after(self.policy.timeout);
        let mut pending =
            Pending { kind, triggered_at: now, stage: Stage::Collecting { deadline, waiting, parts } };
        for (task, life) in &self.tasks {
            if let Life::Finished { last_barrier } = *life {
                pending.finish(checkpoint, *task, last_barrier);
            }
        }
        self.pending.insert(checkpoint, pending);
        actions.push(Action::Trigger { checkpoint, kind, request });
    }

    /// The log entry of `id` exists.
    pub(super) fn completed(&mut self, now: Millis, id: CheckpointId, actions: &mut Vec<Action<S>>) {
        let Some(done) = self.pending.remove(&id) else { return };
        self.latest_completed = self.latest_completed.max(Some(id));
        self.last_end = Some(now);
        self.failures = 0;
        actions.push(Action::NotifyComplete { checkpoint: id, kind: done.kind });
        let subsumed = self.pending.range(..id).filter(|(_, older)| !older.kind.is_forced());
        let subsumed: Vec<_> = subsumed.map(|(older, _)| *older).collect();
        for older in subsumed {
            self.abort(now, older, AbortReason::Subsumed(id), actions);
        }
        if done.kind == CheckpointKind::Final && self.phase == Phase::Running {
            self.leave(now, Phase::Ended, AbortReason::Ended, Refusal::Ended, actions);
        }
    }

    /// Ends a checkpoint without completing it, and counts the failure if it is one.
    pub(super) fn abort(
        &mut self,
        now: Millis,
        id: CheckpointId,
        reason: AbortReason,
        actions: &mut Vec<Action<S>>,
    ) {
        let Some(ended) = self.pending.remove(&id) else { return };
        self.last_end = Some(now);
        actions.push(Action::NotifyAborted {
            checkpoint: id,
            kind: ended.kind,
            reason,
            latest_completed: self.latest_completed,
        });
        if self.phase != Phase::Running {
            return;
        }
        if ended.kind == CheckpointKind::Final && matches!(reason, AbortReason::Declined(..)) {
            return self.fail(now, FailReason::FinalDeclined(id), actions);
        }
        if counts(ended.kind, reason) {
            self.failures = self.failures.saturating_add(1);
            let tolerable = self.policy.tolerable_failures;
            if tolerable != u32::MAX && self.failures > tolerable {
                let failures = self.failures;
                self.fail(now, FailReason::TooManyFailures { failures, last: id, reason }, actions);
            }
        }
    }

    /// Asks for the job to fail and suspends itself, so that nothing starts in the meantime.
    pub(super) fn fail(&mut self, now: Millis, reason: FailReason, actions: &mut Vec<Action<S>>) {
        if self.phase == Phase::Running {
            self.leave(now, Phase::Idle, AbortReason::Suspended, Refusal::NotRunning, actions);
            actions.push(Action::FailJob { reason });
        }
    }

    /// Leaves the running phase: everything but a commit under way ends.
    pub(super) fn leave(
        &mut self,
        now: Millis,
        phase: Phase,
        abort: AbortReason,
        refusal: Refusal,
        actions: &mut Vec<Action<S>>,
    ) {
        self.phase = phase;
        self.next_periodic = None;
        let open: Vec<_> =
            self.pending.iter().filter(|(_, p)| !p.is_committing()).map(|(id, _)| *id).collect();
        for id in open {
            self.abort(now, id, abort, actions);
        }
        self.drop_queue(refusal, actions);
    }

    pub(super) fn drop_queue(&mut self, reason: Refusal, actions: &mut Vec<Action<S>>) {
        actions.extend(
            self.queue.drain().into_iter().map(|request| Action::DropRequest { request: request.id, reason }),
        );
    }

    /// Why nothing can start, if so.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Idle => Some(Refusal::NotRunning),
            Phase::Ended => Some(Refusal::Ended),
            Phase::Fenced => Some(Refusal::Fenced),
            Phase::Running if self.tasks.values().all(|life| *life != Life::Running) => Some(Refusal::Ended),
            Phase::Running => None,
        }
    }

    /// Behind a final checkpoint nothing starts.
    fn is_ending(&self) -> bool {
        self.pending.values().any(|pending| pending.kind == CheckpointKind::Final)
    }
}

impl<S> Parts<S> {
    /// What an acknowledgement is worth that no one waits for.
    pub(super) fn repeated(&self, task: TaskId) -> AckOutcome {
        let known = self.acks.contains_key(&task) || self.finished.contains(&task);
        if known { AckOutcome::Duplicate } else { AckOutcome::Unknown }
    }
}

/// Which ends are failures (Flink: `CheckpointFailureManager`). What the coordinator itself did to a
/// savepoint never fails the job; what a task did, may.
fn counts(kind: CheckpointKind, reason: AbortReason) -> bool {
    match reason {
        AbortReason::Declined(_, reason) => reason == DeclineReason::SnapshotFailed,
        AbortReason::Expired | AbortReason::CommitFailed => kind != CheckpointKind::Savepoint,
        AbortReason::Subsumed(_) | AbortReason::Suspended | AbortReason::Ended => false,
    }
}
