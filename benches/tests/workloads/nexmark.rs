//! Every query of Nexmark has the results of a plain computation.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use strandline::prelude::*;
use strandline::runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline::state::backend::BackendFactory;
use strandline_benches::nexmark::expected::expected;
use strandline_benches::nexmark::{Events, Query, Settings, digest, measure};

/// Fifteen seconds of event time.
const EVENTS: u64 = 150_000;

/// Runs a query with checkpoints at each parallelism, and compares its results.
fn has_the_results_of_a_plain_computation<F: BackendFactory>(query: &str, factory: &F, parallelism: &[u32]) {
    let query = Query::from_str(query, false).unwrap();
    let expected = expected(query, EVENTS);
    assert_ne!(expected, 0, "{query} has results");
    for &parallelism in parallelism {
        let settings = Settings {
            events: EVENTS,
            parallelism: NonZeroU32::new(parallelism).unwrap(),
            interval: Some(Duration::from_millis(500)),
            checked: true,
        };
        let measured = measure(query, factory.clone(), settings).unwrap();
        assert_eq!(measured.digest, Some(expected), "{query}, parallelism {parallelism}: {measured:?}");
        assert!(measured.checkpoints > 0, "{query}, parallelism {parallelism}: {measured:?}");
    }
}

/// A test of each query, on each backend.
macro_rules! tests {
    ($($query:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($query)),*];

        mod memory {
            use strandline::memory::MemoryBackendFactory;

            $(#[test]
            fn $query() {
                let factory = MemoryBackendFactory::default();
                super::has_the_results_of_a_plain_computation(stringify!($query), &factory, &[1, 3]);
            })*
        }

        #[cfg(feature = "rocksdb")]
        mod rocksdb {
            use strandline_benches::rocks::{factory, options};

            $(#[test]
            fn $query() {
                // So little memory that entries leave the write-back table.
                let mut options = options(0.25);
                options.memory = 16 << 20;
                let (factory, _dir) = factory(options).unwrap();
                super::has_the_results_of_a_plain_computation(stringify!($query), &factory, &[3]);
            })*
        }
    };
}

tests!(q0 q1 q3 q4 q5 q7 q8 q9 q11 q12 q16 q17 q18 q19 q20);

#[test]
fn all_queries_are_tested_by_their_names_in_the_suite() {
    assert_eq!(Query::ALL.map(|query| query.to_string()), TESTED);
    assert!(Query::ALL.iter().all(|query| Query::from_str(&query.to_string(), false) == Ok(*query)));
}

/// Reads from `positions` on: in each subtask so many events, or all. Adds them to `read`, and returns the
/// new positions.
fn read<S: SourceFactory>(
    events: &S,
    parallelism: u32,
    positions: Option<&[<S::Source as Source>::Position]>,
    most: Option<usize>,
    read: &mut Vec<<S::Source as Source>::Out>,
) -> Vec<<S::Source as Source>::Position> {
    let subtasks = (0..parallelism).map(|subtask| {
        let context = SourceContext { subtask, parallelism, restored: positions.map(<[_]>::to_vec) };
        let mut source = events.open(context).unwrap();
        let mut batch = Batch::new();
        let status = source.poll(most.unwrap_or(usize::MAX), &mut batch).unwrap();
        assert_eq!(status == SourceStatus::End, most.is_none());
        read.extend(batch.into_iter().map(|(event, _)| event));
        source.positions().unwrap()
    });
    subtasks.collect::<Vec<_>>().concat()
}

#[test]
fn events_are_read_once_whatever_reads_on() {
    let events = Events::new(1_003);
    let expected: BTreeSet<u64> = events.iter().map(|event| digest(&event)).collect();
    assert_eq!(expected.len(), 1_003);
    for (first, second) in [(1, 1), (1, 3), (3, 1), (2, 16), (5, 2)] {
        let mut all = Vec::new();
        let positions = read(&events, first, None, Some(37), &mut all);
        assert_eq!(all.len(), 37 * first as usize);
        read(&events, second, Some(&positions), None, &mut all);
        assert_eq!(all.len(), 1_003, "{first} to {second}");
        let digests: BTreeSet<u64> = all.iter().map(digest).collect();
        assert_eq!(digests, expected, "{first} to {second}");
    }
    let context = SourceContext { subtask: 0, parallelism: Events::SPLITS + 1, restored: None };
    let error = events.open(context).unwrap_err().to_string();
    assert!(error.contains("16 splits"), "{error}");
}
