//! What single operators do, case by case.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::join::{IntervalJoin, JoinKind, Joined, RegularJoin};
use strandline_operators::{Change, Deduplicate, Either, Storage, TopN};
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{ErrorKind, Ttl};
use strandline_state_testing::Harness;

#[test]
fn a_lone_row_goes_when_its_first_partner_comes_and_comes_back_when_the_last_goes() {
    let join = RegularJoin::<String, u64>::new(JoinKind::Left);
    let mut harness =
        Harness::new(MemoryBackendFactory::default(), "join", |ctx| join.open::<u64, _>(ctx)).unwrap();
    let alone = || (1, Joined::Left("ada".to_owned()));
    let both = |n| (1, Joined::Both("ada".to_owned(), n));
    harness.process(1u64, Either::Left(Change::Insert("ada".to_owned())), None).unwrap();
    harness.process(1u64, Either::Right(Change::Insert(5)), None).unwrap();
    harness.rescale(2).unwrap();
    harness.process(1u64, Either::Right(Change::UpdateBefore(5)), None).unwrap();
    harness.process(1u64, Either::Right(Change::UpdateAfter(6)), None).unwrap();
    harness.process(1u64, Either::Left(Change::Delete("ada".to_owned())), None).unwrap();
    assert_eq!(
        harness.take_output().records(),
        [
            Change::Insert(alone()),
            Change::Delete(alone()),
            Change::Insert(both(5)),
            Change::Delete(both(5)),
            Change::Insert(alone()),
            Change::Delete(alone()),
            Change::Insert(both(6)),
            Change::Delete(both(6)),
        ]
    );
}

#[test]
fn numbers_of_rows_are_not_used_again_while_a_row_lives() {
    // A partner resets the time-to-live of a row of the outer side; the numbers must live as long.
    let ttl = Ttl::event_time(Duration::from_millis(10));
    let join = RegularJoin::<u64, u64>::new(JoinKind::Full).time_to_live(ttl);
    let mut harness =
        Harness::new(MemoryBackendFactory::default(), "join", |ctx| join.open::<u64, _>(ctx)).unwrap();
    harness.process(1u64, Either::Left(Change::Insert(0)), 0).unwrap();
    harness.watermark(8).unwrap();
    harness.process(1u64, Either::Right(Change::Insert(1)), 9).unwrap();
    harness.watermark(15).unwrap();
    harness.process(1u64, Either::Left(Change::Insert(2)), 16).unwrap();
    harness.take_output();
    harness.process(1u64, Either::Right(Change::Insert(3)), 16).unwrap();
    let rows: Vec<_> = harness.take_output().into_iter().map(|(change, _)| change).collect();
    let both = |l| Change::Insert((1, Joined::Both(l, 3)));
    assert_eq!(rows, [both(0), both(2)]);
}

#[test]
fn rows_gain_fields_where_they_are_stored_with_names() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Before {
        cents: u32,
    }
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct After {
        cents: u32,
        #[serde(default)]
        currency: Option<String>,
    }
    let factory = MemoryBackendFactory::default();
    let before = IntervalJoin::<Before, u64>::between(0, 10).storage(Storage::SelfDescribing);
    let mut old = Harness::new(factory.clone(), "join", |ctx| before.open::<u64, _>(ctx)).unwrap();
    old.process(1u64, Either::Left(Before { cents: 5 }), 0).unwrap();
    let snapshot = old.snapshot(SnapshotKind::Incremental).unwrap();

    let after = IntervalJoin::<After, u64>::between(0, 10).storage(Storage::SelfDescribing);
    let mut new = Harness::new(factory.clone(), "join", |ctx| after.open::<u64, _>(ctx)).unwrap();
    new.restore(&snapshot, 2).unwrap();
    new.process(1u64, Either::Right(7), 3).unwrap();
    let joined = new.take_output().into_iter().next().unwrap().0.into_row().unwrap();
    assert_eq!(joined, (1, Joined::Both(After { cents: 5, currency: None }, 7)));

    let compact = IntervalJoin::<After, u64>::between(0, 10);
    let mut other = Harness::new(factory, "join", |ctx| compact.open::<u64, _>(ctx)).unwrap();
    assert_eq!(other.restore(&snapshot, 1).unwrap_err().kind(), ErrorKind::Incompatible);
}

#[test]
fn what_cannot_be_is_refused() {
    let factory = MemoryBackendFactory::default;
    let empty = IntervalJoin::<u64, u64>::between(5, 4);
    let error = Harness::new(factory(), "join", |ctx| empty.open::<u64, _>(ctx)).err().unwrap();
    assert!(error.to_string().contains("interval of a join is empty"), "{error}");
    let none = TopN::new(0, |n: &u64| *n);
    let error = Harness::new(factory(), "top", |ctx| none.open::<u64, _>(ctx)).err().unwrap();
    assert!(error.to_string().contains("at least 1"), "{error}");
    let ttl = Ttl::event_time(Duration::from_secs(1));
    let lost = Deduplicate::<u64>::last().only_final().time_to_live(ttl);
    let error = Harness::new(factory(), "last", |ctx| lost.open::<u64, _>(ctx)).err().unwrap();
    assert!(error.to_string().contains("must not expire"), "{error}");
    let join = IntervalJoin::<u64, u64>::between(0, 1);
    let mut harness = Harness::new(factory(), "join", |ctx| join.open::<u64, _>(ctx)).unwrap();
    let error = harness.process(1u64, Either::Left(1), None).unwrap_err();
    assert!(error.to_string().contains("event time"), "{error}");
}
