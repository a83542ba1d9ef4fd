//! A job that had ended in part or as a whole, and is started again with another input.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::*;

fn pipeline() -> Pipeline<MemoryBackendFactory> {
    Pipeline::new("job", MemoryBackendFactory::default())
}

fn config(storage: &Storage) -> JobConfig {
    let checkpointing = CheckpointConfig::new(storage.clone(), Duration::from_secs(100_000));
    JobConfig::default().parallelism(2).checkpointing(checkpointing).restart(RestartStrategy::None)
}

fn source(records: &[u64]) -> VecSource<u64> {
    VecSource::new(records, 2)
}

/// Runs a job that sums up `records` at the end, to its end.
fn ended(records: &[u64], storage: &Storage, sink: &VecSink<(u64, u64)>) {
    let pipeline = pipeline();
    pipeline
        .source("numbers", source(records))
        .key_by(|n| (n, ()))
        .process("totals", Totals::open)
        .sink("results", sink.clone());
    let report = run(&pipeline, config(storage), &JobControl::new()).unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    assert_eq!(sink.visible(), totals(records));
}

#[test]
fn an_ended_operator_with_a_new_input_is_refused() {
    let (storage, sink) = (Storage::in_memory().unwrap(), VecSink::default());
    ended(&[1, 2, 2], &storage, &sink);
    let pipeline = pipeline();
    let more = pipeline.source("more", source(&[2, 3]));
    pipeline
        .source("numbers", source(&[1, 2, 2]))
        .map(|n| n)
        .union(more)
        .key_by(|n| (n, ()))
        .process("totals", Totals::open)
        .sink("results", sink.clone());
    let error = run(&pipeline, config(&storage), &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert_eq!((error.context("operator"), error.context("input")), (Some("totals"), Some("more")));
    assert!(error.context("checkpoint").is_some() && error.to_string().contains("is new"), "{error}");
    assert_eq!(sink.visible(), totals(&[1, 2, 2]), "and nothing is done");
}

#[test]
fn a_new_operator_reads_a_new_input_beside_an_ended_one() {
    let (storage, sink) = (Storage::in_memory().unwrap(), VecSink::default());
    ended(&[1, 2, 2], &storage, &sink);
    let pipeline = pipeline();
    let more = pipeline.source("more", source(&[7, 7])).key_by(|n| (n, ())).process("others", Totals::open);
    pipeline
        .source("numbers", source(&[1, 2, 2]))
        .key_by(|n| (n, ()))
        .process("totals", Totals::open)
        .union(more)
        .sink("results", sink.clone());
    let report = run(&pipeline, config(&storage), &JobControl::new()).unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    assert_eq!(sink.visible(), totals(&[1, 2, 2, 7, 7]), "a sink that had ended goes on");
}

/// One branch ends before the checkpoint that the job resumes from. Then its input grows.
#[test]
fn an_ended_source_is_not_read_again() {
    let (storage, sink, others) = (Storage::in_memory().unwrap(), VecSink::default(), VecSink::default());
    let open = VecSource::new(&[5_u64, 5, 5, 5], 2).gated(1);
    let job = |numbers: &[u64]| {
        let pipeline = pipeline();
        let totals = pipeline.source("numbers", source(numbers)).key_by(|n| (n, ()));
        totals.process("totals", Totals::open).sink("results", sink.clone());
        let counts = pipeline.source("open", open.clone()).key_by(|n| (n, ()));
        counts.process("counts", Count::open).sink("others", others.clone());
        pipeline
    };
    let (events, control) = (Events::new(), JobControl::new());
    let (first, of_first) = (job(&[1, 2, 2]), config(&storage).observer(Arc::clone(&events) as _));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| events.of(|| run(&first, of_first, &control)));
        for n in 1.. {
            control.trigger_checkpoint();
            events.wait_completed(n);
            if !sink.visible().is_empty() {
                break;
            }
        }
        control.cancel();
        assert_eq!(running.join().unwrap().unwrap().outcome, Outcome::Cancelled);
    });
    open.open_gate();
    let report = run(&job(&[1, 2, 2, 9, 9]), config(&storage), &JobControl::new()).unwrap();
    assert_eq!((report.outcome, report.read["numbers"]), (Outcome::Finished, 0));
    assert_eq!(sink.visible(), totals(&[1, 2, 2]), "once, and nothing of what came later");
    assert_eq!(others.visible(), counted(&[5, 5, 5, 5]));
}
