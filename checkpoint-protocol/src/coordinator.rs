//! The checkpoint coordinator: decides when a checkpoint starts, who is still missing, and when it may be
//! committed.
//!
//! The life of one checkpoint (Flink: `CheckpointCoordinator`, `PendingCheckpoint`):
//!
//! ```text
//! request, tick ──> Trigger ──> collecting ──all acknowledged──> ready ──its turn──> committing ──> NotifyComplete
//!                                   │ expired, declined,            │ suspended           │ failed
//!                                   │ subsumed, suspended           │ or subsumed         │
//!                                   └───────────────────────────────┴─────────────────────┴──> NotifyAborted
//! ```
//!
//! Three rules keep the storage and the notifications of tasks in step:
//!
//! * **One commit at a time, the oldest that is ready first.** A ready checkpoint waits for the commit under
//!   way and for nothing else; older ordinary ones are subsumed when it completes. So ordinary checkpoints
//!   complete in the order of ids. A savepoint is not subsumed: where it takes longer than a checkpoint after
//!   it, it completes late, and the latest checkpoint stays the latest.
//! * **A commit under way is never aborted**, neither by a timeout nor by a suspension: it may already have
//!   happened. Only its result ends it.
//! * **Ids never repeat**: they increase strictly from the first id handed in, over suspensions too. So an id
//!   below the next one that is not under way has ended, and nothing need be remembered of it.

mod outcome;
mod pending;
mod permit;
mod policy;
mod request;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use strandline_state_api::CheckpointId;
pub use strandline_state_api::CheckpointKind;

pub use self::outcome::{
    AbortReason, AckOutcome, Action, CommitResult, DeclineOutcome, DeclineReason, FailReason,
};
use self::pending::{Parts, Pending, Stage};
pub use self::permit::{CommitParts, CommitPermit, CommitRight};
pub use self::policy::Policy;
use self::request::{Pushed, Queue, Request};
pub use self::request::{Refusal, RequestId, RequestOutcome};
use crate::{Millis, TaskId};

/// The coordinator of one job, as plain data: inputs are method calls, what is to be done is returned.
///
/// `S` is what a task acknowledges with, usually the list of its snapshot files; the coordinator only carries
/// it into the [`CommitPermit`].
///
/// The driver calls [`tick`](Self::tick) at [`next_deadline`](Self::next_deadline), which changes with every
/// input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator<S> {
    policy: Policy,
    phase: Phase,
    tasks: BTreeMap<TaskId, Life>,
    next_id: CheckpointId,
    next_request: u64,
    queue: Queue,
    /// When the next periodic checkpoint is due; stays in the past until it starts.
    next_periodic: Option<Millis>,
    /// When the last one was due, or the start.
    last_periodic: Millis,
    /// Whether sources have a backlog.
    backlog: bool,
    /// Whether periodic checkpoints wait for something outside.
    held: bool,
    /// When the last checkpoint ended, complete or not.
    last_end: Option<Millis>,
    latest_completed: Option<CheckpointId>,
    /// Failures that count, since the last completed one.
    failures: u32,
    pending: BTreeMap<CheckpointId, Pending<S>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Not started yet, or suspended.
    Idle,
    Running,
    /// The final checkpoint is complete.
    Ended,
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Running,
    Finished { last_barrier: Option<CheckpointId> },
}

impl<S> Coordinator<S> {
    /// A coordinator that has not started. Its first checkpoint gets `first_id`, which must be above every id
    /// that is in the commit log, also of checkpoints that do not verify.
    pub fn new(policy: Policy, first_id: CheckpointId) -> Self {
        Self {
            policy,
            phase: Phase::Idle,
            tasks: BTreeMap::new(),
            next_id: first_id,
            next_request: 0,
            queue: Queue::default(),
            next_periodic: None,
            last_periodic: Millis(0),
            backlog: false,
            held: false,
            last_end: None,
            latest_completed: None,
            failures: 0,
            pending: BTreeMap::new(),
        }
    }

    /// All tasks of the job run: checkpoints may start. Also the way back from [`suspend`](Self::suspend),
    /// with the tasks of the new attempt.
    ///
    /// Does nothing once the coordinator is fenced or has completed its final checkpoint.
    pub fn start(&mut self, now: Millis, tasks: impl IntoIterator<Item = TaskId>) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if matches!(self.phase, Phase::Idle | Phase::Running) {
            self.tasks = tasks.into_iter().map(|task| (task, Life::Running)).collect();
            self.phase = Phase::Running;
            self.failures = 0;
            (self.backlog, self.last_periodic) = (false, now);
            let period = self.policy.period(false);
            let delay = period.map(|period| self.policy.initial_delay.unwrap_or(period));
            self.next_periodic = delay.map(|delay| now.after(delay));
            self.proceed(now, &mut actions);
        }
        actions
    }

    /// The job stops, restarts or failed: aborts everything except a commit under way, and starts nothing
    /// until [`start`](Self::start).
    ///
    /// While [`commit_in_flight`](Self::commit_in_flight) is not `None`, it is open which checkpoint is the
    /// latest: await its result before choosing the one to restart from.
    pub fn suspend(&mut self, now: Millis) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if self.phase == Phase::Running {
            self.leave(now, Phase::Idle, AbortReason::Suspended, Refusal::NotRunning, &mut actions);
        }
        actions
    }

    /// Time has come to `now`: expires what is overdue and starts what is due.
    pub fn tick(&mut self, now: Millis) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        let is_over = |pending: &Pending<S>| pending.deadline().is_some_and(|deadline| deadline <= now);
        let overdue: Vec<_> = self.pending.iter().filter(|(_, p)| is_over(p)).map(|(id, _)| *id).collect();
        for id in overdue {
            self.abort(now, id, AbortReason::Expired, &mut actions);
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// Sources have a backlog from now on, or have no more (Flink: `setIsProcessingBacklog`): periodic
    /// checkpoints follow the [interval](Policy::backlog_interval) for that, counted from the last one. A
    /// start begins without.
    pub fn set_backlog(&mut self, now: Millis, backlog: bool) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if self.backlog != backlog {
            self.backlog = backlog;
            if self.phase == Phase::Running {
                let due = self.policy.period(backlog).map(|period| self.last_periodic.after(period));
                self.next_periodic = due.map(|due| due.max(now));
                self.proceed(now, &mut actions);
            }
        }
        actions
    }

    /// Periodic checkpoints wait from now on, or do no more: what earlier ones left is not cleaned up yet
    /// (Flink: `CheckpointsCleaner`). What somebody asks for does not wait.
    pub fn hold(&mut self, now: Millis, held: bool) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if self.held != held {
            self.held = held;
            self.proceed(now, &mut actions);
        }
        actions
    }

    /// When [`tick`](Self::tick) has something to do again, if nothing else happens before; `None` for never.
    pub fn next_deadline(&self) -> Option<Millis> {
        let expiry = self.pending.values().filter_map(Pending::deadline).min();
        let periodic = self.has_room().then(|| self.periodic_start()).flatten();
        expiry.into_iter().chain(periodic).min()
    }

    /// Somebody wants a checkpoint. A request for a periodic one is served like one of the API.
    pub fn request(&mut self, now: Millis, kind: CheckpointKind) -> (RequestOutcome, Vec<Action<S>>) {
        let mut actions = Vec::new();
        if let Some(refusal) = self.refusal() {
            return (RequestOutcome::Refused(refusal), actions);
        }
        let kind = if kind == CheckpointKind::Periodic { CheckpointKind::Api } else { kind };
        let id = RequestId(self.next_request);
        match self.queue.push(Request { id, kind }, self.policy.max_requests) {
            Pushed::Full => return (RequestOutcome::Refused(Refusal::TooMany), actions),
            Pushed::Displaced(other) => {
                actions.push(Action::DropRequest { request: other.id, reason: Refusal::TooMany });
            }
            Pushed::Queued => {}
        }
        self.next_request += 1;
        self.proceed(now, &mut actions);
        let queued = self.queue.contains(id);
        (if queued { RequestOutcome::Queued(id) } else { RequestOutcome::Started(id) }, actions)
    }

    /// A task has its part of `checkpoint` safely stored.
    pub fn ack(
        &mut self,
        now: Millis,
        task: TaskId,
        checkpoint: CheckpointId,
        state: S,
    ) -> (AckOutcome, Vec<Action<S>>) {
        let mut actions = Vec::new();
        let outcome = match self.pending.get_mut(&checkpoint) {
            None if checkpoint < self.next_id => AckOutcome::Late,
            None => AckOutcome::Unknown,
            Some(pending) => match &mut pending.stage {
                Stage::Collecting { waiting, parts, .. } => {
                    if waiting.remove(&task) {
                        parts.acks.insert(task, state);
                        match waiting.len() {
                            0 => AckOutcome::Completed,
                            missing => AckOutcome::Accepted { missing },
                        }
                    } else {
                        parts.repeated(task)
                    }
                }
                Stage::Ready(parts) => parts.repeated(task),
                Stage::Committing if self.tasks.contains_key(&task) => AckOutcome::Duplicate,
                Stage::Committing => AckOutcome::Unknown,
            },
        };
        if outcome == AckOutcome::Completed {
            self.proceed(now, &mut actions);
        }
        (outcome, actions)
    }

    /// A task cannot take part in `checkpoint`.
    pub fn decline(
        &mut self,
        now: Millis,
        task: TaskId,
        checkpoint: CheckpointId,
        reason: DeclineReason,
    ) -> (DeclineOutcome, Vec<Action<S>>) {
        let mut actions = Vec::new();
        let outcome = match self.pending.get(&checkpoint) {
            None if checkpoint < self.next_id => DeclineOutcome::Late,
            Some(_) if self.tasks.contains_key(&task) => match self.pending[&checkpoint].stage {
                Stage::Collecting { ref waiting, .. } if waiting.contains(&task) => DeclineOutcome::Aborted,
                Stage::Collecting { .. } | Stage::Ready(_) | Stage::Committing => DeclineOutcome::Late,
            },
            None | Some(_) => DeclineOutcome::Unknown,
        };
        if outcome == DeclineOutcome::Aborted {
            self.abort(now, checkpoint, AbortReason::Declined(task, reason), &mut actions);
            self.proceed(now, &mut actions);
        }
        (outcome, actions)
    }

    /// A task has come to the end of its input and is gone. It need not acknowledge checkpoints whose barrier
    /// it never passed: everything that it emitted is before them.
    ///
    /// `last_barrier` is the last barrier that the task did pass (snapshotted at, or forwarded). For
    /// checkpoints up to that one its acknowledgement is still required; it may be under way, since snapshots
    /// are written in the background.
    pub fn task_finished(
        &mut self,
        now: Millis,
        task: TaskId,
        last_barrier: Option<CheckpointId>,
    ) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        let Some(life @ Life::Running) = self.tasks.get_mut(&task) else { return actions };
        *life = Life::Finished { last_barrier };
        for (id, pending) in &mut self.pending {
            pending.finish(*id, task, last_barrier);
        }
        if self.refusal() == Some(Refusal::Ended) {
            self.drop_queue(Refusal::Ended, &mut actions);
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// The commit of `checkpoint` ended. Ignored unless it is the one under way.
    pub fn commit_result(
        &mut self,
        now: Millis,
        checkpoint: CheckpointId,
        result: CommitResult,
    ) -> Vec<Action<S>> {
        let mut actions = Vec::new();
        if self.commit_in_flight() != Some(checkpoint) {
            return actions;
        }
        match result {
            CommitResult::Committed => self.completed(now, checkpoint, &mut actions),
            CommitResult::Failed => self.abort(now, checkpoint, AbortReason::CommitFailed, &mut actions),
            CommitResult::Unknown => {
                // No notification may call it complete or aborted: a sink would commit, or roll back,
                // wrongly.
                self.pending.remove(&checkpoint);
                self.fail(now, FailReason::CommitUnknown(checkpoint), &mut actions);
            }
            CommitResult::Fenced => return self.fence(),
        }
        self.proceed(now, &mut actions);
        actions
    }

    /// A newer coordinator has taken over: forgets all that is under way, and never does anything again.
    pub fn fence(&mut self) -> Vec<Action<S>> {
        if self.phase == Phase::Fenced {
            return Vec::new();
        }
        self.phase = Phase::Fenced;
        self.pending.clear();
        self.queue = Queue::default();
        self.next_periodic = None;
        vec![Action::Fenced]
    }

    /// The checkpoint with the highest id that completed here.
    pub fn latest_completed(&self) -> Option<CheckpointId> {
        self.latest_completed
    }

    /// The checkpoint whose permit is out.
    pub fn commit_in_flight(&self) -> Option<CheckpointId> {
        self.pending.iter().find(|(_, pending)| pending.is_committing()).map(|(id, _)| *id)
    }

    /// The checkpoints that are under way, oldest first.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointId> {
        self.pending.keys().copied()
    }

    /// The id that the next checkpoint gets.
    pub fn next_id(&self) -> CheckpointId {
        self.next_id
    }

    /// Takes the id of a barrier that belongs to no checkpoint: no checkpoint gets it, and what tasks answer to
    /// it is none of this coordinator's.
    pub fn take_id(&mut self) -> CheckpointId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }

    /// The tasks that `checkpoint` still waits for; empty when it is not collecting.
    pub fn missing(&self, checkpoint: CheckpointId) -> impl Iterator<Item = TaskId> {
        let waiting = match self.pending.get(&checkpoint).map(|pending| &pending.stage) {
            Some(Stage::Collecting { waiting, .. }) => Some(waiting),
            _ => None,
        };
        waiting.into_iter().flatten().copied()
    }
}
