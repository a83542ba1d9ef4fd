//! What is reported of a checkpoint that fails, and who hears of it.

use std::sync::{Arc, Mutex};

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_runtime::sink::{DeadOutputs, Sink, SinkContext, SinkFactory, SinkRecovery};
use strandline_runtime::*;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::*;

/// Counts numbers in two subtasks, on a storage with faults, with checkpoints on demand only.
struct Job {
    source: VecSource<u64>,
    faults: Faults,
    storage: Storage,
    control: JobControl,
    events: Arc<Events>,
}

impl Job {
    fn new() -> Self {
        let records: Vec<u64> = (0..1_000).collect();
        let (faults, plain) = (Faults::never(), Storage::in_memory().unwrap());
        let storage = faults.wrap(&plain);
        let source = VecSource::new(&records, 2).gated(400);
        Self { source, faults, storage, control: JobControl::new(), events: Events::new() }
    }

    fn config(&self, change: impl FnOnce(CheckpointConfig) -> CheckpointConfig) -> JobConfig {
        JobConfig::default()
            .parallelism(2)
            .checkpointing(change(CheckpointConfig::new(self.storage.clone(), NEVER)))
            .restart(RestartStrategy::None)
            .observer(self.events.clone())
    }

    fn run(&self, config: JobConfig, meanwhile: impl FnOnce()) -> Result<JobReport> {
        let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
        pipeline
            .source("numbers", self.source.clone())
            .key_by(|n| (n, ()))
            .process("count", Count::open)
            .sink("results", VecSink::default());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| self.events.of(|| run(&pipeline, config, &self.control)));
            self.wait_done();
            meanwhile();
            job.join().unwrap()
        })
    }

    fn wait_done(&self) {
        self.events.wait(|events| {
            let done =
                |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done >= 800);
            events.iter().any(done)
        });
    }
}

/// How often each part is in the text of the error.
fn parts<const N: usize>(error: &Error, parts: [&str; N]) -> [usize; N] {
    parts.map(|part| error.to_string().matches(part).count())
}

#[test]
fn too_many_failures_name_what_failed_and_where_once() {
    let job = Job::new();
    job.faults.add(Target::of(Operation::Put).path("segments/"), Fault::NotDone);
    let config = job.config(|checkpoints| checkpoints.tolerable_failures(0));
    let error = job.run(config, || drop(job.control.trigger_checkpoint())).unwrap_err();
    let once =
        ["operator count", "subtask ", "checkpoint 1", "segments/", "injected fault", "the snapshot failed"];
    assert_eq!(parts(&error, once), [1; 6], "{error}");
    assert_eq!((error.kind(), error.context("job")), (ErrorKind::Unavailable, Some("job")), "{error}");
    assert!(error.message().starts_with("a checkpoint failed"), "{error}");
}

#[test]
fn a_final_checkpoint_that_fails_names_what_failed_and_where_once() {
    let job = Job::new();
    job.faults.add(Target::of(Operation::Put).path("segments/"), Fault::NotDone);
    let config = job.config(|checkpoints| checkpoints.tolerable_failures(u32::MAX));
    let error = job.run(config, || job.control.stop()).unwrap_err();
    assert_eq!(
        parts(&error, ["operator count", "subtask ", "checkpoint 1", "injected fault"]),
        [1; 4],
        "{error}"
    );
    assert!(error.message().starts_with("the final checkpoint could not be taken"), "{error}");
}

#[test]
fn a_commit_that_fails_names_the_file() {
    let job = Job::new();
    job.faults.add(Target::of(Operation::Put).path("manifest/"), Fault::NotDone);
    let config = job.config(|checkpoints| checkpoints.tolerable_failures(0));
    let error = job.run(config, || drop(job.control.trigger_checkpoint())).unwrap_err();
    assert_eq!(parts(&error, ["could not be committed", "manifest/", "injected fault"]), [1; 3], "{error}");
}

#[test]
fn a_request_is_answered_with_its_checkpoint_or_with_the_reason() {
    let job = Job::new();
    let early = job.control.trigger_checkpoint();
    // All state each time: none changes between the checkpoints.
    let kind = SnapshotKind::Full;
    let config = job.config(|checkpoints| checkpoints.tolerable_failures(u32::MAX).kind(kind));
    let report = job.run(config, || {
        assert_eq!(early.wait().unwrap().kind, "api", "asked for before the job ran");
        job.faults.add(Target::of(Operation::Put).path("segments/").times(1), Fault::NotDone);
        let error = job.control.trigger_checkpoint().wait().unwrap_err();
        assert_eq!(parts(&error, ["operator count", "checkpoint 2", "injected fault"]), [1; 3], "{error}");
        let report = futures_of(job.control.trigger_checkpoint()).unwrap();
        assert_eq!(report.checkpoint, CheckpointId(3));
        job.source.open_gate();
    });
    let completed: Vec<_> = report.unwrap().checkpoints.iter().map(|of| of.checkpoint.0).collect();
    assert_eq!(completed, [1, 3, 4]);
    let late = job.control.trigger_checkpoint().wait().unwrap_err();
    assert!(late.to_string().contains("the job ended"), "{late}");
    let aborted = job.events.all().into_iter().find_map(|event| match event {
        JobEvent::CheckpointAborted(aborted) => Some(aborted),
        _ => None,
    });
    let aborted = aborted.unwrap();
    assert_eq!((aborted.checkpoint, aborted.kind), (CheckpointId(2), CheckpointKind::Api));
    assert!(matches!(aborted.reason, AbortReason::Declined(_, DeclineReason::SnapshotFailed)));
    assert_eq!(aborted.cause.unwrap().context("operator"), Some("count"));
}

/// Awaits in a task.
fn futures_of<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let job = Job::new();
    job.faults.add(Target::of(Operation::Put).path("segments/").times(1), Fault::Hangs);
    let (mut hangs, mut queued) = (None, None);
    let config = job.config(|checkpoints| checkpoints);
    let report = job.run(config, || {
        hangs = Some(job.control.trigger_checkpoint());
        job.faults.wait_injected(1);
        queued = Some(job.control.trigger_checkpoint());
        job.control.cancel();
    });
    assert_eq!(report.unwrap().outcome, Outcome::Cancelled);
    for (request, reason) in [(hangs, "the job stopped"), (queued, "the job")] {
        let error = request.unwrap().wait().unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains(reason), "{error}");
    }
    let pipeline = Pipeline::new("none", MemoryBackendFactory::default());
    pipeline.source("numbers", VecSource::new(&[1_u64], 1)).sink("results", VecSink::default());
    let control = JobControl::new();
    let request = control.trigger_checkpoint();
    run(&pipeline, JobConfig::default(), &control).unwrap();
    let error = request.wait().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable), "{error}");
}

/// Who heard that which checkpoint is complete, or why it is not.
type Heard = Arc<Mutex<Vec<(&'static str, CheckpointId, Option<AbortNotice>)>>>;

/// Notes what it hears of checkpoints.
struct Listener(Heard);

impl Operator for Listener {
    type Key = u64;
    type In = ();
    type Out = u64;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(&mut self, _: (), ctx: &mut Context<'_, B, u64>) -> Result<()> {
        ctx.emit(*ctx.key());
        Ok(())
    }

    fn on_checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.0.lock().unwrap().push(("operator", checkpoint, None));
        Ok(())
    }

    fn on_checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()> {
        self.0.lock().unwrap().push(("operator", aborted.checkpoint, Some(aborted.clone())));
        Ok(())
    }
}

impl Sink for Listener {
    type In = u64;
    type Committable = ();
    type Summary = ();

    fn write(&mut self, batch: &mut Batch<u64>) -> Result<()> {
        batch.drain().for_each(drop);
        Ok(())
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.0.lock().unwrap().push(("sink", checkpoint, None));
        Ok(())
    }

    fn checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()> {
        self.0.lock().unwrap().push(("sink", aborted.checkpoint, Some(aborted.clone())));
        Ok(())
    }
}

struct Listeners(Heard);

impl SinkFactory for Listeners {
    type Sink = Listener;

    fn open(&self, _: SinkContext<()>) -> Result<Listener> {
        Ok(Listener(self.0.clone()))
    }

    fn recover(&self, _: &SinkRecovery<'_, ()>) -> Result<()> {
        Ok(())
    }

    fn sweep(&self, _: &DeadOutputs) -> Result<()> {
        Ok(())
    }
}

#[test]
fn operators_and_sinks_hear_how_checkpoints_end() {
    let heard = Heard::default();
    let (faults, events, control) = (Faults::never(), Events::new(), JobControl::new());
    faults.add(Target::of(Operation::Put).path("manifest/").times(2), Fault::NotDone);
    let storage = faults.wrap(&Storage::in_memory().unwrap());
    let source = VecSource::new(&[1_u64, 2, 3, 4], 1).gated(2);
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    let of_operator = heard.clone();
    pipeline
        .source("numbers", source.clone())
        .key_by(|n| (n, ()))
        .process("listener", move |_| Ok(Listener(of_operator.clone())))
        .sink("results", Listeners(heard.clone()));
    let config =
        JobConfig::default().checkpointing(CheckpointConfig::new(storage, NEVER)).observer(events.clone());
    std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control)));
        for request in [JobControl::trigger_checkpoint, JobControl::trigger_savepoint] {
            let error = request(&control).wait().unwrap_err();
            assert!(error.to_string().contains("manifest/"), "{error}");
        }
        control.trigger_checkpoint().wait().unwrap();
        source.open_gate();
        job.join().unwrap().unwrap();
    });
    let all = heard.lock().unwrap().clone();
    for who in ["operator", "sink"] {
        let of: Vec<_> = all.iter().filter(|heard| heard.0 == who).collect();
        assert_eq!(of.iter().map(|heard| heard.1.0).collect::<Vec<_>>(), [1, 2, 3, 4], "{who}");
        for (heard, kind) in of.iter().zip([CheckpointKind::Api, CheckpointKind::Savepoint]) {
            let aborted = heard.2.as_ref().unwrap();
            assert_eq!(aborted.kind, kind, "{who}");
            assert_eq!(aborted.cause.kind(), ErrorKind::Unavailable, "{who}");
            let text = aborted.cause.to_string();
            assert!(text.contains("could not be committed") && text.contains("manifest/"), "{who}: {text}");
        }
        assert!(of[2..].iter().all(|heard| heard.2.is_none()), "{who}: {of:?}");
    }
}
