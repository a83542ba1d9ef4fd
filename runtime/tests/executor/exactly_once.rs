//! Each record counts once, whatever fails: sources, operators, sinks, commits, the store. A mismatch here
//! means that a record was lost or counted twice.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use strandline_checkpoint_storage::Storage;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_runtime::*;
use strandline_state_api::backend::SnapshotKind;

fn records(random: &mut fastrand::Rng, n: usize) -> Vec<u64> {
    (0..n).map(|_| random.u64(0..500)).collect()
}

fn often(storage: Storage, random: &mut fastrand::Rng) -> CheckpointConfig {
    let kind = if random.bool() { SnapshotKind::Incremental } else { SnapshotKind::Full };
    CheckpointConfig::new(storage, Duration::from_millis(1))
        .max_concurrent(random.u32(1..4))
        .tolerable_failures(u32::MAX)
        .kind(kind)
}

/// Lights one of the fuses at every restart, until there have been enough.
fn relight(
    seed: u64,
    failures: u32,
    source: &VecSource<u64>,
    sink: &VecSink<(u64, u64)>,
    total: usize,
) -> impl Fn(&JobEvent) + Send + Sync + 'static {
    let (source, sink) = (source.fuse.clone(), (sink.fuse.clone(), sink.commit_fuse.clone()));
    let (random, left) = (Mutex::new(fastrand::Rng::with_seed(seed)), AtomicU32::new(failures));
    move |event| {
        if !matches!(event, JobEvent::Started { .. }) || left.load(SeqCst) == 0 {
            return;
        }
        left.fetch_sub(1, SeqCst);
        let mut random = random.lock().unwrap();
        let records = random.i64(1..=total as i64 / 2);
        match random.u8(0..3) {
            0 => source.set(records),
            1 => sink.0.set(records),
            _ => sink.1.set(random.i64(1..20)),
        }
    }
}

fn restarting() -> Option<RestartStrategy> {
    Some(RestartStrategy::FixedDelay { attempts: 1000, delay: Duration::ZERO })
}

/// What is read again after a restart counts once in the report.
fn counts_once<T>(report: &JobReport, records: &[T], seed: u64) {
    let sum = |counts: &std::collections::BTreeMap<String, u64>| counts.values().sum::<u64>();
    let by_steps = [&report.too_late_by_operator, &report.left_out_by_operator].map(sum);
    assert_eq!(
        by_steps,
        [records.len() as u64; 2],
        "seed {seed}: counted by the operator and by a step behind it"
    );
    let counted = [&report.read, &report.emitted].map(sum);
    assert_eq!(counted, [records.len() as u64; 2], "seed {seed}: read and emitted");
}

#[test]
fn failures_of_tasks_and_commits_change_nothing_in_the_result() {
    let (mut restarts, mut again) = (0, 0);
    for seed in 0..cases(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let records = records(&mut random, 20_000);
        let source = VecSource { step: 40, ..VecSource::new(&records, 5) };
        let sink = VecSink::default();
        let storage = Storage::in_memory().unwrap();
        let observer = relight(seed, 4, &source, &sink, records.len());
        let config = JobConfig::default()
            .parallelism(random.u32(1..4))
            .batch_size(64)
            .chain_keyed(random.bool())
            .checkpointing(often(storage.clone(), &mut random))
            .restart(restarting())
            .observer(Arc::new(observer));
        let report = run(&counting(&source, &sink), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "seed {seed}");
        assert!(sink.visible() == counted(&records), "seed {seed}: the result differs");
        assert_eq!(sink.staged(), 0, "seed {seed}: everything was committed or removed");
        counts_once(&report, &records, seed);
        restarts += report.restarts;
        again += report.read_again;
    }
    assert!(restarts > 0 && again > 0, "nothing ever failed: the test tests nothing");
}

#[test]
fn failing_snapshots_and_commits_of_the_store_change_nothing_in_the_result() {
    let (mut aborted, mut injected) = (0, 0);
    for seed in 0..cases(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let records = records(&mut random, 20_000);
        let source = VecSource { step: 40, ..VecSource::new(&records, 4) };
        let sink = VecSink::default();
        let faults = Faults::never();
        let (puts, claims) = (random.f64() * 0.15, random.f64() * 0.3);
        faults.add(Target::of(Operation::Put).chance(seed, puts), Fault::NotDone);
        faults.add(Target::of(Operation::Claim).chance(seed + 1, claims), Fault::NotDone);
        faults.add(Target::of(Operation::Claim).chance(seed + 2, claims), Fault::AnswerLost);
        let storage = faults.wrap(&Storage::in_memory().unwrap());
        let observer = relight(seed, 2, &source, &sink, records.len());
        let config = JobConfig::default()
            .parallelism(random.u32(1..4))
            .batch_size(64)
            .checkpointing(often(storage, &mut random))
            .restart(restarting())
            .observer(Arc::new(observer));
        let report = run(&counting(&source, &sink), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "seed {seed}");
        assert!(sink.visible() == counted(&records), "seed {seed}: the result differs");
        counts_once(&report, &records, seed);
        aborted += report.aborted_checkpoints;
        injected += faults.injected();
    }
    assert!(aborted > 0 && injected > 0, "no fault ever hit: the test tests nothing");
}

#[test]
fn stopping_and_resuming_at_other_parallelisms_changes_nothing_in_the_result() {
    for seed in 0..cases(8) {
        let mut random = fastrand::Rng::with_seed(seed);
        let records = records(&mut random, 12_000);
        let source = VecSource { step: 40, ..VecSource::new(&records, 6) };
        let sink = VecSink::default();
        let storage = Storage::in_memory().unwrap();
        let per_split = records.len() as u64 / 6;
        let mut last = None;
        for (i, parallelism) in [1, 2, 3, 1, 4].into_iter().enumerate() {
            // Each run stops after so many checkpoints, while records flow, at the latest behind its gate.
            source.gate.store(per_split * (i as u64 + 1) / 6, SeqCst);
            let control = JobControl::new();
            let (stop, left) = (control.clone(), AtomicU32::new(random.u32(0..6)));
            let observer = move |event: &JobEvent| {
                if let JobEvent::CheckpointCompleted(_) | JobEvent::Started { .. } = event
                    && left.fetch_sub(1, SeqCst) <= 1
                {
                    stop.stop();
                }
            };
            let config = JobConfig::default()
                .parallelism(parallelism)
                .batch_size(32)
                .checkpointing(often(storage.clone(), &mut random))
                .observer(Arc::new(observer));
            let report = run(&counting(&source, &sink), config, &control).unwrap();
            assert_eq!(report.outcome, Outcome::Stopped, "seed {seed}");
            assert_eq!(report.resumed_from, last, "seed {seed}: a run starts where the last one stopped");
            last = report.checkpoints.last().map(|checkpoint| checkpoint.checkpoint);
            assert_eq!(sink.staged(), 0, "seed {seed}: a graceful stop leaves nothing uncommitted");
        }
        source.open_gate();
        let config = JobConfig::default().parallelism(2).checkpointing(often(storage.clone(), &mut random));
        let report = run(&counting(&source, &sink), config.clone(), &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "seed {seed}");
        assert!(sink.visible() == counted(&records), "seed {seed}: the result differs");

        let again = run(&counting(&source, &sink), config, &JobControl::new()).unwrap();
        assert_eq!(again.outcome, Outcome::AlreadyFinished);
        assert_eq!(again.read.values().sum::<u64>(), 0);
        assert!(sink.visible() == counted(&records), "seed {seed}: a finished job was run again");
    }
}

#[test]
fn cancelling_at_any_time_and_resuming_changes_nothing_in_the_result() {
    for seed in 0..cases(8) {
        let mut random = fastrand::Rng::with_seed(seed);
        let records = records(&mut random, 20_000);
        let source = VecSource { step: 40, ..VecSource::new(&records, 5) };
        let sink = VecSink::default();
        let storage = Storage::in_memory().unwrap();
        let mut outcome = Outcome::Cancelled;
        let mut cancels = 0;
        while outcome != Outcome::Finished {
            let control = JobControl::new();
            let (cancel, after) = (control.clone(), random.usize(0..6));
            let seen = AtomicU32::new(0);
            let armed = cancels < 5;
            let observer = move |event: &JobEvent| {
                if let JobEvent::CheckpointCompleted(_) | JobEvent::Started { .. } = event
                    && armed
                    && seen.fetch_add(1, SeqCst) as usize == after
                {
                    cancel.cancel();
                }
            };
            let config = JobConfig::default()
                .parallelism(random.u32(1..4))
                .batch_size(64)
                .checkpointing(often(storage.clone(), &mut random))
                .observer(Arc::new(observer));
            let report = run(&counting(&source, &sink), config, &control).unwrap();
            outcome = report.outcome;
            if let Outcome::AlreadyFinished = outcome {
                break;
            }
            cancels += u32::from(outcome == Outcome::Cancelled);
        }
        assert!(sink.visible() == counted(&records), "seed {seed}: the result differs");
    }
}
