//! A job that ends while old checkpoints are being removed.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use async_trait::async_trait;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_storage::{BlobStore, Listed, Storage, SweepReport};
use strandline_runtime::*;
use strandline_state_api::Result;

/// What is seen of a delete.
#[derive(Debug, PartialEq, Eq)]
enum Delete {
    Begun,
    /// Its future is gone, with or without a panic.
    Over {
        panicking: bool,
    },
}

/// Objects that are deleted only once that is allowed.
#[derive(Debug)]
struct Slow {
    storage: Storage,
    allowed: Receiver<()>,
    seen: Sender<Delete>,
}

struct Over(Sender<Delete>);

impl Drop for Over {
    fn drop(&mut self) {
        let _ = self.0.send(Delete::Over { panicking: std::thread::panicking() });
    }
}

#[async_trait]
impl BlobStore for Slow {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.storage.blobs().put(path, bytes).await
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.storage.blobs().len(path).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.storage.blobs().read(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.storage.blobs().list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let _over = Over(self.seen.clone());
        self.seen.send(Delete::Begun).unwrap();
        // As a store does that waits for an answer or for its next attempt: on the clock of the runtime.
        while self.allowed.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.storage.blobs().delete(path).await
    }
}

/// A job that was stopped, and whose next run ends with its only checkpoint, which replaces that of the
/// first.
struct Job {
    storage: Storage,
    sink: VecSink<(u64, u64)>,
    allow: Sender<()>,
    seen: Receiver<Delete>,
    events: Arc<Events>,
}

impl Job {
    fn new() -> Self {
        let plain = Storage::in_memory().unwrap();
        let sink = VecSink::default();
        let control = JobControl::new();
        let stop = control.clone();
        let observer = Arc::new(move |event: &JobEvent| {
            if matches!(event, JobEvent::Started { .. }) {
                stop.stop();
            }
        });
        assert_eq!(run_on(&plain, &sink, &input(500), observer, &control).outcome, Outcome::Stopped);
        let (allow, allowed) = unbounded();
        let (sender, seen) = unbounded();
        let slow = Slow { storage: plain.clone(), allowed, seen: sender };
        let storage = Storage::from_parts("slow", Arc::new(slow), Arc::clone(plain.claims()));
        Self { storage, sink, allow, seen, events: Events::new() }
    }

    fn run(&self) -> JobReport {
        self.run_over(&input(1_000), &JobControl::new())
    }

    fn run_over(&self, source: &VecSource<u64>, control: &JobControl) -> JobReport {
        self.events.of(|| run_on(&self.storage, &self.sink, source, self.events.clone(), control))
    }

    /// Lets everything be deleted that ever will be.
    fn allow_all(&self) {
        for _ in 0..1_000 {
            self.allow.send(()).unwrap();
        }
    }

    fn sweep_again(&self) -> SweepReport {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.storage.sweep()).unwrap()
    }

    fn cleaned(&self) -> Vec<(u64, Option<String>)> {
        let cleaned = |event| match event {
            JobEvent::Cleaned { removed, error } => Some((removed, error.map(|error| error.to_string()))),
            _ => None,
        };
        self.events.all().into_iter().filter_map(cleaned).collect()
    }
}

/// Numbers that end at 1,000, read up to `gate`.
fn input(gate: u64) -> VecSource<u64> {
    let records: Vec<u64> = (0..1_000).collect();
    VecSource::new(&records, 1).gated(gate)
}

fn run_on(
    storage: &Storage,
    sink: &VecSink<(u64, u64)>,
    source: &VecSource<u64>,
    observer: Arc<dyn Observer>,
    control: &JobControl,
) -> JobReport {
    let pipeline = counting(source, sink);
    let checkpointing =
        CheckpointConfig::new(storage.clone(), Duration::from_secs(100_000)).retained(NonZeroUsize::MIN);
    let config =
        JobConfig::default().checkpointing(checkpointing).restart(RestartStrategy::None).observer(observer);
    run(&pipeline, config, control).unwrap()
}

#[test]
fn a_job_that_ends_awaits_the_sweep_under_way() {
    let job = Job::new();
    let report = std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run());
        assert_eq!(job.seen.recv_timeout(Duration::from_secs(60)), Ok(Delete::Begun));
        // The last checkpoint is complete: the job is over but for the sweep, or soon will be.
        job.events.wait_completed(1);
        assert!(!running.is_finished());
        job.allow_all();
        running.join().unwrap()
    });
    assert_eq!(report.outcome, Outcome::Finished);
    let cleaned = job.cleaned();
    assert!(matches!(cleaned[..], [(removed, None)] if removed > 0), "{cleaned:?}");
    assert!(job.seen.try_iter().all(|seen| seen != Delete::Over { panicking: true }));
}

#[test]
fn a_sweep_that_does_not_come_to_its_end_is_stopped_before_the_job_returns() {
    let job = Job::new();
    let report = job.run();
    assert_eq!((report.outcome, report.checkpoints.len()), (Outcome::Finished, 1));
    let seen: Vec<_> = job.seen.try_iter().collect();
    let begun = seen.iter().filter(|seen| **seen == Delete::Begun).count();
    let over = seen.iter().filter(|seen| **seen == Delete::Over { panicking: false }).count();
    assert!(begun > 0 && begun == over && seen.len() == begun + over, "{seen:?}");
    let cleaned = job.cleaned();
    assert!(matches!(&cleaned[..], [(0, Some(error))] if error.contains("ended")), "{cleaned:?}");
    // What it left, the next one takes.
    job.allow_all();
    assert!(!job.sweep_again().deleted.is_empty());
}

#[test]
fn the_last_sweep_follows_one_that_is_under_way() {
    let job = Job::new();
    let (source, control) = (input(700), JobControl::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run_over(&source, &control));
        job.events.wait(|events| events.iter().any(|event| matches!(event, JobEvent::Started { .. })));
        control.trigger_checkpoint();
        // The checkpoint of the first run is on its way out when this one's follows it.
        assert_eq!(job.seen.recv_timeout(Duration::from_secs(60)), Ok(Delete::Begun));
        source.open_gate();
        job.events.wait_completed(2);
        job.allow_all();
        assert_eq!(running.join().unwrap().outcome, Outcome::Finished);
    });
    let cleaned = job.cleaned();
    assert!(matches!(cleaned[..], [(first, None), (last, None)] if first > 0 && last > 0), "{cleaned:?}");
    assert_eq!(job.sweep_again().deleted, Vec::<String>::new());
}
