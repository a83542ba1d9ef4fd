//! Changes that are taken together come to the same rows.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::{Change, Coalesce};
use strandline_state_api::TimeDomain;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_testing::Harness;

use crate::stream::cases;

/// How often each row of each key is there.
type Rows = BTreeMap<(u64, u8), i64>;

fn apply(rows: &mut Rows, change: &Change<(u64, u8)>, upserts: bool) {
    let row = *change.row();
    if upserts {
        rows.retain(|(key, _), _| *key != row.0);
    }
    let count = rows.entry(row).or_default();
    *count = if upserts {
        i64::from(change.is_addition())
    } else {
        *count + if change.is_addition() { 1 } else { -1 }
    };
    assert!(upserts || *count >= 0, "{row:?} went and was not there");
    rows.retain(|_, count| *count != 0);
}

/// The next change of a key that `rows` allow; `choice` chooses among them.
fn next(rows: &Rows, key: u64, choice: (u8, u8), upserts: bool) -> Vec<Change<(u64, u8)>> {
    let (what, value) = choice;
    let old = rows.keys().filter(|(of, _)| *of == key).nth(usize::from(value) % 2).copied();
    let old = old.or_else(|| rows.keys().find(|(of, _)| *of == key).copied());
    let new = (key, value);
    match (old, what % 3) {
        (None, _) => vec![Change::Insert(new)],
        (Some(old), 0) => vec![Change::Delete(old)],
        (Some(_), 1) if !upserts => vec![Change::Insert(new)],
        (Some(_), _) if upserts => vec![Change::UpdateAfter(new)],
        (Some(old), _) => vec![Change::UpdateBefore(old), Change::UpdateAfter(new)],
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Change(u64, (u8, u8)),
    Time(i64),
    Interrupt(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3u64, (0..3u8, 0..4u8)).prop_map(|(key, choice)| Step::Change(key, choice)),
        3 => (1..15i64).prop_map(Step::Time),
        1 => (1..4u32).prop_map(Step::Interrupt),
    ];
    proptest::collection::vec(step, 1..80)
}

#[test]
fn changes_come_to_the_same_rows() {
    let config = Config { cases: cases(), failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(any::<bool>(), any::<bool>(), steps()), |(upserts, processing, steps)| {
            let every = Duration::from_millis(10);
            let coalesce = if upserts { Coalesce::upserts(every) } else { Coalesce::changes(every) };
            let coalesce = if processing { coalesce.in_processing_time() } else { coalesce };
            let factory = MemoryBackendFactory::default();
            let mut harness = Harness::new(factory, "coalesce", |ctx| coalesce.open::<u64, _>(ctx)).unwrap();
            let (mut before, mut after) = (Rows::new(), Rows::new());
            let (mut time, mut came, mut left) = (0, 0, 0);
            harness.processing_time(0).unwrap();
            for step in steps {
                match step {
                    Step::Change(key, choice) => {
                        for change in next(&before, key, choice, upserts) {
                            apply(&mut before, &change, upserts);
                            harness.process(key, change, Some(time.into())).unwrap();
                            came += 1;
                        }
                    }
                    Step::Time(by) => {
                        time += by;
                        harness.processing_time(time).unwrap();
                        harness.watermark(time - 1).unwrap();
                    }
                    Step::Interrupt(parallelism) => {
                        let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
                        harness.restore(&snapshot, parallelism).unwrap();
                    }
                }
                for (change, at) in harness.take_output() {
                    prop_assert_eq!(at.is_none(), processing);
                    apply(&mut after, &change, upserts);
                    left += 1;
                }
                if time % 10 == 0 && matches!(step, Step::Time(_)) {
                    prop_assert_eq!(&after, &before, "nothing waits at {}", time);
                }
            }
            harness.end().unwrap();
            for (change, _) in harness.take_output() {
                apply(&mut after, &change, upserts);
                left += 1;
            }
            prop_assert_eq!(after, before);
            prop_assert!(left <= came, "{} changes have become {}", came, left);
            prop_assert_eq!(harness.entries(), 0, "state is left");
            for domain in [TimeDomain::Event, TimeDomain::Processing] {
                prop_assert_eq!(harness.timers(domain).unwrap(), [], "timers are left");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn an_update_stays_an_update_and_what_comes_and_goes_is_never_seen() {
    let coalesce = Coalesce::changes(Duration::from_secs(1));
    let factory = MemoryBackendFactory::default();
    let mut harness = Harness::new(factory, "coalesce", |ctx| coalesce.open::<u64, _>(ctx)).unwrap();
    for (key, change) in [
        (1u64, Change::Insert("a")),
        (1, Change::UpdateBefore("a")),
        (1, Change::UpdateAfter("b")),
        (2, Change::Insert("c")),
        (2, Change::Delete("c")),
        (3, Change::Delete("d")),
        (3, Change::Insert("e")),
    ] {
        harness.process(key, change.map(str::to_owned), 10).unwrap();
    }
    harness.watermark(998).unwrap();
    assert_eq!(harness.take_output().len(), 0);
    harness.watermark(999).unwrap();
    let mut changes: Vec<_> = harness.take_output().into_iter().map(|(change, _)| change).collect();
    changes.sort();
    let expected = [Change::Insert("b"), Change::UpdateBefore("d"), Change::UpdateAfter("e")];
    assert_eq!(changes, expected.map(|change| change.map(str::to_owned)));
    // A later change closes the time before it, whenever the watermark comes.
    harness.process(3u64, Change::UpdateBefore("e".to_owned()), 1_500).unwrap();
    harness.process(3u64, Change::UpdateAfter("f".to_owned()), 1_500).unwrap();
    harness.process(3u64, Change::Delete("f".to_owned()), 2_000).unwrap();
    let changes: Vec<_> = harness.take_output().into_iter().collect();
    let at = |change: Change<&str>| (change.map(str::to_owned), Some(1_999.into()));
    assert_eq!(changes, [at(Change::UpdateBefore("e")), at(Change::UpdateAfter("f"))]);
    let error = Harness::new(MemoryBackendFactory::default(), "coalesce", |ctx| {
        Coalesce::<u64>::changes(Duration::ZERO).open::<u64, _>(ctx)
    });
    assert!(error.err().unwrap().to_string().contains("at least 1 ms"));
}
