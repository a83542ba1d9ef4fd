//! What a failure looks like from outside, and what time looks like after one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_runtime::*;
use strandline_state_api::*;

fn restarting() -> Option<RestartStrategy> {
    Some(RestartStrategy::FixedDelay { attempts: 1000, delay: Duration::ZERO })
}

fn often(storage: &Storage) -> CheckpointConfig {
    CheckpointConfig::new(storage.clone(), Duration::from_millis(1)).tolerable_failures(u32::MAX)
}

/// Fails, one way or the other, at the number 13.
struct Superstitious {
    panics: bool,
    kind: ErrorKind,
}

impl Operator for Superstitious {
    type Key = u64;
    type In = ();
    type Out = u64;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(&mut self, _: (), ctx: &mut Context<'_, B, u64>) -> Result<()> {
        match *ctx.key() {
            13 if self.panics => panic!("thirteen!"),
            13 => Err(Error::new(self.kind, "thirteen!")),
            n => {
                ctx.emit(n);
                Ok(())
            }
        }
    }
}

#[test]
fn an_error_of_an_operator_reaches_the_caller_with_names() {
    for (panics, parallelism) in [(false, 1), (true, 1), (false, 3), (true, 3)] {
        let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
        let records: Vec<u64> = (0..100_000).map(|i| i % 50).collect();
        pipeline
            .source("numbers", VecSource::new(&records, 3))
            .key_by(|n| (n, ()))
            .process("superstitious", move |_| Ok(Superstitious { panics, kind: ErrorKind::User }))
            .sink("results", VecSink::default());
        let config = JobConfig::default().parallelism(parallelism).batch_size(16).channel_capacity(1);
        let error = run(&pipeline, config, &JobControl::new()).unwrap_err();
        let subtask = KeyGroup::of(13_u64.key_hash()).subtask(parallelism).to_string();
        assert_eq!(error.kind(), ErrorKind::User);
        assert_eq!(error.context("operator"), Some("superstitious"), "{error}");
        assert_eq!(error.context("subtask"), Some(subtask.as_str()), "{error}");
        assert_eq!(error.context("job"), Some("job"));
        assert!(error.to_string().contains("thirteen!"), "{error}");
    }
}

/// An error that may be gone at the next attempt uses up the restarts; one of the user's code that comes back
/// at the same record ends the job with the second.
#[test]
fn a_restart_strategy_gives_up_with_the_last_error() {
    for (kind, wanted) in [(ErrorKind::Unavailable, 3), (ErrorKind::User, 1)] {
        gives_up(kind, wanted);
    }
}

fn gives_up(kind: ErrorKind, wanted: u32) {
    let source = VecSource::new(&[1, 2, 13], 1);
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    pipeline
        .source("numbers", source)
        .key_by(|n| (n, ()))
        .process("superstitious", move |_| Ok(Superstitious { panics: false, kind }))
        .sink("results", VecSink::default());
    let restarts = Arc::new(AtomicU32::new(0));
    let seen = restarts.clone();
    let observer = move |event: &JobEvent| {
        if let JobEvent::Restarting { error, restart, .. } = event {
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("thirteen!"));
            seen.store(*restart, SeqCst);
        }
    };
    let config = JobConfig::default()
        .restart(RestartStrategy::FixedDelay { attempts: 3, delay: Duration::ZERO })
        .observer(Arc::new(observer));
    let error = run(&pipeline, config, &JobControl::new()).unwrap_err();
    assert!(error.to_string().contains("thirteen!") && error.context("key") == Some("13"), "{error}");
    assert_eq!(restarts.load(SeqCst), wanted);
}

/// Lights `fuse` at each of the first `failures` starts.
fn relight(fuse: Fuse, failures: u32, records: i64, seed: u64) -> impl Fn(&JobEvent) + Send + Sync {
    let left = AtomicU32::new(failures);
    let random = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
    move |event| {
        if matches!(event, JobEvent::Started { .. }) && left.load(SeqCst) > 0 {
            left.fetch_sub(1, SeqCst);
            fuse.set(random.lock().unwrap().i64(1..records));
        }
    }
}

#[test]
fn windows_and_their_timers_survive_failures_and_rescaling() {
    let records = disordered(20_000);
    for seed in 0..cases(6) {
        let source = VecSource { step: 20, ..VecSource::new(&records, 1) };
        let sink = VecSink::default();
        let storage = Storage::in_memory().unwrap();
        let job = || {
            let pipeline = Pipeline::new("windows", MemoryBackendFactory::default());
            pipeline
                .source("events", source.clone())
                .timestamps(millis(DISORDER), time_of)
                .key_by(|(key, _, value)| (key, value))
                .process("sums", |ctx| WindowSum::open(100, ctx))
                .sink("results", sink.clone());
            pipeline
        };
        let config = |parallelism, observer: Arc<dyn Observer>| {
            JobConfig::default()
                .parallelism(parallelism)
                .batch_size(64)
                .checkpointing(often(&storage))
                .restart(restarting())
                .observer(observer)
        };
        for parallelism in [1, 3] {
            let control = JobControl::new();
            let (stop, left) = (control.clone(), AtomicU32::new(3));
            let observer = move |event: &JobEvent| {
                if let JobEvent::CheckpointCompleted(_) = event
                    && left.fetch_sub(1, SeqCst) <= 1
                {
                    stop.stop();
                }
            };
            run(&job(), config(parallelism, Arc::new(observer)), &control).unwrap();
        }
        let observer = relight(source.fuse.clone(), 3, 6_000, seed);
        let report = run(&job(), config(2, Arc::new(observer)), &JobControl::new()).unwrap();
        assert_eq!(report.late, 0, "seed {seed}: no record is late in any life of the job");
        assert!(sink.visible() == window_sums(&records, 100), "seed {seed}: windows differ");
    }
}

#[test]
fn what_was_late_once_is_late_after_a_restart() {
    // The second half is far behind the first, so all of it is late; a restart in between must not forget
    // that.
    let early = (0..1_000).map(|i| (1, 100_000 + i, 1));
    let records: Vec<Event> = early.chain((0..1_000).map(|i| (1, i, 1))).collect();
    let source = VecSource { step: 10, ..VecSource::new(&records, 1) }.gated(1_000);
    let sink = VecSink::default();
    let storage = Storage::in_memory().unwrap();
    let events = Events::new();
    let pipeline = Pipeline::new("late", MemoryBackendFactory::default());
    pipeline
        .source("events", source.clone())
        .timestamps(millis(10), time_of)
        .key_by(|(key, _, value)| (key, value))
        .process("sums", |ctx| WindowSum::open(100, ctx))
        .sink("results", sink.clone());
    let config = JobConfig::default().checkpointing(often(&storage)).observer(events.clone());
    let control = JobControl::new();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config.clone(), &control).unwrap()));
        events.wait(|events| {
            events.iter().any(|event| matches!(event, JobEvent::Progress(progress) if progress.done == 1_000))
        });
        control.stop();
        assert_eq!(job.join().unwrap().outcome, Outcome::Stopped);
    });
    source.open_gate();
    let report = run(&pipeline, config, &JobControl::new()).unwrap();
    assert_eq!(report.late, 1_000);
    let first: Vec<_> = records[..1_000].to_vec();
    assert_eq!(sink.visible(), window_sums(&first, 100));
}

#[test]
fn what_an_operator_says_at_the_end_is_said_once_whatever_fails_after_it() {
    let records: Vec<u64> = (0..3_000).map(|i| i * 7 % 300).collect();
    let mut failed = 0;
    for seed in 0..cases(15) {
        let source = VecSource { step: 50, ..VecSource::new(&records, 2) };
        let sink = VecSink::default();
        let faults = Faults::on(Target::of(Operation::Put).chance(seed, 0.2), Fault::NotDone);
        faults.add(Target::of(Operation::Claim).chance(seed + 1, 0.2), Fault::NotDone);
        faults.add(Target::of(Operation::Claim).chance(seed + 2, 0.2), Fault::AnswerLost);
        let storage = faults.wrap(&Storage::in_memory().unwrap());
        let pipeline = Pipeline::new("totals", MemoryBackendFactory::default());
        pipeline
            .source("numbers", source.clone())
            .key_by(|n| (n, ()))
            .process("totals", Totals::open)
            .sink("results", sink.clone());
        let observer = relight(sink.commit_fuse.clone(), 2, 4, seed);
        let config = JobConfig::default()
            .parallelism(1 + seed as u32 % 2)
            .batch_size(64)
            .checkpointing(often(&storage))
            .restart(restarting())
            .observer(Arc::new(observer));
        let report = run(&pipeline, config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished);
        assert_eq!(sink.visible(), totals(&records), "seed {seed}");
        failed += u64::from(report.restarts) + report.aborted_checkpoints;
    }
    assert!(failed > 0, "nothing ever failed: the test tests nothing");
}

/// A clock that the test sets.
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}

/// Emits each key a minute of processing time after it came.
struct Later {
    timers: TimerService,
}

impl Operator for Later {
    type Key = u64;
    type In = ();
    type Out = u64;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(&mut self, _: (), ctx: &mut Context<'_, B, u64>) -> Result<()> {
        let now = ctx.processing_time().expect("the executor sets it");
        ctx.state(self.timers).register(now + Duration::from_secs(60)).map(drop)
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        timer: &Timer<u64, ()>,
        ctx: &mut Context<'_, B, u64>,
    ) -> Result<()> {
        assert!(timer.service == self.timers);
        ctx.emit(timer.key);
        Ok(())
    }
}

#[test]
fn processing_timers_fire_without_input_and_after_a_restart() {
    let source = VecSource::new(&[1_u64, 2, 3, 4], 1).gated(2);
    let sink = VecSink::default();
    let storage = Storage::in_memory().unwrap();
    let clock = Arc::new(ManualClock(AtomicI64::new(1_000_000)));
    let run_until = |emitted: u64, done: u64, chain_keyed: bool, advance: i64| {
        let pipeline = Pipeline::new("later", MemoryBackendFactory::default());
        pipeline
            .source("numbers", source.clone())
            .key_by(|n| (n, ()))
            .process("later", |ctx| {
                Ok(Later { timers: ctx.register(&TimerDescriptor::processing_time("later"))? })
            })
            .sink("results", sink.clone());
        let control = JobControl::new();
        let (stop, time) = (control.clone(), clock.clone());
        let observer = move |event: &JobEvent| {
            let JobEvent::Progress(progress) = event else { return };
            if progress.done == done {
                time.0.fetch_add(advance, SeqCst);
            }
            if progress.done == done && progress.emitted == emitted {
                stop.stop();
            }
        };
        let config = JobConfig::default()
            .chain_keyed(chain_keyed)
            .checkpointing(CheckpointConfig::new(storage.clone(), Duration::from_secs(100_000)))
            .clock(clock.clone())
            .observer(Arc::new(observer));
        run(&pipeline, config, &control).unwrap()
    };
    // Read two; their timers are not due when the job stops.
    run_until(0, 2, false, 0);
    assert!(sink.visible().is_empty());
    // A minute passes: they fire although nothing comes in.
    run_until(2, 0, false, 30_000);
    assert_eq!(sink.visible(), [1, 2]);
    // The same for an operator in the thread of its source.
    source.gate.store(4 - 1, SeqCst);
    run_until(1, 1, true, 30_000);
    assert_eq!(sink.visible(), [1, 2, 3]);
}

#[test]
fn a_branch_that_has_ended_says_nothing_twice_while_others_go_on() {
    let records: Vec<u64> = (0..1_000).map(|i| i % 30).collect();
    let (ended, open) = (VecSource::new(&records, 2), VecSource::new(&records, 2).gated(100));
    let (totals_of_ended, counts_of_open) = (VecSink::default(), VecSink::default());
    let storage = Storage::in_memory().unwrap();
    let pipeline = Pipeline::new("branches", MemoryBackendFactory::default());
    pipeline
        .source("ended", ended)
        .key_by(|n| (n, ()))
        .process("totals", Totals::open)
        .sink("totals-sink", totals_of_ended.clone());
    pipeline
        .source("open", open.clone())
        .key_by(|n| (n, ()))
        .process("counts", Count::open)
        .sink("counts-sink", counts_of_open.clone());
    for (parallelism, done) in [(2, 1_200), (1, 0), (3, 1_800)] {
        let (control, events) = (JobControl::new(), Events::new());
        let config = JobConfig::default()
            .parallelism(parallelism)
            .checkpointing(often(&storage))
            .observer(events.clone());
        let last = parallelism == 3;
        if last {
            open.open_gate();
        }
        std::thread::scope(|scope| {
            let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control).unwrap()));
            if last {
                assert_eq!(job.join().unwrap().outcome, Outcome::Finished);
                return;
            }
            // The totals are out, and the job lives on.
            let is_out =
                |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done == done);
            events.wait(|events| events.iter().any(is_out));
            let before = completed(&events.all());
            events.wait_completed(before + 3);
            control.cancel();
            assert_eq!(job.join().unwrap().outcome, Outcome::Cancelled);
        });
        assert_eq!(totals_of_ended.visible(), totals(&records), "at parallelism {parallelism}");
    }
    assert_eq!(counts_of_open.visible(), counted(&records));
}

#[test]
fn an_idle_source_still_says_after_a_restart_how_far_its_time_had_come() {
    let storage = Storage::in_memory().unwrap();
    let sink = VecSink::default();
    let slow: Vec<Event> = vec![(1, 10, 5), (1, 2_000, 7), (1, 2_001, 7)];
    let fast: Vec<Event> = vec![(1, 10_000, 1), (1, 10_001, 1)];
    let (slow, fast) = (VecSource::new(&slow, 1).gated(1), VecSource::new(&fast, 1).gated(1));
    let pipeline = Pipeline::new("idle", MemoryBackendFactory::default());
    let left = pipeline.source("slow", slow.clone()).timestamps(Duration::ZERO, time_of);
    let right = pipeline.source("fast", fast).timestamps(Duration::ZERO, time_of);
    left.union(right)
        .key_by(|(key, _, value)| (key, value))
        .process("sums", |ctx| WindowSum::open(1_000, ctx))
        .sink("results", sink.clone());
    for (gate, read) in [(1, 2), (2, 1)] {
        // After the restart the slow source goes on to 2,000; the fast one, at 10,000 already, emits nothing
        // new.
        slow.gate.store(gate, SeqCst);
        let (control, events) = (JobControl::new(), Events::new());
        let config = JobConfig::default()
            .checkpointing(CheckpointConfig::new(storage.clone(), Duration::from_secs(100_000)))
            .observer(events.clone());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control).unwrap()));
            let is_read =
                |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done == read);
            events.wait(|events| events.iter().any(is_read));
            control.stop();
            job.join().unwrap();
        });
    }
    assert_eq!(
        sink.visible(),
        [(1, 0, 5)],
        "the first window ended with the restored time of the idle source"
    );
}
