//! A process that is held and wakes when its successor has ended: it takes nothing from it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline::connectors::{
    CsvRows, FileSink, FileSinkConfig, FileSource, PendingFile, Row, TextLines, Throttled,
};
use strandline::prelude::*;
use strandline::runtime::sink::{DeadOutputs, SinkContext, SinkFactory, SinkRecovery};
use strandline::runtime::{JobEvent, JobReport, Observer, Outcome};

const LINES: usize = 40_000;

/// Where a process is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between its claim and the recovery of its output.
    Recovery,
    /// Between its first commit and what follows from it.
    Sweep,
}

/// A sink that is held at one point: it reports that it is there, and waits to be let go.
struct Held {
    sink: FileSink<Row, CsvRows>,
    at: Option<At>,
    hook: Mutex<(Sender<()>, Receiver<()>)>,
}

impl Held {
    fn hold(&self, at: At) {
        if self.at == Some(at) {
            let hook = self.hook.lock().unwrap();
            hook.0.send(()).unwrap();
            hook.1.recv().unwrap();
        }
    }
}

impl SinkFactory for Held {
    type Sink = <FileSink<Row, CsvRows> as SinkFactory>::Sink;

    fn open(&self, context: SinkContext<PendingFile>) -> Result<Self::Sink> {
        self.sink.open(context)
    }

    fn recover(&self, recovery: &SinkRecovery<'_, PendingFile>) -> Result<()> {
        self.hold(At::Recovery);
        self.sink.recover(recovery)
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        self.hold(At::Sweep);
        self.sink.sweep(dead)
    }
}

/// Cancels the job with its third checkpoint.
struct Cancel(AtomicUsize, Arc<JobControl>);

impl Observer for Cancel {
    fn event(&self, event: &JobEvent) {
        if matches!(event, JobEvent::CheckpointCompleted(_)) && self.0.fetch_add(1, SeqCst) == 2 {
            self.1.cancel();
        }
    }
}

/// The test's end of a held sink.
struct Hook {
    arrived: Receiver<()>,
    go: Sender<()>,
}

struct Job(tempfile::TempDir);

impl Job {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = (0..LINES).map(|line| format!("{line}\n")).collect();
        fs::write(folder.path().join("lines.txt"), lines).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The pipeline, where need be so slow that it never comes to its end, and held.
    fn pipeline(&self, is_slow: bool, at: Option<At>) -> (Pipeline<MemoryBackendFactory>, Hook) {
        let ((here, arrived), (go, there)) = (channel(), channel());
        let sink = FileSink::new(FileSinkConfig::new(self.path("results")), CsvRows::new()).unwrap();
        let source = FileSource::new(self.path("lines.txt"), TextLines);
        let pipeline = Pipeline::new("held", MemoryBackend::factory());
        pipeline
            .source("lines", Throttled::new(source, is_slow.then_some(100)))
            .sink("results", Held { sink, at, hook: Mutex::new((here, there)) });
        (pipeline, Hook { arrived, go })
    }

    fn config(&self) -> JobConfig {
        let storage = Storage::open(self.path("checkpoints").to_str().unwrap()).unwrap();
        let checkpoints = CheckpointConfig::new(storage, Duration::from_millis(10));
        JobConfig::default().checkpointing(checkpoints)
    }

    fn run(&self) -> JobReport {
        run(&self.pipeline(false, None).0, self.config(), &JobControl::new()).unwrap()
    }

    /// Names and contents in the directory of results.
    fn results(&self) -> (BTreeSet<String>, Vec<usize>) {
        let (mut names, mut lines) = (BTreeSet::new(), Vec::new());
        for entry in fs::read_dir(self.path("results")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.starts_with('.') {
                lines.extend(read(&path));
            }
            if ![".part.owner", ".part.committing"].contains(&name.as_str()) {
                names.insert(name);
            }
        }
        lines.sort_unstable();
        (names, lines)
    }
}

fn read(path: &Path) -> Vec<usize> {
    fs::read_to_string(path).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

fn hold(at: At) {
    let job = Job::new();
    let control = Arc::new(JobControl::new());
    let observer = Arc::new(Cancel(AtomicUsize::new(0), Arc::clone(&control)));
    let begun = run(&job.pipeline(true, None).0, job.config().observer(observer), &control).unwrap();
    assert_eq!(begun.outcome, Outcome::Cancelled);

    let (pipeline, hook) = job.pipeline(true, Some(at));
    let fenced = std::thread::scope(|scope| {
        let held = scope.spawn(|| run(&pipeline, job.config(), &JobControl::new()));
        hook.arrived.recv().unwrap();
        let successor = job.run();
        assert_eq!(successor.outcome, Outcome::Finished);
        assert!(successor.resumed_from.is_some());
        let before = job.results();
        assert_eq!(before.1, (0..LINES).collect::<Vec<_>>(), "{at:?}: the successor is complete");
        hook.go.send(()).unwrap();
        let fenced = held.join().unwrap().unwrap_err();
        let after = job.results();
        assert_eq!(after.1, before.1, "{at:?}: the held process took results, or added some");
        fenced
    });
    assert_eq!(fenced.kind(), ErrorKind::Fenced, "{fenced}");
    assert_eq!(fenced.context("its term"), Some("3"), "{fenced}");

    // What it may have left goes with the next start, also of a job that has ended.
    assert_eq!(job.run().outcome, Outcome::AlreadyFinished);
    let (names, lines) = job.results();
    assert_eq!(lines, (0..LINES).collect::<Vec<_>>());
    assert!(names.iter().all(|name| name.starts_with("part-")), "{names:?}");
}

#[test]
fn a_process_that_is_held_before_its_recovery_takes_nothing() {
    hold(At::Recovery);
}

#[test]
fn a_process_that_is_held_after_its_first_commit_takes_nothing() {
    hold(At::Sweep);
}
