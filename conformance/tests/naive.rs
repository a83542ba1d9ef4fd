//! The suite on a small backend: the backend passes as it is, and fails with any flaw.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

#[path = "naive/mod.rs"]
mod naive;
#[path = "naive/written.rs"]
mod written;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use naive::{Broken, Flaw, NaiveFactory};
use strandline_conformance::{Subject, backend_cases};

mod suite {
    use super::NaiveFactory;

    strandline_conformance::backend_tests!(NaiveFactory, NaiveFactory::CAPABILITIES);
}

/// Each flaw, and cases that must notice it.
const FLAWS: [(Flaw, &[&str]); 21] = [
    (Flaw::ValueStays, &["values::put_get_clear", "increments::tombstones_survive"]),
    (Flaw::MapEntryStays, &["maps::clear_empties_one_map_only", "increments::a_cleared_map_is_filled_again"]),
    (
        Flaw::NamespacesMix,
        &["values::keys_and_namespaces_stay_apart", "lists::keys_and_namespaces_stay_apart"],
    ),
    (Flaw::ListKeepsOne, &["lists::put_replaces_and_an_empty_list_clears"]),
    (Flaw::TimerBoundExcluded, &["timers::pop_takes_what_is_due_in_order", "timers::times_at_both_ends"]),
    (Flaw::TimerNotDeduplicated, &["timers::equal_timers_collapse"]),
    (Flaw::LateCut, &["cuts::later_changes_are_invisible", "cuts::each_kind_of_change_is_invisible"]),
    (
        Flaw::FailureForgotten,
        &["faults::a_failed_commit_loses_nothing", "faults::many_failed_commits_in_a_row"],
    ),
    (
        Flaw::DropForgotten,
        &["aborts::a_dropped_snapshot_is_part_of_the_next", "aborts::drops_at_every_stage"],
    ),
    (Flaw::CommitsInLine, &["aborts::a_later_commit_passes_one_that_hangs"]),
    (
        Flaw::AllKeyGroups,
        &["rescales::any_range_of_a_snapshot", "rescales::up_and_down", "rescales::fingerprints_add_up"],
    ),
    (Flaw::OrphansDropped, &["compatibility::unclaimed_state_is_kept_and_written_again"]),
    (
        Flaw::FirstSnapshotOnly,
        &["rescales::up_and_down", "rescales::a_full_snapshot_after_a_rescale_stands_alone"],
    ),
    (Flaw::ClockStands, &["expiry::the_instant_of_expiry", "expiry::event_time_goes_by_the_watermark"]),
    (Flaw::MergeReplaces, &["folding::values_are_folded_as_they_come", "folding::namespaces_merge"]),
    (Flaw::TakeLosesLast, &["folding::namespaces_merge", "expiry::merging_leaves_out_what_has_expired"]),
    (Flaw::KeysTwice, &["keys::every_kind_tells_its_keys", "keys::a_function_applied_to_all_keys"]),
    (Flaw::ModifyKeepsExpired, &["expiry::a_change_begins_anew_after_expiry"]),
    (
        Flaw::LentStays,
        &["cleanup::a_read_returns_an_expired_value_once", "cleanup::only_what_is_accessed_is_removed"],
    ),
    (Flaw::ReadsDoNotRefresh, &["expiry::reading_refreshes_where_it_should"]),
    (Flaw::ForeignHandleAccepted, &["registration::a_handle_of_another_backend_is_an_error"]),
];

/// Returns whether a case panics.
fn fails(flaw: Flaw, case: &str) -> bool {
    let subject = Subject::new(Broken(flaw)).with_capabilities(NaiveFactory::CAPABILITIES);
    let case = backend_cases().into_iter().find(|known| known.name == case);
    let case = case.unwrap_or_else(|| panic!("there is no such case"));
    catch_unwind(AssertUnwindSafe(|| (case.run)(&subject))).is_err()
}

#[test]
fn every_flaw_is_noticed() {
    for (flaw, cases) in FLAWS {
        for case in cases {
            assert!(fails(flaw, case), "{case} does not notice {flaw:?}");
        }
    }
}

#[test]
fn the_model_notices_every_flaw_in_random_programs() {
    // Random programs register all states, use no handle of another backend, show no expired value, and refresh none
    // by a read; they wait for a commit, for ever where it waits for one that hangs.
    let unnoticed = [
        Flaw::OrphansDropped,
        Flaw::ForeignHandleAccepted,
        Flaw::LentStays,
        Flaw::ReadsDoNotRefresh,
        Flaw::CommitsInLine,
    ];
    for (flaw, _) in FLAWS.into_iter().filter(|(flaw, _)| !unnoticed.contains(flaw)) {
        assert!(fails(flaw, "model::random_programs"), "the model does not notice {flaw:?}");
    }
}

/// The kit for authors of backends does what all simple backends share, so that the smallest one stays small.
#[test]
fn a_backend_with_values_only_has_at_most_150_lines() {
    let lines = include_str!("values_only.rs").lines().count();
    assert!(lines <= 150, "tests/values_only.rs has {lines} lines");
}

#[test]
fn every_case_is_in_the_list() {
    let listed: BTreeSet<_> =
        backend_cases::<NaiveFactory>().iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(listed, written::written("backend", "(subject: &Subject<F>) {"));
}
