//! Event time over many files: whole jobs over random files, at random parallelisms, that are stopped and
//! killed at random places and go on at other parallelisms.
//!
//! The records of each file are in order, to within the delay of the watermarks. So none is late, and each
//! window has all its records, whatever happens in between. A late record means that a split which was not
//! read yet, or is read elsewhere after a rescale, did not hold its watermark back. A window that is emitted
//! twice with different counts, or too early, shows in the same comparison.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_connectors::{Column, ColumnType, CsvFiles, FileSource, Row};
use strandline_runtime::sink::{DeadOutputs, Sink, SinkContext, SinkFactory, SinkRecovery};
use strandline_runtime::source::{
    PlanContext, Source, SourceContext, SourceFactory, SourceStatus, SourceTime, Unread, Watermarks,
};
use strandline_runtime::{
    CheckpointConfig, JobConfig, JobControl, JobReport, Outcome, Pipeline, RestartStrategy, run,
};
use strandline_state_api::*;

/// Stops or cancels the job when so many records were read.
#[derive(Clone)]
struct Limited<S> {
    source: S,
    left: Arc<AtomicI64>,
    control: JobControl,
    cancels: bool,
}

impl<S: SourceFactory + Clone> SourceFactory for Limited<S> {
    type Source = LimitedReader<S>;

    fn plan(&self, context: PlanContext<<S::Source as Source>::Position>) -> Result<Unread> {
        self.source.plan(context)
    }

    fn open(&self, context: SourceContext<<S::Source as Source>::Position>) -> Result<LimitedReader<S>> {
        Ok(LimitedReader { source: self.source.open(context)?, of: self.clone() })
    }
}

struct LimitedReader<S: SourceFactory> {
    source: S::Source,
    of: Limited<S>,
}

impl<S: SourceFactory> Source for LimitedReader<S> {
    type Out = <S::Source as Source>::Out;
    type Position = <S::Source as Source>::Position;

    fn poll(&mut self, max: usize, output: &mut Batch<Self::Out>) -> Result<SourceStatus> {
        if self.of.left.load(SeqCst) <= 0 {
            return Ok(SourceStatus::Idle);
        }
        let status = self.source.poll(max, output)?;
        let read = output.len() as i64;
        let before = self.of.left.fetch_sub(read, SeqCst);
        if before > 0 && before <= read {
            if self.of.cancels { self.of.control.cancel() } else { self.of.control.stop() }
        }
        Ok(status)
    }

    fn positions(&self) -> Result<Vec<Self::Position>> {
        self.source.positions()
    }

    fn time(&mut self) -> Option<SourceTime> {
        self.source.time()
    }
}

/// Keeps what was ever emitted. After a kill the same results come again.
#[derive(Clone, Default)]
struct Collect(Arc<Mutex<BTreeSet<(String, i64, u64)>>>);

impl SinkFactory for Collect {
    type Sink = Self;

    fn open(&self, _: SinkContext<()>) -> Result<Self> {
        Ok(self.clone())
    }

    fn recover(&self, _: &SinkRecovery<'_, ()>) -> Result<()> {
        Ok(())
    }

    fn sweep(&self, _: &DeadOutputs) -> Result<()> {
        Ok(())
    }
}

impl Sink for Collect {
    type In = (String, i64, u64);
    type Committable = ();
    type Summary = ();

    fn write(&mut self, batch: &mut Batch<Self::In>) -> Result<()> {
        self.0.lock().unwrap().extend(batch.drain().map(|(result, _)| result));
        Ok(())
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: CheckpointId) -> Result<()> {
        Ok(())
    }
}

/// Counts in tumbling windows, and the most windows that were open at once.
struct WindowCount {
    counts: ValueState<u64, TimeWindow>,
    timers: TimerService<TimeWindow>,
    size: i64,
    open: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
}

impl WindowCount {
    fn open<B: KeyedBackend<Key = String>>(
        size: i64,
        (open, most): &(Arc<AtomicI64>, Arc<AtomicI64>),
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<Self> {
        Ok(Self {
            counts: ctx.register(&ValueDescriptor::new("counts").namespaced())?,
            timers: ctx.register(&TimerDescriptor::event_time("windows"))?,
            size,
            open: Arc::clone(open),
            most: Arc::clone(most),
        })
    }
}

impl Operator for WindowCount {
    type Key = String;
    type In = ();
    type Out = (String, i64, u64);
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = String>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = TimeWindow::tumbling(ctx.timestamp().expect("rows have times"), self.size);
        if Some(window.max_timestamp()) <= ctx.watermark() {
            return Ok(());
        }
        let count = ctx.state_in(self.counts, &window).update_or_default(|count| {
            *count += 1;
            *count
        })?;
        if count == 1 {
            let open = self.open.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(open, SeqCst);
        }
        ctx.state_in(self.timers, &window).register(window.max_timestamp())?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = String>>(
        &mut self,
        timer: &Timer<String, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = timer.namespace;
        let count = ctx.state_in(self.counts, &window).get()?.copied().unwrap_or(0);
        ctx.state_in(self.counts, &window).clear()?;
        self.open.fetch_sub(1, SeqCst);
        let key = ctx.key().clone();
        ctx.emit((key, window.start, count));
        Ok(())
    }
}

/// Rows of a time and a key.
type File = Vec<(i64, u8)>;

/// One start of the job: how parallel, and after how many records it ends, killed or stopped.
#[derive(Clone, Copy, Debug)]
struct Start {
    parallelism: u32,
    records: i64,
    cancels: bool,
    batch_size: usize,
}

#[derive(Clone, Debug)]
struct Case {
    files: Vec<File>,
    starts: Vec<Start>,
    split_size: u64,
    delay: i64,
    drift: Option<i64>,
    window: i64,
}

/// Times from a beginning on, in order to within `delay`.
fn file(delay: i64) -> impl Strategy<Value = File> {
    let row = (0i64..6, 0..=delay, 0u8..3);
    (0i64..300, proptest::collection::vec(row, 0..60)).prop_map(|(mut time, rows)| {
        let row = |(step, early, key)| {
            time += step;
            (time - early, key)
        };
        rows.into_iter().map(row).collect()
    })
}

fn case() -> impl Strategy<Value = Case> {
    let start = (1u32..5, 1i64..150, any::<bool>(), 1usize..20).prop_map(
        |(parallelism, records, cancels, batch_size)| Start { parallelism, records, cancels, batch_size },
    );
    (0i64..8).prop_flat_map(move |delay| {
        (
            proptest::collection::vec(file(delay), 1..8),
            proptest::collection::vec(start.clone(), 1..5),
            prop_oneof![10u64..200, Just(1 << 20)],
            proptest::option::weighted(0.3, 0i64..50),
            1i64..60,
        )
            .prop_map(move |(files, starts, split_size, drift, window)| Case {
                files,
                starts,
                split_size,
                delay,
                drift,
                window,
            })
    })
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

struct Job {
    folder: tempfile::TempDir,
    storage: Storage,
    results: Collect,
    windows: (Arc<AtomicI64>, Arc<AtomicI64>),
}

impl Job {
    /// The names are in order only where numbers count.
    fn new(files: &[File]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (i, rows) in files.iter().enumerate() {
            let text: String = rows.iter().map(|(time, key)| format!("{time},k{key}\n")).collect();
            fs::write(folder.path().join(format!("f-{}.csv", i + 5)), text).unwrap();
        }
        let (storage, results) = (Storage::in_memory().unwrap(), Collect::default());
        Self { folder, storage, results, windows: Default::default() }
    }

    fn run(&self, case: &Case, start: Start) -> JobReport {
        let columns = vec![Column::new("time", ColumnType::Int), Column::new("key", ColumnType::Text)];
        let time = |row: &Row| row.get(0).as_int().map(Timestamp::from_millis);
        let watermarks = Watermarks::delayed(millis(case.delay)).max_drift(case.drift.map(millis));
        let source = FileSource::new(self.folder.path(), CsvFiles::new(columns).header(false))
            .split_size(case.split_size)
            .event_time(watermarks, time);
        let control = JobControl::new();
        let left = Arc::new(AtomicI64::new(start.records));
        let source = Limited { source, left, control: control.clone(), cancels: start.cancels };
        let pipeline = Pipeline::new("windows", MemoryBackendFactory::default());
        let (window, windows) = (case.window, self.windows.clone());
        pipeline
            .source("files", source)
            .key_by(|row: Row| (row.get(1).to_string(), ()))
            .process("windows", move |ctx| WindowCount::open(window, &windows, ctx))
            .sink("results", self.results.clone());
        let checkpoints = CheckpointConfig::new(self.storage.clone(), Duration::from_millis(1));
        let config = JobConfig::default()
            .parallelism(start.parallelism)
            .batch_size(start.batch_size)
            .checkpointing(checkpoints)
            .restart(RestartStrategy::None);
        run(&pipeline, config, &control).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn wanted(case: &Case) -> BTreeSet<(String, i64, u64)> {
    let mut counts = BTreeMap::new();
    for (time, key) in case.files.iter().flatten() {
        *counts.entry((format!("k{key}"), TimeWindow::tumbling(*time, case.window).start)).or_insert(0) += 1;
    }
    counts.into_iter().map(|((key, start), count)| (key, start, count)).collect()
}

fn check(case: &Case) -> TestCaseResult {
    let job = Job::new(&case.files);
    let last = Start { records: i64::MAX, cancels: false, ..case.starts[0] };
    for &start in case.starts.iter().chain([&last]) {
        let report = job.run(case, start);
        prop_assert_eq!(report.late, 0);
        if report.outcome == Outcome::Finished {
            break;
        }
    }
    prop_assert_eq!(&*job.results.0.lock().unwrap(), &wanted(case));
    Ok(())
}

/// The base number of cases, `STRANDLINE_CASES` times.
fn cases(base: u32) -> u32 {
    let times = std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    base.saturating_mul(times.unwrap_or(1))
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases(512))
    })]

    #[test]
    fn windows_are_whole_at_every_parallelism_and_over_every_stop(case in case()) {
        check(&case)?;
    }
}

/// Twelve files, one after the other in time: the windows close as the files are read, so that few of them
/// are open at once, although the last name in byte order is of the second file.
#[test]
fn windows_close_while_later_files_wait() {
    let files: Vec<File> = (0..12).map(|day| (0..50).map(|i| (day * 1_000 + i * 10, 0)).collect()).collect();
    let start = Start { parallelism: 1, records: i64::MAX, cancels: false, batch_size: 16 };
    let case = Case { files, starts: vec![start], split_size: 1 << 20, delay: 0, drift: None, window: 100 };
    let job = Job::new(&case.files);
    let report = job.run(&case, start);
    assert_eq!((report.outcome, report.late), (Outcome::Finished, 0));
    assert_eq!(*job.results.0.lock().unwrap(), wanted(&case));
    let most = job.windows.1.load(SeqCst);
    assert!(most <= 6, "{most} of 60 windows were open at once");
}

/// Files over the same time: the subtask reads them in turns, and all of them hold the windows back.
#[test]
fn files_over_the_same_time_are_read_in_turns() {
    let files: Vec<File> = (0..9).map(|file| (0..400).map(|i| (i * 10 + file, 0)).collect()).collect();
    let start = Start { parallelism: 2, records: i64::MAX, cancels: false, batch_size: 32 };
    let drift = Some(200);
    let case = Case { files, starts: vec![start], split_size: 1 << 20, delay: 0, drift, window: 100 };
    let job = Job::new(&case.files);
    let report = job.run(&case, start);
    assert_eq!((report.outcome, report.late), (Outcome::Finished, 0));
    assert_eq!(*job.results.0.lock().unwrap(), wanted(&case));
    let most = job.windows.1.load(SeqCst);
    assert!(most <= 30, "{most} of 40 windows were open at once");
}
