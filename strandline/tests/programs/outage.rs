//! A store that is down for long under a loop and under a pipeline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline::prelude::*;
use strandline::runtime::{JobEvent, Outcome, RestartStrategy};
use strandline::storage::faults::{Fault, Faults};

use crate::counting::Counting;
use crate::words;

/// As many as two minutes with a checkpoint each second make.
const ATTEMPTS: u64 = 120;

async fn with_a_checkpoint() -> Storage {
    let storage = Storage::in_memory().unwrap();
    let mut counting = Counting::open(&storage).await.unwrap();
    counting.count(500).unwrap();
    counting.job.checkpoint().await.unwrap();
    storage
}

/// Works until the store goes down, at any operation of a checkpoint, and through the outage; then a second
/// process takes over.
#[tokio::test]
async fn a_loop_goes_on_without_its_store_and_loses_nothing() {
    // The operations of a start are the same each time.
    let start = Faults::never();
    Counting::open(&start.wrap(&with_a_checkpoint().await)).await.unwrap();
    for operation in 0..12 {
        let storage = with_a_checkpoint().await;
        let faults = Faults::crash_at(start.operations() + operation, Fault::AnswerLost);
        let mut counting = Counting::open(&faults.wrap(&storage)).await.unwrap();
        for attempt in 1..=ATTEMPTS {
            counting.count(500 + attempt).unwrap();
            // The outage begins within the first checkpoints.
            let ended = counting.job.checkpoint().await;
            assert!(ended.is_err() || attempt < 3, "operation {operation}, attempt {attempt}");
        }
        faults.stop();
        counting.count(500 + ATTEMPTS + 1).unwrap();
        counting.job.checkpoint().await.unwrap();
        drop(counting);
        let mut restored = Counting::open(&storage).await.unwrap();
        assert_eq!(restored.position().unwrap(), 500 + ATTEMPTS + 1);
        restored.assert_exact();
    }
}

/// The store is down from some operation on until so many more operations have failed.
fn run_through_an_outage(operation: u64, tolerable_failures: u32) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    words::write_text(dir.path());
    let faults = Faults::crash_at(operation, Fault::AnswerLost);
    let storage = faults.wrap(&Storage::in_dir(dir.path().join("checkpoints")).unwrap());
    let mut checkpoints = CheckpointConfig::new(storage, Duration::from_millis(2));
    checkpoints = checkpoints.tolerable_failures(tolerable_failures);
    let (restarts, reasons) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (restarted, aborted, down) = (restarts.clone(), reasons.clone(), faults.clone());
    let observer = move |event: &JobEvent| {
        match event {
            JobEvent::Restarting { .. } => drop(restarted.fetch_add(1, Ordering::Relaxed)),
            JobEvent::CheckpointAborted(why) => aborted.lock().unwrap().push(why.to_string()),
            _ => {}
        }
        if down.injected() >= ATTEMPTS {
            down.stop();
        }
    };
    let config = JobConfig::default()
        .parallelism(2)
        .checkpointing(checkpoints)
        .restart(RestartStrategy::FixedDelay { attempts: u32::MAX, delay: Duration::ZERO })
        .observer(Arc::new(observer));
    // Slow enough that the outage ends before the job does.
    let pipeline = words::pipeline(dir.path(), Some(8_000)).unwrap();
    let report = run(&pipeline, config, &JobControl::new()).unwrap();
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(faults.injected() >= ATTEMPTS, "{} operations failed", faults.injected());
    for reason in reasons.lock().unwrap().iter().filter(|reason| reason.contains("injected")) {
        let times = |word: &str| reason.matches(word).count();
        assert_eq!((times("storage file://"), times(", operator ") <= 1), (1, true), "{reason}");
    }
    words::assert_exact(dir.path());
    restarts.load(Ordering::Relaxed)
}

#[test]
fn a_pipeline_that_tolerates_failures_works_through_an_outage() {
    for operation in [20, 21, 22, 23] {
        run_through_an_outage(operation, u32::MAX);
    }
}

#[test]
fn a_pipeline_that_restarts_until_the_store_is_back_is_exact() {
    let restarts: u64 = [20, 21, 22, 23].map(|operation| run_through_an_outage(operation, 2)).iter().sum();
    assert!(restarts > 0);
}
