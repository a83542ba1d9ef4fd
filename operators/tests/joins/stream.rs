//! Random streams of two inputs, and a harness that runs an operator over them with interruptions.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strandline_backend_memory::MemoryBackendFactory;
#[cfg(not(feature = "rocksdb"))]
use strandline_backend_memory::MemoryBackendFactory as SecondFactory;
#[cfg(feature = "rocksdb")]
use strandline_backend_rocksdb::{RocksBackendFactory as SecondFactory, RocksOptions};
use strandline_operators::Either;
use strandline_operators::join::JoinKind;
use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::{Open, Operator, Result, Timestamp};
use strandline_state_testing::Harness;

/// Records with their times.
pub(crate) type Timed<T> = Vec<(T, Option<i64>)>;

/// A row: a number of few, and the number of the record, which distinguishes rows.
pub(crate) type Row = (i64, i64);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Record { left: bool, key: u64, offset: i64, number: i64, removes: bool },
    Advance(i64),
    Interrupt(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) steps: Vec<Step>,
    pub(crate) delay: i64,
}

/// A step with the clock applied; `watermark` is that before the step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) left: bool,
    pub(crate) key: u64,
    pub(crate) time: i64,
    pub(crate) row: Row,
    pub(crate) removes: bool,
    pub(crate) watermark: Option<i64>,
}

impl Record {
    /// Whether event time has passed it.
    pub(crate) fn is_late(&self) -> bool {
        Some(self.time) <= self.watermark
    }

    pub(crate) fn either(&self) -> Either<Row, Row> {
        if self.left { Either::Left(self.row) } else { Either::Right(self.row) }
    }
}

pub(crate) fn stream() -> impl Strategy<Value = Stream> {
    let record = (any::<bool>(), 0..3u64, -12..=6i64, 0..4i64, 0..4u8);
    let step = prop_oneof![
        10 => record.prop_map(|(left, key, offset, number, removes)| {
            Step::Record { left, key, offset, number, removes: removes == 0 }
        }),
        4 => (0..6i64).prop_map(Step::Advance),
        1 => (10..40i64).prop_map(Step::Advance),
        1 => (1..=4u32).prop_map(Step::Interrupt),
    ];
    (proptest::collection::vec(step, 1..60), 0..6i64).prop_map(|(steps, delay)| Stream { steps, delay })
}

pub(crate) fn kind() -> impl Strategy<Value = JoinKind> {
    prop_oneof![Just(JoinKind::Inner), Just(JoinKind::Left), Just(JoinKind::Right), Just(JoinKind::Full)]
}

/// The number of random cases of a test: 300, times `STRANDLINE_CASES` where that is set.
pub(crate) fn cases() -> u32 {
    300 * std::env::var("STRANDLINE_CASES").map_or(1, |times| times.parse::<u32>().unwrap())
}

/// Checks a property of random streams, in memory and for fewer cases on RocksDB, where it is built.
pub(crate) fn check<S: Strategy>(
    settings: S,
    memory: impl Fn(MemoryBackendFactory, &S::Value, &Stream),
    second: impl Fn(SecondFactory, &S::Value, &Stream),
) {
    let strategy = (settings, stream());
    let config = |cases| Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config(cases()))
        .run(&strategy, |(settings, stream)| {
            memory(MemoryBackendFactory::default(), &settings, &stream);
            Ok(())
        })
        .unwrap();
    #[cfg(feature = "rocksdb")]
    let (factory, _dir) = {
        let dir = tempfile::tempdir().unwrap();
        let mut options = RocksOptions::default();
        options.directory = Some(dir.path().into());
        (SecondFactory::new(options).unwrap(), dir)
    };
    #[cfg(not(feature = "rocksdb"))]
    let factory = SecondFactory::default();
    TestRunner::new(config(cases().div_ceil(60)))
        .run(&strategy, |(settings, stream)| {
            second(factory.clone(), &settings, &stream);
            Ok(())
        })
        .unwrap();
}

impl Stream {
    /// Calls `on` with each record.
    pub(crate) fn records(&self) -> Vec<Record> {
        let (mut clock, mut count, mut watermark) = (0, 0, None);
        let mut records = Vec::new();
        for step in &self.steps {
            match *step {
                Step::Record { left, key, offset, number, removes } => {
                    count += 1;
                    let (time, row) = (clock + offset, (number, count));
                    records.push(Record { left, key, time, row, removes, watermark });
                }
                Step::Advance(by) => {
                    clock += by;
                    watermark = Some(clock - self.delay);
                }
                Step::Interrupt(_) => {}
            }
        }
        records
    }

    /// Runs an operator; `of` makes what it takes of a record, or leaves the record out. Returns the output with
    /// its times, and how many entries are left.
    pub(crate) fn run<F, O, M>(
        &self,
        factory: F,
        open: M,
        of: impl Fn(&Record) -> Option<O::In>,
    ) -> (Timed<O::Out>, u64)
    where
        F: BackendFactory,
        O: Operator<Key = u64>,
        M: Fn(&mut Open<'_, F::Backend<u64>, O::Namespace>) -> Result<O>,
    {
        // RocksDB estimates how many entries it has.
        let counts = factory.name() == "memory";
        let mut harness = Harness::new(factory, "operator", open).unwrap();
        let records = self.records();
        let mut next = records.iter();
        let (mut clock, mut output) = (0, Vec::new());
        for step in &self.steps {
            match *step {
                Step::Record { .. } => {
                    let record = next.next().unwrap();
                    if let Some(input) = of(record) {
                        harness.process(record.key, input, record.time).unwrap();
                    }
                }
                Step::Advance(by) => {
                    clock += by;
                    harness.watermark(clock - self.delay).unwrap();
                }
                Step::Interrupt(parallelism) => {
                    output.extend(harness.take_output());
                    let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
                    // What happens now is lost.
                    for record in records.iter().take(5) {
                        if let Some(input) = of(record) {
                            harness.process(record.key, input, record.time).unwrap();
                        }
                    }
                    harness.take_output();
                    harness.restore(&snapshot, parallelism).unwrap();
                }
            }
        }
        harness.end().unwrap();
        output.extend(harness.take_output());
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millis);
        (
            output.into_iter().map(|(output, time)| (output, millis(time))).collect(),
            if counts { harness.entries() } else { 0 },
        )
    }
}

/// Compares two multisets.
#[track_caller]
pub(crate) fn assert_same<T: Ord + Debug>(
    actual: impl IntoIterator<Item = T>,
    expected: impl IntoIterator<Item = T>,
) {
    let mut counts: BTreeMap<T, i64> = BTreeMap::new();
    actual.into_iter().for_each(|item| *counts.entry(item).or_default() += 1);
    expected.into_iter().for_each(|item| *counts.entry(item).or_default() -= 1);
    counts.retain(|_, count| *count != 0);
    assert!(counts.is_empty(), "more (+) and fewer (-) than expected: {counts:#?}");
}
