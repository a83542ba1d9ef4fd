//! The coordinator at work: the pure machine of the protocol crate, with real time, real tasks and a real
//! log.

mod aborts;
mod actions;
mod live;
mod requests;
mod sweeper;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select};
use strandline_checkpoint_protocol::{CheckpointKind, Coordinator, Millis, Policy, RequestOutcome, TaskId};
use strandline_checkpoint_storage::SweepReport;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use self::live::LiveRequests;
use self::requests::Requests;
use self::sweeper::Sweeper;
use super::commit::{CommitDone, Committer, Parts, Triggered};
use super::{Ended, Run};
use crate::config::CheckpointConfig;
use crate::event::{AbortedCheckpoint, JobEvent};
use crate::host::Directed;
use crate::mailbox::{Control, TaskEvent};
use crate::pipeline::graph::{Vertex, VertexKind};
use crate::report::Outcome;
use crate::request::job_over;
use crate::summary::TaskSummary;
use crate::sync::is_cancelled;
use crate::threads::{Threads, any, receivable};
use crate::urgency::Urgency;

/// Where the commands to a task go.
pub(super) enum Controls {
    Own(Sender<Control>),
    /// To a host, with those to all others.
    Host {
        commands: Sender<Directed>,
        vertex: u32,
        subtask: u32,
    },
}

/// The coordinator's side of a task.
pub(super) struct TaskHandle {
    id: TaskId,
    vertex: Arc<Vertex>,
    /// `None` once the attempt has failed: the closed channel makes the task give up.
    control: Option<Controls>,
    urgency: Arc<Urgency>,
    drained: bool,
    has_backlog: bool,
    exited: Option<TaskSummary>,
}

impl TaskHandle {
    pub(super) fn new(id: TaskId, vertex: &Arc<Vertex>, control: Controls, urgency: Arc<Urgency>) -> Self {
        let (vertex, control) = (Arc::clone(vertex), Some(control));
        Self { id, vertex, control, urgency, drained: false, has_backlog: false, exited: None }
    }

    fn name(&self) -> String {
        format!("{} (subtask {})", self.vertex.id, self.id.subtask)
    }

    fn is_hosted(&self) -> bool {
        matches!(self.control, Some(Controls::Host { .. }))
    }

    fn send(&self, control: Control) {
        // The last event of a task that is gone has the reason.
        match &self.control {
            Some(Controls::Own(channel)) => drop(channel.send(control)),
            Some(Controls::Host { commands, vertex, subtask }) => {
                drop(commands.send(Directed::new(*vertex, *subtask, control)));
            }
            None => {}
        }
    }
}

/// How far the attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptPhase {
    /// Waiting for this many tasks to restore their state.
    Opening(usize),
    Running,
    /// The final checkpoint is complete; waiting for the tasks to end.
    Finishing(Outcome),
}

/// What a driver waits for.
enum Incoming {
    Task(TaskEvent),
    Commit(Box<CommitDone>),
    Swept(Result<SweepReport>),
    /// No task is left.
    NoTasks,
    /// A command, or a time that has come.
    Nothing,
}

/// Drives one attempt.
pub(super) struct Driver<'r, 'a> {
    run: &'r mut Run<'a>,
    committer: Committer,
    coordinator: Coordinator<Parts>,
    tasks: Vec<TaskHandle>,
    inbox: Receiver<TaskEvent>,
    phase: AttemptPhase,
    epoch: Instant,
    triggered: BTreeMap<CheckpointId, Triggered>,
    /// What failed in checkpoints that are about to be aborted.
    causes: BTreeMap<CheckpointId, Error>,
    /// The subtasks that checkpoints wait for which are about to expire.
    late: BTreeMap<CheckpointId, String>,
    last_aborted: Option<AbortedCheckpoint>,
    /// The commit under way, to be reported should it succeed.
    committing: Option<CommitDone>,
    final_requested: bool,
    requests: Requests,
    live: LiveRequests,
    /// A sweep was due while a live barrier was under way, whose files it would not know.
    sweep_deferred: bool,
    failure: Option<Error>,
    /// Why the attempt ended, if it failed.
    failed_with: Option<Error>,
    sweeper: Sweeper,
}

/// When the first periodic checkpoint is due: as configured, or after a random part of the interval that is
/// no shorter than the pause (Flink: `CheckpointCoordinator#getInitialTriggeringDelay`).
fn first_delay(config: &CheckpointConfig, random: u64) -> Option<Duration> {
    let random_part = |interval: Duration| {
        let least = config.min_pause.min(interval);
        least + (interval - least).mul_f64(random as f64 / u64::MAX as f64)
    };
    config.initial_delay.or(config.interval.map(random_part))
}

impl<'r, 'a> Driver<'r, 'a> {
    pub(super) fn new(
        run: &'r mut Run<'a>,
        committer: Committer,
        tasks: Vec<TaskHandle>,
        inbox: Receiver<TaskEvent>,
    ) -> Self {
        let policy = match &run.config.checkpointing {
            Some(config) => Policy {
                interval: config.interval,
                initial_delay: first_delay(config, run.random),
                backlog_interval: config.backlog_interval,
                min_pause: config.min_pause,
                timeout: config.timeout,
                max_concurrent: config.max_concurrent,
                tolerable_failures: config.tolerable_failures,
                max_requests: config.max_requests,
            },
            // Only the barrier at the end of the job, which takes as long as it takes.
            None => Policy { timeout: Duration::MAX, ..Policy::default() },
        };
        let coordinator = Coordinator::new(policy, run.next_checkpoint);
        let run_epoch = run.threads.now();
        Self {
            run,
            committer,
            coordinator,
            phase: AttemptPhase::Opening(tasks.len()),
            tasks,
            inbox,
            epoch: run_epoch,
            triggered: BTreeMap::new(),
            causes: BTreeMap::new(),
            late: BTreeMap::new(),
            last_aborted: None,
            committing: None,
            final_requested: false,
            requests: Requests::default(),
            live: LiveRequests::default(),
            sweep_deferred: false,
            failure: None,
            failed_with: None,
            sweeper: Sweeper::default(),
        }
    }

    /// Runs until the job is over or the attempt has failed.
    pub(super) fn run(&mut self) -> Ended {
        loop {
            if let Some(error) = self.failure.take() {
                self.failed_with = Some(error.clone());
                return Ended::Failed { error, opening: matches!(self.phase, AttemptPhase::Opening(_)) };
            }
            if self.run.control.cancel_requested() {
                return Ended::Over(Outcome::Cancelled);
            }
            if let AttemptPhase::Finishing(outcome) = self.phase
                && self.tasks.iter().all(|task| task.exited.is_some())
            {
                return Ended::Over(outcome);
            }
            self.handle_job_control();
            self.step();
        }
    }

    /// Waits for the next thing to happen, and deals with it.
    fn step(&mut self) {
        match self.incoming() {
            Incoming::Task(event) => self.task_event(event),
            Incoming::Commit(done) => self.commit_done(*done),
            Incoming::Swept(swept) => self.swept(swept),
            Incoming::NoTasks => {
                self.fail(Error::new(ErrorKind::Internal, "all tasks are gone without a reason"));
            }
            Incoming::Nothing => {}
        }
        let elapsed = self.run.metrics.elapsed();
        if elapsed >= self.run.samples.next_due() {
            let progress = self.run.metrics.progress();
            self.run.samples.add(elapsed, progress.done);
            self.run.notify(&JobEvent::Progress(progress));
            self.run.notify_late(elapsed);
        }
        self.tick();
    }

    /// Waits for the next thing to happen.
    fn incoming(&self) -> Incoming {
        let wait = self.wait_time();
        let woken = self.run.control.woken();
        let (inbox, commits, sweeps) = (&self.inbox, &self.committer.results, &self.sweeper.results);
        if let Threads::Stepped(scheduler) = &self.run.threads {
            let ready = vec![receivable(inbox), receivable(commits), receivable(sweeps), receivable(woken)];
            scheduler.wait(any(ready), wait.map(|wait| scheduler.now() + wait));
            let first = (scheduler.random() % 4) as usize;
            let looked = (0..4).map(|step| self.look((first + step) % 4));
            return looked.flatten().next().unwrap_or(Incoming::Nothing);
        }
        let timer = wait.map_or_else(never, after);
        select! {
            recv(inbox) -> event => event.map_or(Incoming::NoTasks, Incoming::Task),
            recv(commits) -> done => done.map_or(Incoming::Nothing, |done| Incoming::Commit(Box::new(done))),
            recv(sweeps) -> swept => swept.map_or(Incoming::Nothing, Incoming::Swept),
            recv(woken) -> _ => Incoming::Nothing,
            recv(timer) -> _ => Incoming::Nothing,
        }
    }

    /// Takes what is there already, at one of the places.
    fn look(&self, place: usize) -> Option<Incoming> {
        match place {
            0 => match self.inbox.try_recv() {
                Ok(event) => Some(Incoming::Task(event)),
                Err(error) => error.is_disconnected().then_some(Incoming::NoTasks),
            },
            1 => self.committer.results.try_recv().ok().map(|done| Incoming::Commit(Box::new(done))),
            2 => self.sweeper.results.try_recv().ok().map(Incoming::Swept),
            _ => self.run.control.woken().try_recv().ok().map(|()| Incoming::Nothing),
        }
    }

    fn wait_time(&self) -> Option<Duration> {
        let sample = self.run.samples.next_due().saturating_sub(self.run.metrics.elapsed());
        let deadline = self.coordinator.next_deadline().map(|deadline| deadline.since(self.now()));
        let of_live = self.live.deadline().map(|at| at.saturating_duration_since(self.run.threads.now()));
        deadline.into_iter().chain(of_live).chain([sample]).min()
    }

    fn tick(&mut self) {
        self.committer.give_up_overdue(self.run.threads.now());
        self.hold_back();
        self.expire_live();
        let now = self.now();
        if self.coordinator.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.note_missing();
        let actions = self.coordinator.tick(now);
        self.act(actions);
    }

    /// Ends the job when it is time, and does what the holder of the [`JobControl`](crate::JobControl) asked
    /// for.
    fn handle_job_control(&mut self) {
        if self.phase != AttemptPhase::Running {
            return;
        }
        if self.run.control.stop_requested() || self.tasks.iter().all(|task| task.drained) {
            self.request_final();
        }
        self.take_requests();
        self.take_live_requests();
        self.take_look_ups();
    }

    /// Asks for the checkpoint that ends the job.
    fn request_final(&mut self) {
        if self.final_requested {
            return;
        }
        self.final_requested = true;
        let (outcome, actions) = self.coordinator.request(self.now(), CheckpointKind::Final);
        if let RequestOutcome::Refused(refusal) = outcome {
            self.fail(Error::new(
                ErrorKind::Internal,
                format!("no final checkpoint can be taken: {refusal:?}"),
            ));
        }
        self.act(actions);
    }

    fn task_event(&mut self, event: TaskEvent) {
        let now = self.now();
        match event {
            TaskEvent::Opened => {
                if let AttemptPhase::Opening(left) = &mut self.phase {
                    *left -= 1;
                    if *left == 0 {
                        self.opened();
                    }
                }
            }
            TaskEvent::Ack { task, checkpoint, parts } if self.live.is_of(checkpoint) => {
                self.live_ack(task, parts);
            }
            TaskEvent::Decline { task, checkpoint, error, .. } if self.live.is_of(checkpoint) => {
                self.live_decline(task, error);
            }
            TaskEvent::Ack { task, checkpoint, parts } => {
                let (outcome, actions) = self.coordinator.ack(now, task, checkpoint, parts);
                tracing::trace!(?task, %checkpoint, ?outcome, "acknowledged");
                self.act(actions);
            }
            TaskEvent::Decline { task, checkpoint, reason, error } => {
                if let Some(error) = error {
                    tracing::warn!(%checkpoint, %error, "a snapshot failed");
                    self.causes.entry(checkpoint).or_insert(error);
                }
                let (_, actions) = self.coordinator.decline(now, task, checkpoint, reason);
                self.act(actions);
            }
            TaskEvent::Backlog(task, has_backlog) => {
                if let Some(handle) = self.tasks.iter_mut().find(|handle| handle.id == task) {
                    handle.has_backlog = has_backlog;
                }
                let backlog = self.tasks.iter().any(|task| task.has_backlog);
                let actions = self.coordinator.set_backlog(now, backlog);
                self.act(actions);
            }
            TaskEvent::Drained(task) => {
                if let Some(handle) = self.tasks.iter_mut().find(|handle| handle.id == task) {
                    handle.drained = true;
                }
            }
            TaskEvent::Exited(task, result) => self.exited(task, result),
            TaskEvent::Failed(error) => self.fail(error),
        }
    }

    /// All tasks have restored their state: checkpoints may begin.
    fn opened(&mut self) {
        self.phase = AttemptPhase::Running;
        self.run.started(self.committer.restored_from());
        let tasks: Vec<_> = self.tasks.iter().map(|task| task.id).collect();
        let actions = self.coordinator.start(self.now(), tasks);
        self.act(actions);
        let backlog = self.tasks.iter().any(|task| task.has_backlog);
        let actions = self.coordinator.set_backlog(self.now(), backlog);
        self.act(actions);
    }

    fn exited(&mut self, task: TaskId, result: Result<TaskSummary>) {
        let Some(handle) = self.tasks.iter_mut().find(|handle| handle.id == task) else { return };
        match result {
            Ok(summary) => handle.exited = Some(summary),
            // A task that lost its partner: the partner has the reason.
            Err(error) if is_cancelled(&error) => {}
            Err(error) => self.fail(error),
        }
    }

    /// The attempt cannot go on.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Lets go of all tasks, and waits for what must not be under way when the next attempt claims the log.
    pub(super) fn settle(&mut self) {
        for task in &mut self.tasks {
            task.control = None;
        }
        self.end_live();
        let actions = self.coordinator.suspend(self.now());
        self.act(actions);
        while self.coordinator.commit_in_flight().is_some() {
            match self.committer.await_result(&self.run.threads) {
                Some(done) => self.commit_done(done),
                None => break,
            }
        }
        let ended = self.failed_with.take().unwrap_or_else(job_over);
        self.requests.give_up(&ended);
        self.end_sweep();
        self.run.next_checkpoint = self.run.next_checkpoint.max(self.coordinator.next_id());
    }

    /// Takes the summaries of the tasks that have ended.
    pub(super) fn summary(&mut self) -> TaskSummary {
        let mut all = TaskSummary::default();
        self.tasks.iter_mut().filter_map(|task| task.exited.take()).for_each(|summary| all.append(summary));
        all
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.run.threads.since(self.epoch).as_millis()).unwrap_or(u64::MAX))
    }

    fn sources(&self) -> impl Iterator<Item = &TaskHandle> {
        self.tasks.iter().filter(|task| task.vertex.kind == VertexKind::Source)
    }
}

#[cfg(test)]
mod tests {
    use strandline_checkpoint_storage::Storage;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_checkpoint_comes_after_a_random_part_of_the_interval() {
        let config = CheckpointConfig::new(Storage::in_memory().unwrap(), 10 * SECOND);
        let delays = [0, u64::MAX / 2, u64::MAX].map(|random| first_delay(&config, random).unwrap());
        assert_eq!((delays[0], delays[2]), (Duration::ZERO, 10 * SECOND));
        assert!(delays[1].abs_diff(5 * SECOND) < Duration::from_millis(1), "{delays:?}");
        let paused = config.clone().min_pause(4 * SECOND);
        assert_eq!(first_delay(&paused, 0), Some(4 * SECOND));
        assert_eq!(first_delay(&config.clone().min_pause(60 * SECOND), 7), Some(10 * SECOND));
        assert_eq!(first_delay(&config.clone().initial_delay(3 * SECOND), 7), Some(3 * SECOND));
        assert_eq!(first_delay(&config.interval(None), 7), None);
    }
}
