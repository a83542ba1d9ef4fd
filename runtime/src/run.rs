//! Running a job: attempts, restarts, the final report.

mod attempt;
mod commit;
mod driver;
mod recovery;
mod restarts;
mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

use self::restarts::Restarts;
use self::samples::Samples;
use crate::config::JobConfig;
use crate::control::JobControl;
use crate::event::JobEvent;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::graph::Job;
use crate::report::{CheckpointReport, JobReport, Outcome};
use crate::sink::Figure;
use crate::sync::lock;

/// How many completed checkpoints the report of a long job remembers.
const REPORTED: usize = 10_000;

/// Runs a job until it is finished, stopped or cancelled, restarting it after failures. Blocks; `control`
/// works from other threads.
///
/// With checkpoints, each attempt claims a new term of the commit log before it looks where to resume, so
/// that no other run on the same storage can complete a checkpoint any more.
///
/// # Errors
/// `Invalid` for a mistake in the pipeline or the configuration; `Fenced` when another run took over the
/// storage; those of [`Storage::recover`](strandline_checkpoint_storage::Storage::recover) when there are
/// checkpoints and none can be restored; else the error that the restart strategy gave up on, with its
/// operator, subtask and checkpoint.
pub fn run<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
) -> Result<JobReport> {
    let job = lock(&pipeline.graph).job()?;
    check(&config)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("strandline-io")
        .enable_time()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Unavailable, "the threads for storage cannot be started").caused_by(error)
        })?;
    let ended = Run::new(job, config, control, &runtime).execute();
    // Sweeps have ended. What hangs may be a single operation of a store that was given up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn check(config: &JobConfig) -> Result<()> {
    let limit = strandline_state_api::KeyGroup::COUNT;
    if config.parallelism == 0 || config.parallelism > limit {
        return Err(Error::invalid(format!("parallelism {} is not in 1..={limit}", config.parallelism)));
    }
    if config.batch_size == 0 || config.channel_capacity == 0 {
        return Err(Error::invalid("batch_size and channel_capacity must be at least 1"));
    }
    Ok(())
}

/// One call of [`run`], over all its attempts.
struct Run<'a> {
    job: Job,
    config: JobConfig,
    control: &'a JobControl,
    runtime: &'a Runtime,
    metrics: Arc<Metrics>,
    samples: Samples,
    /// Distinguishes the attempts of this run from those of any other.
    label: String,
    attempts: u32,
    /// The term of the first attempt.
    first_term: Option<u64>,
    /// No checkpoint of this run gets a lower number.
    next_checkpoint: CheckpointId,
    resumed_from: Option<CheckpointId>,
    checkpoints: Vec<CheckpointReport>,
    aborted_checkpoints: u64,
    sinks: BTreeMap<String, Vec<Figure>>,
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
    fn new(job: Job, config: JobConfig, control: &'a JobControl, runtime: &'a Runtime) -> Self {
        Self {
            job,
            config,
            control,
            runtime,
            metrics: Arc::new(Metrics::new(Instant::now())),
            samples: Samples::default(),
            label: format!("{:016x}", fastrand::u64(..)),
            attempts: 0,
            first_term: None,
            next_checkpoint: CheckpointId::FIRST,
            resumed_from: None,
            checkpoints: Vec::new(),
            aborted_checkpoints: 0,
            sinks: BTreeMap::new(),
        }
    }

    fn execute(mut self) -> Result<JobReport> {
        let mut restarts = Restarts::new(&self.config);
        loop {
            let started = Instant::now();
            self.attempts += 1;
            let (error, opening) = match self.attempt() {
                Ended::Over(outcome) => return Ok(self.report(outcome, restarts.count())),
                Ended::Failed { error, opening } => (error, opening),
            };
            if self.control.cancel_requested() {
                return Ok(self.report(Outcome::Cancelled, restarts.count()));
            }
            let stopping = self.control.stop_requested();
            let Some(delay) = restarts.after(&error, opening, stopping, started.elapsed()) else {
                return Err(error.with("job", &self.job.name));
            };
            tracing::warn!(%error, restart = restarts.count(), ?delay, "the job failed and restarts");
            self.notify(&JobEvent::Restarting { error: error.to_string(), restart: restarts.count(), delay });
            self.wait(delay);
            if self.control.cancel_requested() {
                return Ok(self.report(Outcome::Cancelled, restarts.count()));
            }
        }
    }

    /// Waits before a restart, unless the job is to end.
    fn wait(&self, delay: Duration) {
        let until = Instant::now() + delay;
        while !self.control.stop_requested() && !self.control.cancel_requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.control.woken().recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn notify(&self, event: &JobEvent) {
        if let Some(observer) = &self.config.observer {
            observer.event(event);
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
        JobReport {
            outcome,
            resumed_from: self.resumed_from,
            elapsed: progress.elapsed,
            read: metrics.read_by_source(),
            emitted: metrics.emitted_by_sink(),
            done: progress.done,
            late: metrics.late(),
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
