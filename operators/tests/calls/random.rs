//! Random orders of records, replies, failures and interruptions: each record has one answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::calls::{Answer, Calls, Retry};
use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::{Batch, Error, TimeDomain, Timestamp};
use strandline_state_testing::Harness;

use crate::server::Server;

/// One event.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A record of a key.
    Record(u64),
    /// One of the calls that wait has a reply.
    Reply { which: usize, fails: bool },
    /// The processing time goes on.
    Time(i64),
    /// The watermark follows the records, so far behind.
    Watermark(i64),
    /// The job stops after a snapshot, loses what it does then, and continues with so many subtasks.
    Interrupt(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4u64).prop_map(Step::Record),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(which, fails)| Step::Reply { which, fails }),
        4 => (1..20i64).prop_map(Step::Time),
        3 => (0..6i64).prop_map(Step::Watermark),
        1 => (1..=4u32).prop_map(Step::Interrupt),
    ];
    proptest::collection::vec(step, 1..80)
}

/// The value of records whose effects are lost.
const LOST: u64 = 1_000_000;

/// The key and the record of each answer.
type Answers = Vec<(u64, u64)>;

/// What has come out, and how far event time has come.
#[derive(Default)]
struct Output {
    answers: Answers,
    /// The records that came in behind the watermark.
    late: BTreeSet<u64>,
    /// The time that the output has reached.
    reached: Option<Timestamp>,
}

impl Output {
    fn collect(&mut self, answers: Batch<Answer<u64, u64, u64>>, reached: Option<Timestamp>) {
        for (Answer { key, record, reply }, time) in answers {
            assert_eq!(time.is_none(), record % 2 == 0, "an answer has the time of its record");
            let is_in_time = time.is_none() || self.late.contains(&record) || time > self.reached;
            assert!(is_in_time, "a watermark passed the answer of {record}");
            if let Ok(reply) = reply {
                assert_eq!(reply, record * 10);
            }
            self.answers.push((key, record));
        }
        self.reached = self.reached.max(reached);
    }
}

/// Returns the records of each key and their answers, in order.
fn run<F: BackendFactory>(factory: F, ordered: bool, steps: &[Step]) -> (Answers, Answers) {
    let counts = factory.name() == "memory";
    let server = Server::default();
    let calls = Calls::new(Duration::from_secs(60), server.clone());
    let calls = calls.retry(Retry::fixed(2, Duration::from_millis(7))).emit_failures();
    let calls = if ordered { calls.ordered() } else { calls };
    let mut harness = Harness::new(factory, "calls", |ctx| calls.open::<u64, _>(ctx)).unwrap();
    let (mut clock, mut records, mut output) = (0, Vec::new(), Output::default());
    let mut watermark = None;
    harness.processing_time(clock).unwrap();
    for step in steps {
        match *step {
            Step::Record(key) => {
                let record = records.len() as u64 + 1;
                records.push((key, record));
                let time = (record % 2 == 1).then(|| Timestamp::from(record as i64));
                if time.is_some() && time <= watermark {
                    output.late.insert(record);
                }
                harness.process(key, record, time).unwrap();
            }
            Step::Reply { which, fails } => {
                let asked = server.asked();
                if let Some(record) = asked.get(which % asked.len().max(1)) {
                    let reply = if fails { Err(Error::invalid("no")) } else { Ok(record * 10) };
                    server.reply(*record, reply);
                }
            }
            Step::Time(by) => {
                clock += by;
                harness.processing_time(clock).unwrap();
            }
            Step::Watermark(behind) => {
                let time = Timestamp::from(records.len() as i64 - behind);
                watermark = watermark.max(Some(time));
                harness.watermark(time).unwrap();
            }
            Step::Interrupt(parallelism) => {
                let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
                for key in 0..4u64 {
                    harness.process(key, LOST, None).unwrap();
                }
                harness.processing_time(clock + 5).unwrap();
                harness.take_output();
                harness.restore(&snapshot, parallelism).unwrap();
                server.lose();
            }
        }
        let reached = harness.output_watermark();
        output.collect(harness.take_output(), reached);
    }
    // Every call has its reply in the end, after time alone has passed.
    for _ in 0..4 {
        clock += 60_000;
        harness.processing_time(clock).unwrap();
        for record in server.asked() {
            server.reply(record, Ok(record * 10));
        }
        clock += 7;
        harness.processing_time(clock).unwrap();
    }
    let reached = harness.output_watermark();
    output.collect(harness.take_output(), reached);
    assert_eq!(reached, watermark, "event time is held back for nothing");
    harness.end().unwrap();
    assert_eq!(harness.take_output().len(), 0);
    assert!(!counts || harness.entries() == 0, "state is left after the end");
    for domain in [TimeDomain::Event, TimeDomain::Processing] {
        assert_eq!(harness.timers(domain).unwrap(), [], "timers are left after the end");
    }
    (records, output.answers)
}

fn by_key(records: &Answers) -> BTreeMap<u64, Vec<u64>> {
    let mut of_keys: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    records.iter().for_each(|(key, record)| of_keys.entry(*key).or_default().push(*record));
    of_keys
}

fn check<F: BackendFactory>(factory: &F, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(any::<bool>(), steps()), |(ordered, steps)| {
            let (records, mut answers) = run(factory.clone(), ordered, &steps);
            if !ordered {
                answers.sort_unstable_by_key(|(_, record)| *record);
            }
            prop_assert_eq!(by_key(&answers), by_key(&records));
            Ok(())
        })
        .unwrap();
}

/// The number of random cases of a test: 300, times `STRANDLINE_CASES` where that is set.
fn cases() -> u32 {
    300 * std::env::var("STRANDLINE_CASES").map_or(1, |times| times.parse::<u32>().unwrap())
}

#[test]
fn each_record_has_one_answer() {
    check(&MemoryBackendFactory::default(), cases());
}

#[cfg(feature = "rocksdb")]
#[test]
fn each_record_has_one_answer_on_rocksdb() {
    use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};

    let dir = tempfile::tempdir().unwrap();
    let mut options = RocksOptions::default();
    options.directory = Some(dir.path().into());
    check(&RocksBackendFactory::new(options).unwrap(), cases().div_ceil(30));
}
