//! Clean-up, stores that do not answer, and backlogs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_checkpoint_storage::{FileKind, Storage};
use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_runtime::*;
use strandline_state_api::*;

fn records() -> Vec<u64> {
    (0..2_000).map(|i| i * 7 % 300).collect()
}

fn pipeline<S: SourceFactory>(source: S, sink: &VecSink<(u64, u64)>) -> Pipeline<MemoryBackendFactory>
where
    S::Source: Source<Out = u64>,
{
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    let keyed = pipeline.source("numbers", source).key_by(|n| (n, ()));
    keyed.process("count", Count::open).sink("results", sink.clone());
    pipeline
}

fn files(storage: &Storage, kind: FileKind) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(storage.blobs().list(kind.dir())).unwrap().len()
}

#[test]
fn a_finished_job_removes_its_checkpoints_if_asked_and_is_still_known_as_finished() {
    for (when_finished, segments_stay) in [(WhenFinished::Keep, true), (WhenFinished::Remove, false)] {
        let (storage, sink) = (Storage::in_memory().unwrap(), VecSink::default());
        let checkpointing =
            CheckpointConfig::new(storage.clone(), Duration::from_millis(1)).when_finished(when_finished);
        let config = JobConfig::default().parallelism(2).checkpointing(checkpointing);
        let pipeline = pipeline(VecSource { step: 20, ..VecSource::new(&records(), 2) }, &sink);
        let report = run(&pipeline, config.clone(), &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished);
        assert_eq!(files(&storage, FileKind::Segment) > 0, segments_stay, "{when_finished:?}");
        if !segments_stay {
            assert_eq!(files(&storage, FileKind::Manifest), 1);
        }
        let again = run(&pipeline, config, &JobControl::new()).unwrap();
        assert_eq!(again.outcome, Outcome::AlreadyFinished);
        assert_eq!(sink.visible(), counted(&records()));
    }
}

#[test]
fn a_stopped_job_keeps_its_checkpoints() {
    let (storage, sink) = (Storage::in_memory().unwrap(), VecSink::default());
    let checkpointing = CheckpointConfig::new(storage, NEVER).when_finished(WhenFinished::Remove);
    let config = JobConfig::default().parallelism(2).checkpointing(checkpointing);
    let source = VecSource::new(&records(), 2).gated(500);
    let control = JobControl::new();
    control.stop();
    let report = run(&pipeline(source.clone(), &sink), config.clone(), &control).unwrap();
    assert_eq!(report.outcome, Outcome::Stopped);
    source.open_gate();
    let report = run(&pipeline(source, &sink), config, &JobControl::new()).unwrap();
    assert!(report.resumed_from.is_some());
    assert_eq!(sink.visible(), counted(&records()));
}

/// While a sweep hangs, so many periodic checkpoints complete and no more; those that are asked for do.
#[test]
fn a_clean_up_that_falls_behind_holds_back_periodic_checkpoints() {
    const LAG: u32 = 3;
    let (faults, sink) = (Faults::never(), VecSink::default());
    faults.add(Target::of(Operation::List).path("segments").nth(0), Fault::Held);
    let storage = faults.wrap(&Storage::in_memory().unwrap());
    let checkpointing = CheckpointConfig::new(storage, Duration::from_millis(1)).cleanup_lag(LAG);
    let (events, control) = (Events::new(), JobControl::new());
    let config = JobConfig::default().checkpointing(checkpointing).observer(Arc::clone(&events) as _);
    let source = VecSource::new(&records(), 1).gated(1_000);
    let pipeline = pipeline(source.clone(), &sink);
    let report = std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control)));
        faults.wait_injected(1);
        events.wait_completed(1 + LAG as usize);
        for _ in 0..20 {
            control.trigger_checkpoint().wait().unwrap();
        }
        let periodic = events.all().iter().filter(|event| is_periodic(event)).count();
        // One began the sweep, and one may have been under way when the last but one completed.
        assert!(periodic <= 2 + LAG as usize, "{periodic} periodic checkpoints");
        faults.release();
        events.wait(|events| events.iter().filter(|event| is_periodic(event)).count() > periodic);
        source.open_gate();
        job.join().unwrap()
    });
    assert_eq!(report.unwrap().outcome, Outcome::Finished);
    assert_eq!(sink.visible(), counted(&records()));
}

fn is_periodic(event: &JobEvent) -> bool {
    matches!(event, JobEvent::CheckpointCompleted(report) if report.kind == "periodic")
}

/// The claim of a slot never returns. The commit is given up, and the next attempt finds out what became of
/// it.
#[test]
fn a_commit_that_hangs_is_given_up() {
    for fault in [Fault::Hangs, Fault::Held] {
        let (faults, sink, control) = (Faults::never(), VecSink::default(), JobControl::new());
        faults.add(Target::of(Operation::Claim).path("log/").nth(1), fault);
        let storage = faults.wrap(&Storage::in_memory().unwrap());
        let checkpointing = CheckpointConfig::new(storage, NEVER).commit_timeout(Duration::from_millis(300));
        let config = JobConfig::default()
            .checkpointing(checkpointing)
            .restart(RestartStrategy::FixedDelay { attempts: 1_000, delay: Duration::ZERO });
        let source = VecSource::new(&records(), 1).gated(1_000);
        let pipeline = pipeline(source.clone(), &sink);
        let report = std::thread::scope(|scope| {
            let job = scope.spawn(|| run(&pipeline, config, &control));
            let error = control.trigger_checkpoint().wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("it cannot be learned"), "{error}");
            source.open_gate();
            job.join().unwrap()
        });
        let report = report.unwrap();
        assert!(report.outcome == Outcome::Finished && report.restarts > 0);
        assert_eq!(sink.visible(), counted(&records()));
    }
}

#[test]
fn a_job_whose_commit_hangs_can_be_cancelled() {
    let (faults, control) = (Faults::never(), JobControl::new());
    faults.add(Target::of(Operation::Put).path("manifest/").nth(0), Fault::Hangs);
    let storage = faults.wrap(&Storage::in_memory().unwrap());
    let checkpointing = CheckpointConfig::new(storage, NEVER).commit_timeout(Duration::from_millis(300));
    let config = JobConfig::default().checkpointing(checkpointing).restart(RestartStrategy::None);
    let pipeline = pipeline(VecSource::new(&records(), 1).gated(1_000), &VecSink::default());
    std::thread::scope(|scope| {
        let job = scope.spawn(|| run(&pipeline, config, &control));
        let request = control.trigger_checkpoint();
        faults.wait_injected(1);
        control.cancel();
        assert!(request.wait().is_err());
        drop(job.join().unwrap());
    });
}

/// Has a backlog as long as the flag is set.
struct PiledUp(VecSource<u64>, Arc<AtomicBool>);

struct PiledUpReader(VecReader<u64>, Arc<AtomicBool>);

impl SourceFactory for PiledUp {
    type Source = PiledUpReader;

    fn open(&self, context: SourceContext<(u64, u64)>) -> Result<PiledUpReader> {
        Ok(PiledUpReader(self.0.open(context)?, self.1.clone()))
    }
}

impl Source for PiledUpReader {
    type Out = u64;
    type Position = (u64, u64);

    fn poll(&mut self, max: usize, output: &mut Batch<u64>) -> Result<SourceStatus> {
        self.0.poll(max, output)
    }

    fn has_backlog(&self) -> bool {
        self.1.load(SeqCst)
    }

    fn positions(&self) -> Result<Vec<(u64, u64)>> {
        self.0.positions()
    }
}

#[test]
fn a_backlog_has_an_interval_of_its_own() {
    let (sink, events, control) = (VecSink::default(), Events::new(), JobControl::new());
    // Only the end of the backlog brings the first periodic checkpoint forward.
    let checkpointing = CheckpointConfig::new(Storage::in_memory().unwrap(), Duration::from_millis(1))
        .initial_delay(NEVER)
        .backlog_interval(Duration::ZERO);
    let config =
        JobConfig::default().parallelism(2).checkpointing(checkpointing).observer(Arc::clone(&events) as _);
    let (source, backlog) = (VecSource::new(&records(), 2).gated(500), Arc::new(AtomicBool::new(true)));
    let pipeline = pipeline(PiledUp(source.clone(), backlog.clone()), &sink);
    let report = std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control)));
        for _ in 0..5 {
            control.trigger_checkpoint().wait().unwrap();
        }
        let done = |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done >= 1_000);
        events.wait(|events| events.iter().any(done));
        assert!(!events.all().iter().any(is_periodic), "none meanwhile");
        backlog.store(false, SeqCst);
        events.wait(|events| events.iter().any(is_periodic));
        source.open_gate();
        job.join().unwrap()
    });
    assert_eq!(report.unwrap().outcome, Outcome::Finished);
    assert_eq!(sink.visible(), counted(&records()));
}
