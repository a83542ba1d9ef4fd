//! The ways to run a job: on a runtime of its own, and on that of the caller.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::Run;
use crate::config::JobConfig;
use crate::control::JobControl;
use crate::host::{Host, Plan};
use crate::pipeline::Pipeline;
use crate::report::JobReport;
use crate::scheduler::Scheduler;
use crate::sync::{guarded, lock};
use crate::threads::Threads;

/// Runs a job until it is finished, stopped or cancelled, restarting it after failures. Blocks; `control`
/// works from other threads. In an asynchronous task, use [`run_async`].
///
/// With checkpoints, each attempt claims a new term of the commit log before it looks where to resume, so
/// that no other run on the same storage can complete a checkpoint any more.
///
/// # Errors
/// `Invalid` for a mistake in the pipeline or the configuration, and in an asynchronous task, which must not
/// block; `Fenced` when another run took over the storage; those of
/// [`Storage::recover`](strandline_checkpoint_storage::Storage::recover) when there are checkpoints and none
/// can be restored; else the error that the restart strategy gave up on, with its operator, subtask and
/// checkpoint.
pub fn run<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
) -> Result<JobReport> {
    if in_task() {
        let message = "`run` blocks, and an asynchronous task must not: await `run_async`, or call `run` in \
                       `spawn_blocking`";
        return Err(Error::invalid(message));
    }
    run_blocking(pipeline, config, control, None)
}

/// Runs a job as [`run`] does, with `host` in place of threads and channels: see [`host`](crate::host). The
/// parallelism is that of the host.
///
/// # Errors
/// As [`run`], and those of the host.
pub fn run_on<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
    host: &mut dyn Host,
) -> Result<JobReport> {
    if in_task() {
        let message = "`run_on` blocks, and an asynchronous task must not: call it in `spawn_blocking`";
        return Err(Error::invalid(message));
    }
    let config = config.parallelism(host.parallelism());
    host.check(&Plan::of(pipeline, &config)?)?;
    run_blocking(pipeline, config, control, Some(host))
}

fn run_blocking<'a, F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &'a JobControl,
    host: Option<&'a mut dyn Host>,
) -> Result<JobReport> {
    let running = control.running();
    let job = lock(&pipeline.graph).job()?;
    check(&config)?;
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(2).thread_name("strandline-io").enable_all().build();
    let runtime = built.map_err(|error| no_threads().caused_by(error))?;
    // On a thread of its own: this one may be inside a runtime that does not show.
    thread::scope(|scope| {
        let work = move || {
            let threads = Threads::OfSystem(runtime.handle().clone());
            let ended = guarded(|| Run { host, ..Run::new(job, config, control, threads) }.execute());
            // Sweeps have ended. What hangs may be a single operation of a store that was given up.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ended
        };
        let thread = thread::Builder::new().name("strandline-job".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| no_threads().caused_by(error))?;
        let ended = thread.join().unwrap_or_else(|_| Err(died()));
        drop(running);
        ended
    })
}

/// Runs a job as [`run`] does, on the caller's tokio runtime: stores work there, while operators, sources and
/// sinks have threads of their own. The future may be spawned; when it is dropped, the job is
/// [cancelled](JobControl::cancel) and ends in the background.
///
/// A store of one's own needs from the runtime what it needs; those of this crate family need nothing.
///
/// ```
/// use strandline_runtime::{JobConfig, JobControl, JobReport, Pipeline, run_async};
/// use strandline_state_api::Result;
/// use strandline_state_api::backend::BackendFactory;
///
/// async fn run_to_its_end<F: BackendFactory>(pipeline: &Pipeline<F>) -> Result<JobReport> {
///     run_async(pipeline, JobConfig::default().parallelism(2), &JobControl::new()).await
/// }
/// ```
///
/// # Errors
/// As [`run`]; `Invalid` outside of a tokio runtime.
pub fn run_async<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
) -> impl Future<Output = Result<JobReport>> + Send + 'static + use<F> {
    let job = lock(&pipeline.graph).job();
    let (control, running) = (control.clone(), control.running());
    async move {
        let running = running;
        let job = job?;
        check(&config)?;
        let handle = Handle::try_current().map_err(|error| {
            let message = "`run_async` needs a tokio runtime around it; `run` brings one";
            Error::invalid(message).caused_by(error)
        })?;
        let (ended, end) = oneshot::channel();
        let of_job = control.clone();
        let work = move || {
            // Nobody may wait for it any more.
            let threads = Threads::OfSystem(handle);
            let report = guarded(|| Run::new(job, config, &of_job, threads).execute());
            drop(running);
            let _ = ended.send(report);
        };
        let spawned = thread::Builder::new().name("strandline-job".into()).spawn(work);
        spawned.map_err(|error| no_threads().caused_by(error))?;
        let mut unattended = CancelUnattended(Some(control));
        let report = end.await.unwrap_or_else(|_| Err(died()));
        unattended.0 = None;
        report
    }
}

/// Runs a job as [`run`] does, on the calling thread, which is one of `scheduler`'s, and on others that this
/// starts and steps: stores are worked on there, too, so their futures must need no runtime.
///
/// # Errors
/// As [`run`].
pub fn run_stepped<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
    scheduler: Arc<dyn Scheduler>,
) -> Result<JobReport> {
    let _running = control.running();
    let job = lock(&pipeline.graph).job()?;
    check(&config)?;
    guarded(|| Run::new(job, config, control, Threads::Stepped(scheduler)).execute())
}

/// Cancels a job whose end nobody awaits any more.
struct CancelUnattended(Option<JobControl>);

impl Drop for CancelUnattended {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.cancel();
        }
    }
}

/// Whether this is code of an asynchronous task of tokio, as opposed to a thread on which blocking is fine.
///
/// Tokio does not tell; but only a task has a budget of operations before it must yield, and it is soon used
/// up. The task yields once more often for it.
fn in_task() -> bool {
    const MORE_THAN_THE_BUDGET: usize = 1024;
    let mut context = Context::from_waker(Waker::noop());
    Handle::try_current().is_ok()
        && (0..MORE_THAN_THE_BUDGET).any(|_| {
            let mut consume = std::pin::pin!(tokio::task::consume_budget());
            matches!(consume.as_mut().poll(&mut context), Poll::Pending)
        })
}

fn check(config: &JobConfig) -> Result<()> {
    let limit = JobConfig::MAX_PARALLELISM;
    if config.parallelism == 0 || config.parallelism > limit {
        return Err(Error::invalid(format!("parallelism {} is not in 1..={limit}", config.parallelism)));
    }
    if config.batch_size == 0 || config.channel_capacity == 0 {
        return Err(Error::invalid("batch_size and channel_capacity must be at least 1"));
    }
    Ok(())
}

fn no_threads() -> Error {
    Error::new(ErrorKind::Unavailable, "the threads of the job cannot be started")
}

fn died() -> Error {
    Error::new(ErrorKind::Internal, "the thread of the job died")
}
