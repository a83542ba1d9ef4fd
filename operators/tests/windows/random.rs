//! Random streams through every shape of windows.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::window::{TimeWindows, Trigger, Windows};
use strandline_operators::{Collect, Fold};
use strandline_state_api::TimeDomain;
use strandline_state_api::backend::BackendFactory;

use crate::oracle::{Definition, Gap, Shape, difference, expected};
use crate::script::{Emitted, Script, dense, run, script};

/// The number of random cases of a test: 300, times `STRANDLINE_CASES` where that is set.
pub(crate) fn cases() -> u32 {
    300 * std::env::var("STRANDLINE_CASES").map_or(1, |times| times.parse::<u32>().unwrap())
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

/// As [`sorted`], in an accumulator that owns no memory, which sliding windows fold in another way: a bit for each
/// value, and their number, so that a value that counts twice is found out.
type Bits =
    Fold<i64, ([u64; 4], u32), fn(&mut ([u64; 4], u32), i64), fn(&mut ([u64; 4], u32), ([u64; 4], u32))>;

fn bits() -> Bits {
    Fold::new(
        ([0; 4], 0),
        |(bits, count), value| {
            bits[value as usize / 64] |= 1 << (value % 64);
            *count += 1;
        },
        |(bits, count), (others, more)| {
            bits.iter_mut().zip(others).for_each(|(bits, others)| *bits |= others);
            *count += more;
        },
    )
}

fn values_of((bits, count): ([u64; 4], u32)) -> Vec<i64> {
    let mut values: Vec<i64> =
        (0..256).filter(|value| bits[*value as usize / 64] >> (value % 64) & 1 == 1).collect();
    values.resize(count as usize, -1);
    values
}

/// How an operator collects values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Lists,
    Bits,
}

fn actual<F: BackendFactory>(factory: F, by: By, of: Definition, script: &Script) -> Vec<Emitted> {
    fn with<F: BackendFactory, W>(
        factory: F,
        by: By,
        windows: &W,
        of: Definition,
        script: &Script,
    ) -> Vec<Emitted>
    where
        W: Windows<i64, Window = strandline_state_api::TimeWindow>,
    {
        match by {
            By::Lists => run(factory, script, of.domain, |values| values, |ctx| windows.open(&sorted(), ctx)),
            By::Bits => run(factory, script, of.domain, values_of, |ctx| windows.open(&bits(), ctx)),
        }
    }
    match of.shape {
        Shape::Sliding { size, slide, offset } if size == slide => {
            let windows = TimeWindows::tumbling(ms(size)).offset(ms(offset));
            with(factory, by, &apply(windows, of), of, script)
        }
        Shape::Sliding { size, slide, offset } => {
            let windows = TimeWindows::sliding(ms(size), ms(slide)).offset(ms(offset));
            with(factory, by, &apply(windows, of), of, script)
        }
        Shape::Session { gap: Gap::Fixed(gap) } => {
            with(factory, by, &apply(TimeWindows::session(ms(gap)), of), of, script)
        }
        Shape::Session { gap } => {
            let windows = TimeWindows::session_by(move |value: &i64| ms(gap.of(*value)));
            with(factory, by, &apply(windows, of), of, script)
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

/// Windows that slide over many panes.
fn sliding() -> impl Strategy<Value = Definition> {
    let lateness = prop_oneof![2 => Just(0), 1 => 1..12i64];
    (10..24i64, 1..5i64, 0..4i64, any::<bool>(), lateness).prop_map(
        |(size, slide, offset, in_event_time, lateness)| {
            let domain = if in_event_time { TimeDomain::Event } else { TimeDomain::Processing };
            let lateness = if in_event_time { lateness } else { 0 };
            let shape = Shape::Sliding { size, slide, offset };
            Definition { shape, domain, lateness, records: None, purging: false }
        },
    )
}

fn check<F, D>(factory: &F, cases: u32, definition: D, script: impl Strategy<Value = Script>)
where
    F: BackendFactory,
    D: Strategy<Value = Definition>,
{
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let by = prop_oneof![Just(By::Lists), Just(By::Bits)];
    TestRunner::new(config)
        .run(&(definition, by, script), |(of, by, script)| {
            let (actual, expected) = (actual(factory.clone(), by, of, &script), expected(of, &script));
            prop_assert!(actual == expected, "{}", difference(&actual, &expected));
            Ok(())
        })
        .unwrap();
}

#[test]
fn windows_emit_what_their_definition_asks_for() {
    check(&MemoryBackendFactory::default(), cases(), definition(), script());
}

#[test]
fn windows_over_many_panes_emit_what_their_definition_asks_for() {
    check(&MemoryBackendFactory::default(), cases(), sliding(), dense());
}

#[cfg(feature = "rocksdb")]
#[test]
fn windows_are_the_same_on_rocksdb() {
    use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};

    let dir = tempfile::tempdir().unwrap();
    let mut options = RocksOptions::default();
    options.directory = Some(dir.path().into());
    let factory = RocksBackendFactory::new(options).unwrap();
    check(&factory, cases().div_ceil(30), definition(), script());
    check(&factory, cases().div_ceil(60), sliding(), dense());
}
