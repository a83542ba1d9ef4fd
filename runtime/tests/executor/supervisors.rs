//! Two supervisors that keep one job running.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_runtime::*;
use strandline_state_api::*;

/// Each starts the job again whenever the other has overtaken it. Every start ends a run that has completed a
/// checkpoint at least, so the job gets to its end, and there are no more starts than checkpoints.
#[test]
fn two_supervisors_of_one_job_let_each_other_get_on() {
    let records: Vec<u64> = (0..20_000).map(|i| i * 7 % 300).collect();
    let source = VecSource { step: 10, ..VecSource::new(&records, 1) };
    let (sink, events, storage) = (VecSink::default(), Events::new(), Storage::in_memory().unwrap());
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    pipeline
        .source("numbers", source)
        .key_by(|n| (n, ()))
        .process("count", Count::open)
        .sink("results", sink.clone());
    let checkpointing = CheckpointConfig::new(storage.clone(), Duration::from_millis(2))
        .give_way(Duration::from_secs(100_000))
        .tolerable_failures(u32::MAX);
    let config = JobConfig::default()
        .batch_size(10)
        .checkpointing(checkpointing)
        .restart(RestartStrategy::None)
        .observer(Arc::clone(&events) as _);
    let supervise = || loop {
        match run(&pipeline, config.clone(), &JobControl::new()) {
            Ok(report) => return report.outcome,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Fenced, "{error}"),
        }
    };
    std::thread::scope(|scope| {
        let supervisors = [scope.spawn(supervise), scope.spawn(supervise)];
        let ended = supervisors.map(|supervisor| supervisor.join().unwrap());
        assert!(ended.contains(&Outcome::Finished), "{ended:?}");
    });
    assert_eq!(sink.visible(), counted(&records));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let starts = runtime.block_on(storage.history()).unwrap().term;
    let completed = completed(&events.all()) as u64;
    assert!(starts.0 <= completed + 2, "{starts} starts for {completed} checkpoints");
}

/// A start that sleeps before it restores finds its checkpoint swept when it wakes: it was overtaken, and its
/// checkpoints are not damaged.
#[test]
fn a_start_whose_checkpoint_a_successor_swept_was_overtaken() {
    let records: Vec<u64> = (0..5_000).map(|i| i * 7 % 300).collect();
    let source = VecSource { step: 10, ..VecSource::new(&records, 1) }.gated(2_000);
    let (sink, storage) = (VecSink::default(), Storage::in_memory().unwrap());
    let pipeline = counting(&source, &sink);
    let config = |storage: &Storage| {
        let checkpointing = CheckpointConfig::new(storage.clone(), Duration::from_millis(5));
        let checkpointing = checkpointing.cleanup_pause(Duration::ZERO).retained(NonZeroUsize::MIN);
        JobConfig::default().checkpointing(checkpointing).restart(RestartStrategy::None)
    };
    let control = JobControl::new();
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| run(&pipeline, config(&storage), &control));
        control.trigger_checkpoint().wait().unwrap();
        control.stop();
        first.join().unwrap().unwrap()
    });
    assert_eq!(first.outcome, Outcome::Stopped);
    let faults = Faults::on(Target::of(Operation::Len).path("manifest/").nth(0), Fault::Held);
    let error = std::thread::scope(|scope| {
        let stale = scope.spawn(|| run(&pipeline, config(&faults.wrap(&storage)), &JobControl::new()));
        faults.wait_injected(1);
        source.open_gate();
        let successor = run(&pipeline, config(&storage), &JobControl::new()).unwrap();
        assert_eq!(successor.outcome, Outcome::Finished);
        faults.release();
        stale.join().unwrap().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(error.context("its term"), Some("3"), "{error}");
    assert_eq!(sink.visible(), counted(&records));
}
