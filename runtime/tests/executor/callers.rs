//! Jobs that are started from where a runtime is already, or from where none is.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::*;
use tokio::runtime::Builder;

struct Job {
    pipeline: Pipeline<MemoryBackendFactory>,
    source: VecSource<u64>,
    sink: VecSink<(u64, u64)>,
    config: JobConfig,
    events: Arc<Events>,
    control: JobControl,
    _dir: tempfile::TempDir,
}

const RECORDS: u64 = 5_000;

fn records() -> Vec<u64> {
    (0..RECORDS).map(|n| n % 97).collect()
}

/// A job that waits half-way until its gate is opened.
fn job() -> Job {
    let dir = tempfile::tempdir().unwrap();
    let source = VecSource::new(&records(), 2).gated(RECORDS / 4);
    let (sink, events) = (VecSink::default(), Events::new());
    let pipeline = counting(&source, &sink);
    let storage = Storage::in_dir(dir.path()).unwrap();
    let config = JobConfig::default()
        .parallelism(2)
        .checkpointing(CheckpointConfig::new(storage, Duration::from_millis(5)))
        .observer(events.clone());
    Job { pipeline, source, sink, config, events, control: JobControl::new(), _dir: dir }
}

impl Job {
    fn open(&self) {
        self.source.open_gate();
    }

    fn assert_exact(&self, report: &JobReport) {
        assert_eq!((report.outcome, report.restarts), (Outcome::Finished, 0));
        assert_eq!(self.sink.visible(), counted(&records()));
    }
}

#[test]
fn run_in_an_asynchronous_task_is_an_error_that_names_the_way() {
    for mut builder in [Builder::new_multi_thread(), Builder::new_current_thread()] {
        let runtime = builder.enable_all().build().unwrap();
        let job = Arc::new(job());
        job.open();
        let refuse = |job: &Job| {
            let error = run(&job.pipeline, job.config.clone(), &job.control).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("run_async"), "{error}");
        };
        runtime.block_on(async { refuse(&job) });
        let spawned = job.clone();
        runtime.block_on(runtime.spawn(async move { refuse(&spawned) })).unwrap();
        // Nothing is spoiled, and a thread that may block may run a job.
        let blocking = job.clone();
        let ran = runtime
            .spawn_blocking(move || run(&blocking.pipeline, blocking.config.clone(), &blocking.control));
        let report = runtime.block_on(ran).unwrap().unwrap();
        job.assert_exact(&report);
    }
}

#[test]
fn a_job_whose_caller_hides_its_runtime_does_not_panic() {
    let runtime = Builder::new_multi_thread().build().unwrap();
    let job = job();
    job.open();
    let hidden = tokio::task::unconstrained(async { run(&job.pipeline, job.config.clone(), &job.control) });
    job.assert_exact(&runtime.block_on(hidden).unwrap());
    let _inside = runtime.enter();
    let job = self::job();
    job.open();
    job.assert_exact(&run(&job.pipeline, job.config.clone(), &job.control).unwrap());
}

#[test]
fn run_async_runs_on_any_runtime_of_the_caller() {
    for builder in [Builder::new_multi_thread, Builder::new_current_thread] {
        // Without timers and sockets, and with one thread that may block, too.
        for whole in [true, false] {
            let mut builder = builder();
            let builder = if whole { builder.enable_all() } else { builder.max_blocking_threads(1) };
            let runtime = builder.build().unwrap();
            let job = job();
            let ran = runtime.block_on(async {
                let running = tokio::spawn(run_async(&job.pipeline, job.config.clone(), &job.control));
                // The task that awaits the job leaves room for others.
                tokio::task::yield_now().await;
                job.open();
                running.await.unwrap()
            });
            job.assert_exact(&ran.unwrap());
        }
    }
}

#[test]
fn run_async_needs_a_runtime_and_names_it() {
    let job = job();
    let ran = futures_lite(run_async(&job.pipeline, job.config.clone(), &job.control));
    let error = ran.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("needs a tokio runtime"), "{error}");
}

/// Polls once, without a runtime.
fn futures_lite<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("not ready at once"),
    }
}

#[test]
fn a_job_that_nobody_awaits_is_cancelled_and_its_successor_is_exact() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let job = job();
    runtime.block_on(async {
        let running = tokio::spawn(run_async(&job.pipeline, job.config.clone(), &job.control));
        let events = job.events.clone();
        tokio::task::spawn_blocking(move || events.wait_completed(2)).await.unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    });
    // The threads of the job may still be at work, on a runtime that is gone.
    drop(runtime);
    job.open();
    let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let second = run_async(&job.pipeline, job.config.clone(), &JobControl::new());
    let report = runtime.block_on(second).unwrap();
    assert!(report.resumed_from.is_some());
    assert_eq!(job.sink.visible(), counted(&records()));
}

#[test]
fn the_future_of_a_job_can_be_sent_and_outlives_what_it_was_made_from() {
    fn sent<T: Send + 'static>(value: T) -> T {
        value
    }
    let job = job();
    job.open();
    let running = sent(run_async(&job.pipeline, job.config.clone(), &job.control));
    let Job { pipeline, sink, _dir, .. } = job;
    drop(pipeline);
    let runtime = Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(running).unwrap().outcome, Outcome::Finished);
    assert_eq!(sink.visible(), counted(&records()));
}
