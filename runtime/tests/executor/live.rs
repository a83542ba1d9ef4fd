//! Live state: what operators hold at one instant of a running job. It must be consistent with the positions of the
//! sources, and the job's checkpoints and output must not differ for it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::*;
use futures::executor::block_on;
use strandline_checkpoint_storage::{Manifest, Storage, decode_each};
use strandline_runtime::*;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{ErrorKind, OperatorId};
use strandline_state_reader::{At, CheckpointReader, Decoders, Value};

const KEYS: u64 = 500;

fn numbers(count: u64) -> Vec<u64> {
    (0..count).map(|n| n * 7919 % KEYS).collect()
}

fn open(live: &LiveState) -> CheckpointReader {
    let opened = CheckpointReader::of_manifest(live.manifest().clone(), live.segments(), Decoders::default());
    block_on(opened).unwrap()
}

/// The count of each number.
fn counts(checkpoint: &CheckpointReader) -> BTreeMap<u64, u64> {
    let Some(state) = checkpoint.states().iter().find(|state| state.name() == "counts") else {
        return BTreeMap::new();
    };
    let rows = block_on(checkpoint.scan(state).read_all()).unwrap();
    let number = |value: Option<Value>| match value {
        Some(Value::UInt(number)) => number,
        other => panic!("no number: {other:?}"),
    };
    rows.into_iter().map(|row| (number(row.key), number(row.value))).collect()
}

/// How many records the sources had read.
fn read(manifest: &Manifest) -> u64 {
    let subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    let positions = subtasks.flat_map(|subtask| decode_each::<(u64, u64)>(&subtask.positions).unwrap());
    positions.map(|(_, position)| position).sum()
}

fn config(storage: &Storage, interval: Duration) -> CheckpointConfig {
    CheckpointConfig::new(storage.clone(), interval).initial_delay(interval).cleanup_pause(Duration::ZERO)
}

fn job(parallelism: u32) -> JobConfig {
    JobConfig::default().parallelism(parallelism).batch_size(8).restart(RestartStrategy::None)
}

/// Each live state holds what the sources had read, and so does each checkpoint beside them; the output is exact.
fn is_consistent(config: impl Fn(CheckpointConfig) -> CheckpointConfig, job: JobConfig) {
    let (storage, input) = (Storage::in_memory().unwrap(), numbers(60_000));
    let source = VecSource { step: 16, ..VecSource::new(&input, 4) }.gated(1_000);
    let sink = VecSink::default();
    let control = JobControl::new();
    let checkpointing = config(self::config(&storage, Duration::from_millis(4)));
    let job = job.checkpointing(checkpointing);
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| run(&counting(&source, &sink), job, &control).unwrap());
        for gate in 2..=12 {
            let live = control.live_state().wait().unwrap();
            source.gate.store(gate * 1_000, std::sync::atomic::Ordering::SeqCst);
            let (checkpoint, manifest) = (open(&live), live.manifest());
            assert_eq!(counts(&checkpoint).values().sum::<u64>(), read(manifest));
            seen.push(read(manifest));
        }
        source.open_gate();
        assert_eq!(running.join().unwrap().outcome, Outcome::Finished);
    });
    assert!(seen.is_sorted() && seen.last() > seen.first(), "{seen:?}");
    assert_eq!(sink.visible(), counted(&input));
    let last = block_on(CheckpointReader::open(&storage, At::Latest)).unwrap();
    assert_eq!(counts(&last).values().sum::<u64>(), input.len() as u64);
}

#[test]
fn live_state_is_consistent_beside_checkpoints() {
    is_consistent(|config| config, job(2));
}

#[test]
fn live_state_is_consistent_in_chained_jobs_with_several_checkpoints_at_once() {
    is_consistent(|config| config.max_concurrent(3), job(1).chain_keyed(true));
}

#[test]
fn live_state_is_consistent_beside_full_checkpoints() {
    is_consistent(|config| config.kind(SnapshotKind::Full).retained(NonZeroUsize::MIN), job(3));
}

/// Where a job waits at a gate: its live state, taken often, and then its checkpoint.
struct Paused {
    storage: Storage,
    source: VecSource<u64>,
    sink: VecSink<(u64, u64)>,
    control: JobControl,
    config: CheckpointConfig,
}

impl Paused {
    fn new() -> Self {
        let storage = Storage::in_memory().unwrap();
        let source = VecSource::new(&numbers(4_000), 2).gated(1_000);
        let config = config(&storage, Duration::from_secs(1_000));
        Self { storage, source, sink: VecSink::default(), control: JobControl::new(), config }
    }

    fn run(&self, work: impl FnOnce() + Send) -> JobReport {
        thread::scope(|scope| {
            let job = job(2).checkpointing(self.config.clone());
            let running = scope.spawn(|| run(&counting(&self.source, &self.sink), job, &self.control));
            work();
            self.source.open_gate();
            running.join().unwrap().unwrap()
        })
    }

    /// Live state once all that the gate lets by is counted.
    fn live(&self) -> LiveState {
        loop {
            let live = self.control.live_state().wait().unwrap();
            if read(live.manifest()) == 2_000 {
                return live;
            }
        }
    }
}

#[test]
fn live_and_stored_state_of_a_paused_job_are_the_same() {
    let paused = Paused::new();
    paused.run(|| {
        let before = counts(&open(&paused.live()));
        assert_eq!(before.values().sum::<u64>(), 2_000);
        let report = paused.control.trigger_checkpoint().wait().unwrap();
        let stored = CheckpointReader::open(&paused.storage, At::Checkpoint(report.checkpoint));
        assert_eq!(counts(&block_on(stored).unwrap()), before);
        // Behind a checkpoint it builds on that one's files, and holds nothing itself.
        let live = paused.live();
        assert_eq!(counts(&open(&live)), before);
        assert_eq!(live.held_bytes(), 0);
        assert!(live.manifest().segments().next().is_some());
    });
}

/// What a checkpoint stores behind live states is what changed since the last one: nothing more, nothing less.
#[test]
fn live_state_takes_nothing_from_the_next_checkpoint() {
    let written = |lives: usize| {
        let paused = Paused::new();
        let mut written = Vec::new();
        paused.run(|| {
            drop(paused.live());
            written.push(paused.stored_bytes());
            paused.source.gate.store(1_200, std::sync::atomic::Ordering::SeqCst);
            while read(paused.control.live_state().wait().unwrap().manifest()) < 2_400 {}
            (0..lives).for_each(|_| drop(paused.control.live_state().wait().unwrap()));
            written.push(paused.stored_bytes());
        });
        written
    };
    assert_eq!(written(0), written(20));
}

#[test]
fn a_file_that_live_state_builds_on_stays_until_nobody_reads_it() {
    let mut paused = Paused::new();
    paused.config = paused.config.clone().kind(SnapshotKind::Full).retained(NonZeroUsize::MIN);
    paused.run(|| {
        drop(paused.live());
        paused.control.trigger_checkpoint().wait().unwrap();
        let live = paused.live();
        let checkpoint = open(&live);
        paused.source.gate.store(1_500, std::sync::atomic::Ordering::SeqCst);
        for _ in 0..5 {
            paused.control.trigger_checkpoint().wait().unwrap();
        }
        drop(live);
        assert_eq!(counts(&checkpoint).values().sum::<u64>(), 2_000);
    });
    let report = block_on(paused.storage.plan_sweep()).unwrap();
    assert!(report.deleted.is_empty(), "the last sweep left {:?}", report.deleted);
}

#[test]
fn one_key_is_looked_up_without_a_barrier() {
    let paused = Paused::new();
    let count = OperatorId::new("count").unwrap();
    paused.run(|| {
        let all = counts(&open(&paused.live()));
        for key in [0, 7, 499, 500, u64::MAX] {
            let found = paused.control.look_up(&count, "counts", &key).wait().unwrap();
            let expected = all.get(&key).map(|n| (key, *n)).into_iter().collect();
            assert_eq!(counts(&open(&found)), expected);
        }
        let kind = |operator: &str, state: &str, key: Vec<u8>| {
            let operator = OperatorId::new(operator).unwrap();
            paused.control.look_up_encoded(&operator, state, key).wait().unwrap_err().kind()
        };
        assert_eq!(kind("other", "counts", vec![0; 8]), ErrorKind::NotFound);
        assert_eq!(kind("count", "count", vec![0; 8]), ErrorKind::NotFound);
        assert_eq!(kind("count", "counts", vec![0; 7]), ErrorKind::Invalid);
        assert_eq!(kind("numbers", "counts", vec![0; 8]), ErrorKind::Unavailable);
        paused.control.trigger_checkpoint().wait().unwrap();
    });
    assert_eq!(paused.sink.visible(), counted(&numbers(4_000)));
    let error = paused.control.look_up(&count, "counts", &0u64).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn sinks_pre_commit_for_checkpoints_alone() {
    let paused = Paused::new();
    paused.run(|| {
        drop(paused.live());
        (0..5).for_each(|_| drop(paused.control.live_state().wait().unwrap()));
        assert_eq!((paused.sink.staged(), paused.sink.visible().len()), (0, 0));
    });
    assert_eq!(paused.sink.visible(), counted(&numbers(4_000)));
}

#[test]
fn a_job_without_live_state_says_why() {
    let mut paused = Paused::new();
    paused.config = paused.config.clone().live_bytes(100);
    paused.run(|| {
        let error = loop {
            if let Err(error) = paused.control.live_state().wait() {
                break error;
            }
        };
        assert_eq!((error.kind(), error.context("limit")), (ErrorKind::Unavailable, Some("100")));
        assert_eq!(error.context("operator"), Some("count"));
        paused.control.trigger_checkpoint().wait().unwrap();
    });
    assert_eq!(paused.sink.visible(), counted(&numbers(4_000)), "the job goes on");
    let error = paused.control.live_state().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let (source, control) = (VecSource::new(&numbers(100), 1).gated(50), JobControl::new());
    thread::scope(|scope| {
        scope.spawn(|| run(&counting(&source, &VecSink::default()), job(1), &control).unwrap());
        assert_eq!(control.live_state().wait().unwrap_err().kind(), ErrorKind::Invalid);
        source.open_gate();
    });
}

#[test]
fn live_state_that_takes_too_long_is_given_up_and_the_next_is_not() {
    let mut paused = Paused::new();
    paused.config = paused.config.clone().timeout(Duration::from_millis(20));
    let held = Arc::clone(&paused.sink.hold);
    let mut guard = Some(held.lock().unwrap());
    // From a thread of its own: the guard stays here.
    thread::scope(|scope| {
        let running = scope.spawn(|| paused.run(|| drop(paused.live_in_the_end())));
        let error = loop {
            if let Err(error) = paused.control.live_state().wait() {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.context("subtask").is_some(), "{error}");
        drop(guard.take());
        assert_eq!(running.join().unwrap().outcome, Outcome::Finished);
    });
    assert_eq!(paused.sink.visible(), counted(&numbers(4_000)));
}

impl Paused {
    /// How many bytes of keyed state a checkpoint stores now.
    fn stored_bytes(&self) -> u64 {
        let checkpoint = self.control.trigger_checkpoint().wait().unwrap().checkpoint;
        let stored = block_on(CheckpointReader::open(&self.storage, At::Checkpoint(checkpoint))).unwrap();
        let subtasks = stored.manifest().operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.map(|subtask| subtask.keyed.written_bytes).sum()
    }

    fn live_in_the_end(&self) -> LiveState {
        loop {
            match self.control.live_state().wait() {
                Ok(live) if read(live.manifest()) == 2_000 => return live,
                _ => {}
            }
        }
    }
}
