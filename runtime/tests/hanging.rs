//! A store that does not answer: the upload of one checkpoint hangs, and the job goes on without it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::*;
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
