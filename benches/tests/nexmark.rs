//! Every query of Nexmark has the results of a plain computation.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use strandline::memory::MemoryBackendFactory;
use strandline_benches::nexmark::expected::expected;
use strandline_benches::nexmark::{Query, Settings, measure};

/// Thirty seconds of event time.
const EVENTS: u64 = 300_000;

#[test]
fn results_are_those_of_a_plain_computation() {
    for query in Query::ALL {
        let expected = expected(query, EVENTS);
        assert_ne!(expected, 0, "{query}");
        for parallelism in [1, 3] {
            let settings = Settings {
                events: EVENTS,
                parallelism: NonZeroU32::new(parallelism).unwrap(),
                interval: Some(Duration::from_millis(50)),
                checked: true,
            };
            let measured = measure(query, MemoryBackendFactory::default(), settings).unwrap();
            assert_eq!(measured.digest, Some(expected), "{query}, parallelism {parallelism}: {measured:?}");
        }
    }
}

#[test]
fn the_names_of_queries_are_those_of_the_suite() {
    let names: Vec<_> = Query::ALL.iter().map(Query::to_string).collect();
    assert_eq!(names.join(" "), "q0 q1 q3 q4 q5 q7 q8 q9 q11 q12 q16 q17 q18 q19 q20");
    assert!(Query::ALL.iter().all(|query| Query::from_str(&query.to_string(), false) == Ok(*query)));
}
