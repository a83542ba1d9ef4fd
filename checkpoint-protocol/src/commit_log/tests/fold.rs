//! Entries, their written form, and logs as a whole.

use super::*;

#[test]
fn entries_survive_serialization() {
    for entry in [term_entry(3, 1, 7), checkpoint_entry(4, 1, 7, 2)] {
        let json = serde_json::to_string(&entry).unwrap();
        assert!(json.contains(r#""token":"000000000000000000000000000003e"#), "{json}");
        assert_eq!(serde_json::from_str::<LogEntry>(&json).unwrap(), entry);
    }
    for bad in ["", "12", "0000000000000000000000000000003g", "+0000000000000000000000000000003"] {
        assert!(Token::try_from(bad.to_owned()).is_err(), "{bad:?}");
    }
    assert_eq!(Token::try_from(Token(u128::MAX).to_string()), Ok(Token(u128::MAX)));
}

#[test]
fn a_log_folds_into_its_completed_checkpoints() {
    let log = [
        term_entry(0, 0, 1),
        checkpoint_entry(1, 0, 1, 1),
        checkpoint_entry(2, 0, 1, 3),
        term_entry(3, 0, 2),
        checkpoint_entry(4, 0, 2, 4),
    ];
    assert_eq!(ids(&completed(&log)), [1, 3, 4]);
    let shuffled = [3, 1, 4, 0, 2].map(|i| log[i].clone());
    assert_eq!(completed(&shuffled), completed(&log));
    assert_eq!(completed(&[]), []);
}

#[test]
fn entries_that_break_the_rules_count_for_nothing() {
    let mut view = LogView::default();
    let mut apply = |entry| view.apply(&entry);
    let fenced = |by| Applied::Void(VoidReason::Fenced { by: Term(by) });
    assert_eq!(apply(term_entry(0, 0, 1)), Applied::Term(Term(1)));
    assert_eq!(apply(checkpoint_entry(1, 0, 1, 5)), Applied::Completed(CheckpointId(5)));
    assert_eq!(apply(term_entry(2, 0, 2)), Applied::Term(Term(2)));
    assert_eq!(apply(checkpoint_entry(3, 0, 1, 6)), fenced(2));
    assert_eq!(apply(term_entry(4, 0, 2)), fenced(2));
    assert_eq!(apply(term_entry(5, 0, 1)), fenced(2));
    let not_newer = Applied::Void(VoidReason::NotNewer { last: CheckpointId(5) });
    assert_eq!(apply(checkpoint_entry(6, 0, 2, 5)), not_newer);
    assert_eq!(apply(checkpoint_entry(6, 0, 2, 6)), Applied::Void(VoidReason::OutOfOrder));
    assert_eq!(apply(checkpoint_entry(7, 0, 2, 6)), Applied::Completed(CheckpointId(6)));
    assert_eq!(ids(view.completed()), [5, 6]);
    assert_eq!((view.next_slot(), view.term()), (8, Some(Term(2))));
}

#[test]
fn what_lies_below_the_floor_is_out_of_the_log() {
    // Slot 2 holds what a coordinator left that came when the log had long moved on.
    let log = [
        checkpoint_entry(2, 0, 1, 99),
        checkpoint_entry(5, 3, 4, 7),
        checkpoint_entry(6, 5, 4, 8),
        term_entry(7, 5, 5),
    ];
    assert_eq!(ids(&completed(&log)), [7, 8]);
    // A floor takes effect with the entry that raises it, and what is below stays in mind for the order of
    // ids.
    let mut view = LogView::starting_at(5);
    view.apply(&log[1]);
    view.apply(&checkpoint_entry(6, 6, 4, 8));
    assert_eq!((ids(view.completed()), view.floor()), (vec![8], 6));
    assert_eq!(view.last_completed(), Some(CheckpointId(8)));
}
