//! Running a job: attempts, restarts, the final report.

mod attempt;
mod calls;
mod commit;
mod driver;
mod hosted;
mod outputs;
mod recovery;
mod restarts;
mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::Manifest;
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};

pub use self::calls::{run, run_async, run_on, run_stepped};
use self::restarts::{FailedAttempt, Restarts};
use self::samples::Samples;
use crate::config::JobConfig;
use crate::control::JobControl;
use crate::event::JobEvent;
use crate::host::Host;
use crate::live::Pins;
use crate::metrics::Metrics;
use crate::pipeline::graph::Job;
use crate::report::{CheckpointReport, JobReport, Outcome};
use crate::sink::Figure;
use crate::threads::Threads;

/// How many completed checkpoints the report of a long job remembers.
const REPORTED: usize = 10_000;

/// How often a run that was overtaken looks whether the other gets on.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The least time between two reports of late records.
const LATE_PAUSE: Duration = Duration::from_secs(1);

/// One call of [`run`] or [`run_async`], over all its attempts.
struct Run<'a> {
    job: Job,
    config: JobConfig,
    control: &'a JobControl,
    /// Where it runs, and the storage is worked on.
    threads: Threads,
    /// What runs its tasks, in place of threads.
    host: Option<&'a mut dyn Host>,
    /// For a host: the checkpoint that the attempt starts from, and the operators that go on although they had
    /// ended.
    manifest: Option<Manifest>,
    reopened: Vec<OperatorId>,
    metrics: Arc<Metrics>,
    samples: Samples,
    /// Drawn anew for each attempt, from the operating system's randomness.
    random: u64,
    attempts: u32,
    /// The terms of the first attempt and of the last.
    first_term: Option<Term>,
    last_term: Option<Term>,
    /// No checkpoint of this run gets a lower number.
    next_checkpoint: CheckpointId,
    resumed_from: Option<CheckpointId>,
    /// What a finished job does not read.
    unread: Vec<String>,
    /// How many late records of each operator the observer knows of, and when it last heard.
    late: BTreeMap<String, u64>,
    late_at: Duration,
    checkpoints: Vec<CheckpointReport>,
    aborted_checkpoints: u64,
    sinks: BTreeMap<String, Vec<Figure>>,
    /// What somebody reads of live state.
    pins: Pins,
}

/// How an attempt ended.
enum Ended {
    Over(Outcome),
    Failed {
        error: Error,
        /// It failed before all of it ran.
        opening: bool,
    },
}

impl<'a> Run<'a> {
    fn new(job: Job, config: JobConfig, control: &'a JobControl, threads: Threads) -> Self {
        Self {
            job,
            config,
            control,
            metrics: Arc::new(Metrics::new(threads.clone())),
            threads,
            host: None,
            manifest: None,
            reopened: Vec::new(),
            samples: Samples::default(),
            random: 0,
            attempts: 0,
            first_term: None,
            last_term: None,
            next_checkpoint: CheckpointId::FIRST,
            resumed_from: None,
            unread: Vec::new(),
            late: BTreeMap::new(),
            late_at: Duration::ZERO,
            checkpoints: Vec::new(),
            aborted_checkpoints: 0,
            sinks: BTreeMap::new(),
            pins: Pins::default(),
        }
    }

    fn execute(mut self) -> Result<JobReport> {
        let mut restarts = Restarts::new(&self.config);
        loop {
            let started = self.threads.now();
            let newest = self.checkpoints.last().map(|report| report.checkpoint);
            self.attempts += 1;
            let (error, opening) = match self.attempt() {
                Ended::Over(outcome) => return Ok(self.report(outcome, restarts.count())),
                Ended::Failed { error, opening } if opening => (self.or_overtaken(error), opening),
                Ended::Failed { error, opening } => (error, opening),
            };
            if self.control.cancel_requested() {
                return Ok(self.report(Outcome::Cancelled, restarts.count()));
            }
            let (stopping, ran) = (self.control.stop_requested(), self.threads.since(started));
            let progressed = self.checkpoints.last().map(|report| report.checkpoint) != newest;
            let failed = FailedAttempt { error: &error, opening, stopping, ran, progressed };
            let Some(delay) = restarts.after(&failed) else {
                if error.kind() == ErrorKind::Fenced {
                    self.give_way();
                }
                return Err(error.with("job", &self.job.name));
            };
            tracing::warn!(%error, restart = restarts.count(), ?delay, "the job failed and restarts");
            self.notify(&JobEvent::Restarting { error, restart: restarts.count(), delay });
            self.wait(delay);
            if self.control.cancel_requested() {
                return Ok(self.report(Outcome::Cancelled, restarts.count()));
            }
        }
    }

    /// What distinguishes the attempt from those of any other run.
    fn label(&self) -> String {
        format!("{:016x}", self.random)
    }

    /// Waits before a restart, unless the job is to end.
    fn wait(&self, delay: Duration) {
        let until = self.threads.now() + delay;
        while !self.control.stop_requested() && !self.control.cancel_requested() {
            let left = until.saturating_duration_since(self.threads.now());
            let woken = || self.threads.recv_within(self.control.woken(), Some(left));
            if left.is_zero() || woken() == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Another run has taken over: waits until that has completed a checkpoint, so that it gets on even where
    /// this one is started again at once and overtakes it in turn.
    fn give_way(&self) {
        let (Some(config), Some(term)) = (&self.config.checkpointing, self.last_term) else { return };
        let until = self.threads.now() + config.give_way;
        let has_completed = || {
            let history = self.threads.block_on(config.storage.history());
            history.is_ok_and(|history| history.latest().is_some_and(|latest| latest.term > term))
        };
        while !self.control.stop_requested()
            && !self.control.cancel_requested()
            && self.threads.now() < until
            && !has_completed()
        {
            self.wait(LOOK_AGAIN.min(until.saturating_duration_since(self.threads.now())));
        }
    }

    fn notify(&self, event: &JobEvent) {
        if let Some(observer) = &self.config.observer {
            observer.event(event);
        }
    }

    /// Reports operators to which records came late since the last report, at most once a second.
    fn notify_late(&mut self, elapsed: Duration) {
        if elapsed < self.late_at {
            return;
        }
        for (operator, records) in self.metrics.late_by_operator() {
            if records <= self.late.get(&operator).copied().unwrap_or(0) {
                continue;
            }
            tracing::warn!(operator, records, "records came behind the watermark");
            self.late_at = elapsed + LATE_PAUSE;
            self.late.insert(operator.clone(), records);
            self.notify(&JobEvent::LateRecords { operator, records });
        }
    }

    fn completed(&mut self, report: CheckpointReport) {
        self.notify(&JobEvent::CheckpointCompleted(report.clone()));
        if self.checkpoints.len() >= REPORTED {
            self.checkpoints.remove(0);
        }
        self.checkpoints.push(report);
    }

    fn report(self, outcome: Outcome, restarts: u32) -> JobReport {
        let (metrics, progress) = (&self.metrics, self.metrics.progress());
        let mut late_by_operator = metrics.late_by_operator();
        late_by_operator.retain(|_, late| *late > 0);
        let mut too_late_by_operator = metrics.too_late_by_operator();
        too_late_by_operator.retain(|_, late| *late > 0);
        let mut left_out_by_operator = metrics.left_out_by_operator();
        left_out_by_operator.retain(|_, left_out| *left_out > 0);
        JobReport {
            outcome,
            resumed_from: self.resumed_from,
            elapsed: progress.elapsed,
            read: metrics.read_by_source(),
            read_again: progress.read_again,
            emitted: metrics.emitted_by_sink(),
            done: progress.done,
            late: late_by_operator.values().sum(),
            late_by_operator,
            too_late_by_operator,
            left_out_by_operator,
            unread: self.unread,
            state_entries: progress.state_entries,
            restarts,
            checkpoints: self.checkpoints,
            aborted_checkpoints: self.aborted_checkpoints,
            first_done: metrics.first_done(),
            last_done: metrics.last_done(),
            longest_stall: metrics.longest_stall(),
            samples: self.samples.finish(metrics.last_done(), progress.done),
            sinks: self.sinks,
        }
    }
}
