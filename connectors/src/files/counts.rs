//! How many records could not be decoded.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bad records of all subtasks of a source.
#[derive(Debug, Default)]
pub(super) struct BadCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_subtask: BTreeMap<u32, u64>,
    first: Option<String>,
}

impl BadCounts {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A subtask starts where `count` bad records lie behind it.
    pub(super) fn restart(&self, subtask: u32, parallelism: u32, count: u64) {
        let mut counts = self.counts();
        counts.by_subtask.retain(|&subtask, _| subtask < parallelism);
        counts.by_subtask.insert(subtask, count);
    }

    /// Counts a record, and keeps the description of the first one.
    pub(super) fn add(&self, subtask: u32, describe: impl FnOnce() -> String) {
        let mut counts = self.counts();
        *counts.by_subtask.entry(subtask).or_default() += 1;
        counts.first.get_or_insert_with(describe);
    }

    pub(super) fn count(&self) -> u64 {
        self.counts().by_subtask.values().sum()
    }

    pub(super) fn first(&self) -> Option<String> {
        self.counts().first.clone()
    }

    /// Whether a bad record was described, so that no further one needs to be.
    pub(super) fn has_first(&self) -> bool {
        self.counts().first.is_some()
    }
}
