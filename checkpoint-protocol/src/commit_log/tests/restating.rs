//! Claims that restate the log, so that what is before them can go; and numbers at their end.

use super::client::{Store, committed, leader};
use super::*;

/// The slots that count.
fn slots(store: &Store) -> u64 {
    store.log.values().next_back().map_or(0, |tail| tail.slot + 1 - tail.floor)
}

#[test]
fn starts_that_complete_nothing_do_not_make_the_log_longer() {
    let mut store = Store::default();
    let mut first = leader(&mut store, 1);
    for checkpoint in 1..=3 {
        store.commit(&mut first, checkpoint, 2);
    }
    store.commit_as(&mut first, &right_of(4, CheckpointKind::Savepoint), 2);
    for start in 2..300 {
        let mut client = LogClient::new("start");
        let LogOutcome::Claimed { term, completed } = store.claim(&mut client, start << 32) else {
            panic!("no claim")
        };
        assert_eq!((term, ids(&completed)), (Term(start as u64), vec![2, 3, 4]));
        assert!(slots(&store) <= 6, "{} slots after start {start}", slots(&store));
        if start % 2 == 0 {
            let floor = client.view().floor();
            store.cut(floor);
        }
    }
    // The number of the savepoint is not given to another, although no slot has it.
    let mut last = leader(&mut store, 1 << 64);
    assert_eq!(last.view().last_completed(), Some(CheckpointId(4)));
    assert_eq!(committed(&store.commit(&mut last, 5, 2)).1, 5);
    assert_eq!(ids(last.completed()), [2, 3, 5], "an old savepoint is kept elsewhere");
    let five = last.completed()[2].slot;
    store.commit(&mut last, 6, five);
    let LogOutcome::Claimed { completed, .. } = store.claim(&mut LogClient::new("end"), 1 << 65) else {
        panic!("no claim")
    };
    assert_eq!(ids(&completed), [5, 6]);
}

#[test]
fn a_claim_that_could_not_read_everything_restates_nothing() {
    let mut store = Store::default();
    let mut first = leader(&mut store, 1);
    store.commit(&mut first, 1, 0);
    let damaged = LogEntry { kind: EntryKind::Unreadable { term: Term(2) }, ..term_entry(2, 0, 0) };
    store.create(damaged);
    for start in 2..9 {
        leader(&mut store, start << 32);
        let tail = store.log.values().next_back().unwrap();
        let EntryKind::Term { restated, .. } = &tail.kind else { panic!("no claim") };
        assert_eq!((restated, tail.floor), (&None, 0), "the damage would be forgotten");
    }
}

#[test]
fn numbers_at_their_end_are_refused() {
    for last in [term_entry(3, 3, u64::MAX - 1), term_entry(u64::MAX - 1, u64::MAX - 1, 4)] {
        let mut store = Store::with([last]);
        let mut client = LogClient::new("late");
        assert_eq!(store.claim(&mut client, 1), LogOutcome::Misuse(Misuse::Exhausted));
        assert_eq!(client.term(), None);
    }
    let beyond =
        [term_entry(3, 0, u64::MAX), checkpoint_entry(3, 0, 1, u64::MAX), term_entry(u64::MAX, 0, 1)];
    for entry in beyond {
        let mut view = LogView::default();
        assert_eq!(view.apply(&entry), Applied::Void(VoidReason::OutOfRange), "{entry:?}");
        assert_eq!((view.term(), view.last_completed()), (None, None));
    }
    assert_eq!((Term(u64::MAX).next(), Term(u64::MAX - 1).next()), (None, None));
}
