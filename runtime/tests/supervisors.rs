//! Two supervisors that keep one job running.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
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
