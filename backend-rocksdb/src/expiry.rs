//! Time-to-live where RocksDB works by itself: what a compaction leaves out.
//!
//! A compaction drops a value that has expired as a whole. Elements of a list expire one by one: a merge of
//! appended elements into their list leaves out those that have expired, and lists that a compaction meets
//! without a merge are noted, for the next clean-up to shorten. (RocksDB lets its compactions change values,
//! but its binding only to constants.)
//!
//! A compaction must not drop a value that had not expired at a barrier whose copy has not been made: a job
//! that restores that copy reads the records since the barrier again, at the watermark of the barrier. So a
//! compaction goes by the time of the newest barrier before which everything is copied, not by the current
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use strandline_snapshot_format::{Kept, list, unexpired};
use strandline_state_api::Ttl;
use strandline_state_api::backend::StateTime;
use strandline_state_api::schema::StateKind;

use crate::layout::prefix;

/// The states of a database that compactions clean up, by their numbers, and the time that decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expiries {
    states: BTreeMap<u16, (Ttl, StateKind)>,
    clock: StateTime,
}

impl Expiries {
    pub(crate) fn insert(&mut self, state: u16, ttl: Ttl, kind: StateKind) {
        if ttl.cleanup_options().in_compactions {
            self.states.insert(state, (ttl, kind));
        }
    }

    /// What is left of the value of an entry.
    fn unexpired(&self, address: &[u8], value: &[u8], part: &mut Vec<u8>) -> Kept {
        let state = prefix(address).ok().and_then(|(_, state)| self.states.get(&state));
        let Some((ttl, kind)) = state else { return Kept::Whole };
        unexpired(ttl, *kind, value, &self.clock, part)
    }
}

/// The number of lists of each state that wait for a clean-up; a later compaction meets the others again.
const WAITING_LISTS: usize = 1024;

/// What compactions go by, and the lists that they cannot shorten; shared with their threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedExpiries {
    expiries: Arc<RwLock<Expiries>>,
    /// The addresses of lists with expired elements, by the number of their state.
    lists: Arc<Mutex<BTreeMap<u16, BTreeSet<Vec<u8>>>>>,
}

impl SharedExpiries {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Expiries)) {
        change(&mut self.expiries.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets the time by which values expire.
    pub(crate) fn set_clock(&self, clock: StateTime) {
        self.change(|expiries| expiries.clock = clock);
    }

    fn get(&self) -> Expiries {
        self.expiries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Removes the expired elements of a list that was merged. One element stays where all have expired, as
    /// no list is empty; a compaction removes it with the list.
    pub(crate) fn shorten(&self, address: &[u8], value: Vec<u8>) -> Vec<u8> {
        let expiries = self.expiries.read().unwrap_or_else(PoisonError::into_inner);
        if expiries.states.is_empty() {
            return value;
        }
        let mut part = Vec::new();
        match expiries.unexpired(address, &value, &mut part) {
            Kept::Whole => value,
            Kept::Part => part,
            Kept::Nothing => {
                part.clear();
                if let Some(Ok(last)) = list::elements(&value).last() {
                    list::push(&mut part, last);
                }
                part
            }
        }
    }

    fn note_list(&self, address: &[u8]) {
        let Ok((_, state)) = prefix(address) else { return };
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = lists.entry(state).or_default();
        if waiting.len() < WAITING_LISTS {
            waiting.insert(address.to_vec());
        }
    }

    /// Takes up to `count` lists of a state that have expired elements.
    pub(crate) fn take_lists(&self, state: u16, count: usize) -> Vec<Vec<u8>> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = lists.get_mut(&state) else { return Vec::new() };
        std::iter::from_fn(|| waiting.pop_first()).take(count).collect()
    }
}

impl CompactionFilterFactory for SharedExpiries {
    type Filter = CompactionExpiries;

    fn create(&mut self, _context: CompactionFilterContext) -> CompactionExpiries {
        CompactionExpiries { expiries: self.get(), shared: self.clone(), part: Vec::new() }
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}

/// What one compaction goes by, as of its start.
pub(crate) struct CompactionExpiries {
    expiries: Expiries,
    shared: SharedExpiries,
    part: Vec<u8>,
}

impl CompactionFilter for CompactionExpiries {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> Decision {
        if self.expiries.states.is_empty() {
            return Decision::Keep;
        }
        match self.expiries.unexpired(key, value, &mut self.part) {
            Kept::Nothing => return Decision::Remove,
            Kept::Part => self.shared.note_list(key),
            Kept::Whole => {}
        }
        Decision::Keep
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}
