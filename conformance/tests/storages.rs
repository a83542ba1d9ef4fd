//! The suite for storages on the smallest store there is: it passes as it is, and fails with any flaw.

#![cfg(feature = "storage")]
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

#[path = "storages/flawed.rs"]
mod flawed;
#[path = "naive/written.rs"]
mod written;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flawed::{Flaw, Flawed};
use strandline_conformance::{StorageSubject, storage_cases};

mod suite {
    use super::{Flaw, Flawed};

    strandline_conformance::storage_tests!(|| {
        let storage = Flawed::storage(Flaw::None);
        move || storage.clone()
    });
}

/// Each flaw, with a case that must notice it.
const FLAWS: [(Flaw, &str); 8] = [
    (Flaw::CheckThenCreate, "claims::of_eight_threads_one_wins"),
    (Flaw::ClaimReplaces, "claims::a_slot_is_created_once"),
    (Flaw::SlotShowsEmpty, "claims::readers_never_see_half_a_slot"),
    (Flaw::ObjectShowsHalf, "objects::readers_never_see_half_an_object"),
    (Flaw::ShortReads, "objects::ranged_reads"),
    (Flaw::StaleLists, "objects::read_after_write"),
    (Flaw::NothingIsDeleted, "retention::random_histories"),
    (Flaw::ListsEverything, "objects::read_after_write"),
];

/// Whether a case panics, in one of a few attempts: a race is not lost every time.
fn fails(flaw: Flaw, name: &str) -> bool {
    let subject = StorageSubject::new(move || {
        let storage = Flawed::storage(flaw);
        move || storage.clone()
    });
    let case = storage_cases().into_iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
    (0..50).any(|_| catch_unwind(AssertUnwindSafe(|| (case.run)(&subject))).is_err())
}

#[test]
fn every_flaw_is_noticed() {
    for (flaw, case) in FLAWS {
        assert!(fails(flaw, case), "{case} does not notice {flaw:?}");
    }
}

#[test]
fn every_case_is_in_the_list() {
    let listed: BTreeSet<_> = storage_cases().iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(listed, written::written("storage", "(subject: &StorageSubject) {"));
}
