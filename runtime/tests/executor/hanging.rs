//! A store that does not answer: the upload of one checkpoint hangs, and the job goes on without it.

use std::time::Duration;

use crate::common::*;
use strandline_checkpoint_storage::Storage;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_runtime::*;

/// The segment of one subtask hangs for ever; the next checkpoint is stored meanwhile and completes, and the
/// job ends as if nothing had been.
#[test]
fn an_upload_that_hangs_delays_no_later_checkpoint() {
    let records: Vec<u64> = (0..10_000).map(|i| i * 7 % 300).collect();
    let source = VecSource { step: 50, ..VecSource::new(&records, 4) }.gated(1_250);
    let (sink, events, control) = (VecSink::default(), Events::new(), JobControl::new());
    let faults = Faults::on(Target::of(Operation::Put).path("segments/").nth(0), Fault::Hangs);
    let storage = faults.wrap(&Storage::in_memory().unwrap());
    let pipeline = counting(&source, &sink);
    let checkpointing = CheckpointConfig::new(storage, Duration::from_secs(100_000)).max_concurrent(2);
    let config = JobConfig::default()
        .parallelism(2)
        .checkpointing(checkpointing)
        .restart(RestartStrategy::None)
        .observer(events.clone());
    let report = std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control)));
        events.wait(|events| {
            events.iter().any(|event| matches!(event, JobEvent::Progress(progress) if progress.done >= 5_000))
        });
        control.trigger_checkpoint();
        faults.wait_injected(1);
        control.trigger_checkpoint();
        events.wait_completed(1);
        source.open_gate();
        job.join().unwrap()
    });
    let report = report.unwrap();
    assert_eq!((report.restarts, report.aborted_checkpoints, report.checkpoints.len()), (0, 1, 2));
    assert_eq!(sink.visible(), counted(&records));
}

/// The upload of a savepoint hangs while checkpoints after it complete and are swept. Then it goes on, and
/// the savepoint completes late, whole, and is not what the job resumes from.
#[test]
fn a_slow_savepoint_delays_no_checkpoint_and_completes_late() {
    let records: Vec<u64> = (0..10_000).map(|i| i * 7 % 300).collect();
    let source = VecSource { step: 50, ..VecSource::new(&records, 4) }.gated(1_250);
    let (sink, events, control) = (VecSink::default(), Events::new(), JobControl::new());
    let plain = Storage::in_memory().unwrap();
    let faults = Faults::on(Target::of(Operation::Put).path("segments/").nth(0), Fault::Held);
    let storage = faults.wrap(&plain);
    let pipeline = counting(&source, &sink);
    let checkpointing =
        CheckpointConfig::new(storage, Duration::from_secs(100_000)).retained(std::num::NonZeroUsize::MIN);
    let config = JobConfig::default()
        .parallelism(2)
        .checkpointing(checkpointing)
        .restart(RestartStrategy::None)
        .observer(events.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control)));
        events.wait(|events| {
            events.iter().any(|event| matches!(event, JobEvent::Progress(progress) if progress.done >= 5_000))
        });
        control.trigger_savepoint();
        faults.wait_injected(1);
        for completed in 1..=2 {
            control.trigger_checkpoint();
            events.wait_completed(completed);
            runtime.block_on(plain.sweep()).unwrap();
        }
        faults.release();
        events.wait_completed(3);
        let history = runtime.block_on(plain.history()).unwrap();
        assert_eq!(history.latest().unwrap().checkpoint.0, 3);
        let savepoint = history.completed.iter().find(|completed| completed.is_savepoint()).unwrap();
        assert_eq!(savepoint.checkpoint.0, 1);
        source.open_gate();
        job.join().unwrap()
    });
    let report = report.unwrap();
    let order: Vec<u64> = report.checkpoints.iter().map(|report| report.checkpoint.0).collect();
    assert_eq!((report.aborted_checkpoints, &order[..]), (0, &[2, 3, 1, 4][..]));
    assert_eq!(sink.visible(), counted(&records));
    let savepoint = runtime.block_on(plain.verify(strandline_state_api::CheckpointId(1))).unwrap();
    assert!(savepoint.is_good(), "{savepoint}");
}
