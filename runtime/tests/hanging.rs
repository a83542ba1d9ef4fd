//! A store that does not answer: the upload of one checkpoint hangs, and the job goes on without it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::faulty::faulty;
use common::*;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;

/// The segment of one subtask hangs for ever; the next checkpoint is stored meanwhile and completes, and the job
/// ends as if nothing had been.
#[test]
fn an_upload_that_hangs_delays_no_later_checkpoint() {
    let records: Vec<u64> = (0..10_000).map(|i| i * 7 % 300).collect();
    let source = VecSource { step: 50, ..VecSource::new(&records, 4) }.gated(1_250);
    let (sink, events, control) = (VecSink::default(), Events::new(), JobControl::new());
    let (storage, faults) = faulty(&Storage::in_memory().unwrap(), 1);
    *faults.only.lock().unwrap() = Some("segments");
    faults.hanging.store(1, SeqCst);
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
        faults.wait_hung(1);
        control.trigger_checkpoint();
        events.wait_completed(1);
        source.open_gate();
        job.join().unwrap()
    });
    let report = report.unwrap();
    assert_eq!((report.restarts, report.aborted_checkpoints, report.checkpoints.len()), (0, 1, 2));
    assert_eq!(sink.visible(), counted(&records));
}
