//! Random streams through every shape of windows.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};
use strandline_operators::Collect;
use strandline_operators::window::{TimeWindows, Trigger, Windows};
use strandline_state_api::TimeDomain;
use strandline_state_api::backend::BackendFactory;

use crate::oracle::{Definition, Gap, Shape, difference, expected};
use crate::script::{Emitted, Script, run, script};

/// The number of random cases of a test: 300, or what `STRANDLINE_CASES` has.
pub(crate) fn cases() -> u32 {
    std::env::var("STRANDLINE_CASES").map_or(300, |cases| cases.parse().unwrap())
}

fn ms(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

fn apply<S>(windows: TimeWindows<S>, of: Definition) -> TimeWindows<S> {
    let mut trigger = Trigger::at_end();
    if let Some(records) = of.records {
        trigger = trigger.after_records(records);
    }
    if of.purging {
        trigger = trigger.purging();
    }
    let windows = windows.emit_late().trigger(trigger).allowed_lateness(ms(of.lateness));
    match of.domain {
        TimeDomain::Event => windows,
        TimeDomain::Processing => windows.in_processing_time(),
    }
}

type Sorted = Collect<i64, fn(&[i64]) -> Vec<i64>>;

fn sorted() -> Sorted {
    Collect::new(|values: &[i64]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values
    })
}

fn actual<F: BackendFactory>(factory: F, of: Definition, script: &Script) -> Vec<Emitted> {
    fn with<F: BackendFactory, W>(factory: F, windows: &W, of: Definition, script: &Script) -> Vec<Emitted>
    where
        W: Windows<i64, Window = strandline_state_api::TimeWindow>,
    {
        run(factory, script, of.domain, |ctx| windows.open(&sorted(), ctx))
    }
    match of.shape {
        Shape::Sliding { size, slide, offset } if size == slide => {
            let windows = TimeWindows::tumbling(ms(size)).offset(ms(offset));
            with(factory, &apply(windows, of), of, script)
        }
        Shape::Sliding { size, slide, offset } => {
            let windows = TimeWindows::sliding(ms(size), ms(slide)).offset(ms(offset));
            with(factory, &apply(windows, of), of, script)
        }
        Shape::Session { gap: Gap::Fixed(gap) } => {
            with(factory, &apply(TimeWindows::session(ms(gap)), of), of, script)
        }
        Shape::Session { gap } => {
            let windows = TimeWindows::session_by(move |value: &i64| ms(gap.of(*value)));
            with(factory, &apply(windows, of), of, script)
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        (1..15i64, 0..4i64).prop_map(|(size, offset)| Shape::Sliding {
            size,
            slide: size,
            offset: offset.min(size - 1)
        }),
        (1..15i64, 1..15i64, 0..4i64).prop_map(|(a, b, offset)| Shape::Sliding {
            size: a.max(b),
            slide: a.min(b),
            offset
        }),
        (1..15i64).prop_map(|gap| Shape::Session { gap: Gap::Fixed(gap) }),
        Just(Shape::Session { gap: Gap::OfValue }),
    ]
}

fn definition() -> impl Strategy<Value = Definition> {
    let lateness = prop_oneof![Just(0), 1..25i64];
    (shape(), any::<bool>(), lateness, proptest::option::of(1..4u64), any::<bool>()).prop_map(
        |(shape, in_event_time, lateness, records, purging)| {
            let domain = if in_event_time { TimeDomain::Event } else { TimeDomain::Processing };
            let lateness = if in_event_time { lateness } else { 0 };
            // Sliding windows share their panes and have no trigger.
            let shares = matches!(shape, Shape::Sliding { size, slide, .. } if size != slide);
            let records = records.filter(|_| !shares);
            Definition { shape, domain, lateness, records, purging: purging && !shares }
        },
    )
}

fn check<F: BackendFactory>(factory: &F, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(definition(), script()), |(of, script)| {
            let (actual, expected) = (actual(factory.clone(), of, &script), expected(of, &script));
            prop_assert!(actual == expected, "{}", difference(&actual, &expected));
            Ok(())
        })
        .unwrap();
}

#[test]
fn windows_emit_what_their_definition_asks_for() {
    check(&MemoryBackendFactory::default(), cases());
}

#[test]
fn windows_are_the_same_on_rocksdb() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = RocksOptions::default();
    options.directory = Some(dir.path().into());
    check(&RocksBackendFactory::new(options).unwrap(), cases().div_ceil(30));
}
