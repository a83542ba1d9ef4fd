//! What any host of pipelines must show: one job with windows, timers, a broadcast side and a file sink, exactly once.
//!
//! A host of [`strandline_runtime::host`] runs each of these functions in a test of its own, with what runs a pipeline
//! on it as the [`HostSubject`]; [`BareHost`] is the smallest one that passes. [`exactly_once_over_kills`] needs a
//! program that runs [`job`] on the host, to be killed.

mod bare;
pub mod job;

use std::fmt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use strandline_checkpoint_storage::Storage;
use strandline_runtime::{JobConfig, JobControl, JobReport, Outcome, Pipeline};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;
use tempfile::TempDir;

pub use bare::BareHost;
use job::{Orders, SPLITS, config, expected, pipeline, stop_after, written};

const ORDERS: u64 = 20_000;
const OFTEN: Duration = Duration::from_millis(20);

type RunOn<F> = dyn Fn(&Pipeline<F>, JobConfig, &JobControl) -> Result<JobReport> + Send + Sync;

/// A host under test, with the state backend of its operators.
pub struct HostSubject<F> {
    name: String,
    factory: F,
    run: Box<RunOn<F>>,
}

impl<F: BackendFactory> HostSubject<F> {
    /// The host on which `run` runs a pipeline, with the parallelism of the configuration. `name` is for messages.
    pub fn new(
        name: &str,
        factory: F,
        run: impl Fn(&Pipeline<F>, JobConfig, &JobControl) -> Result<JobReport> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.to_owned(), factory, run: Box::new(run) }
    }

    fn run(&self, orders: &Orders, dir: &TempDir, config: JobConfig, control: &JobControl) -> JobReport {
        let pipeline = pipeline(self.factory.clone(), orders, &dir.path().join("output"));
        (self.run)(&pipeline, config, control).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

impl<F> fmt::Debug for HostSubject<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[track_caller]
fn assert_exact(dir: &Path, orders: u64, of: &dyn fmt::Debug) {
    assert!(written(&dir.join("output")) == expected(orders), "{of:?}: each result must be there once");
}

/// One, two and three subtasks compute the same with checkpoints: each result once, no order behind the watermark,
/// each timer in its turn.
pub fn computes_the_same_at_any_parallelism<F: BackendFactory>(subject: &HostSubject<F>) {
    for parallelism in 1..=3 {
        let dir = dir();
        let config = config(&dir.path().join("state"), OFTEN).parallelism(parallelism);
        let report = subject.run(&Orders::new(ORDERS), &dir, config, &JobControl::new());
        assert_eq!((report.outcome, report.read["orders"]), (Outcome::Finished, ORDERS), "{subject:?}");
        assert_exact(dir.path(), ORDERS, subject);
    }
}

/// A job without checkpoints runs to its end.
pub fn runs_without_checkpoints<F: BackendFactory>(subject: &HostSubject<F>) {
    let (dir, config) = (dir(), JobConfig::default().parallelism(2));
    let report = subject.run(&Orders::new(ORDERS), &dir, config, &JobControl::new());
    assert_eq!((report.outcome, report.checkpoints.len()), (Outcome::Finished, 0), "{subject:?}");
    assert_exact(dir.path(), ORDERS, subject);
}

/// A job that fails goes back to its newest checkpoint, on the host itself.
pub fn restarts_from_the_newest_checkpoint<F: BackendFactory>(subject: &HostSubject<F>) {
    let dir = dir();
    let orders = Orders { pause: Duration::from_micros(200), ..Orders::new(ORDERS) };
    orders.fuse.store(ORDERS as i64 / 2, SeqCst);
    let config = config(&dir.path().join("state"), OFTEN).parallelism(3);
    let report = subject.run(&orders, &dir, config, &JobControl::new());
    assert_eq!((report.outcome, report.restarts), (Outcome::Finished, 1), "{subject:?}");
    assert_exact(dir.path(), ORDERS, subject);
}

/// Each host resumes from what the one before it has stored, at another parallelism; all in turns, so that every one
/// of them comes behind every other.
pub fn each_resumes_what_the_others_stored<F: BackendFactory>(subjects: &[&HostSubject<F>]) {
    let dir = dir();
    // Round by round, each further apart than the last.
    let steps = (1..subjects.len().max(2))
        .flat_map(|step| (0..=subjects.len()).map(move |turn| (turn * step) % subjects.len()));
    let turns: Vec<_> = steps.collect();
    let (orders, count) = (Orders::gated(ORDERS, 0), turns.len() as u64);
    let mut last = None;
    for (turn, of) in (1..).zip(turns) {
        let (subject, is_last) = (subjects[of], turn == count);
        // Each reads its share of every split, and stops behind its third checkpoint.
        orders.gate.store(if is_last { u64::MAX } else { turn * ORDERS / SPLITS / count }, SeqCst);
        let config = config(&dir.path().join("state"), OFTEN).parallelism(1 + (turn * 2) as u32 % 3);
        let (config, control) = if is_last { (config, JobControl::new()) } else { stop_after(config, 3) };
        let report = subject.run(&orders, &dir, config, &control);
        let ended = if is_last { Outcome::Finished } else { Outcome::Stopped };
        assert_eq!((report.outcome, report.resumed_from), (ended, last), "{subject:?}");
        last = report.checkpoints.last().map(|report| report.checkpoint);
    }
    assert_exact(dir.path(), ORDERS, &"the last of them");
}

/// Processes of a host, which are killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// The processes; the first one ends when the job does.
    pub children: Vec<Child>,
}

impl Running {
    /// Waits until so many more checkpoints are complete in the storage in `state`.
    pub fn wait_for_checkpoints(&mut self, state: &Path, more: u64) {
        let before = completed(state);
        while completed(state) < before + more {
            let ended = self.children.first_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the job has more to read, and its process ended: {ended:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills one of them, as `kill -9` does.
    pub fn kill(&mut self, process: usize) {
        self.children[process].kill().unwrap();
        self.children[process].wait().unwrap();
    }

    /// Waits for all of them to end.
    pub fn wait(&mut self) -> Vec<ExitStatus> {
        self.children.iter_mut().map(|child| child.wait().unwrap()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns the number of the newest checkpoint that is complete; 0 where none is.
pub fn completed(state: &Path) -> u64 {
    let storage = Storage::in_dir(state).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let completed = runtime.block_on(storage.completed()).unwrap_or_default();
    completed.last().map_or(0, |newest| newest.checkpoint.0)
}

/// Kills all processes of a job so many times, each time with another parallelism or number of them, and lets it end.
///
/// `start` starts the processes of the host for attempt 0, 1, 2 … of [`job`], with [`Orders::gated`] orders,
/// checkpoints in the directory `state` and files in `output` of the directory; the number is how many orders of each
/// split they may read.
pub fn exactly_once_over_kills(orders: u64, kills: u32, start: impl Fn(&Path, u32, u64) -> Running) {
    let dir = dir();
    for attempt in 0..kills {
        let gate = u64::from(attempt + 1) * orders / SPLITS / u64::from(kills + 1);
        // All of them are killed when it is dropped.
        start(dir.path(), attempt, gate).wait_for_checkpoints(&dir.path().join("state"), 2);
    }
    let ended = start(dir.path(), kills, u64::MAX).wait();
    assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
    assert_exact(dir.path(), orders, &"after all kills");
}
