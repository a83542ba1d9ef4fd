//! Time-to-live where RocksDB works by itself: what a compaction leaves out.
//!
//! Nothing may be left out that is alive at a barrier whose copy has not been made: a job that restores it reads those records
//! again at the watermark of then. So a compaction goes by the time of the newest barrier before which everything is copied,
//! not by that of now.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use strandline_state_api::format::{StateKind, list};
use strandline_state_api::{Expiry, StateTime, Ttl};

use crate::layout::prefix;

/// The states of a database that compactions clean up, by their numbers, and what time it is for them.
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

    /// Whether all of the value of an entry has expired.
    fn expired(&self, state: u16, value: &[u8]) -> bool {
        let Some((ttl, kind)) = self.states.get(&state) else { return false };
        expired(ttl, *kind, value, &self.clock)
    }
}

/// Whether all of an encoded value has expired.
pub(crate) fn expired(ttl: &Ttl, kind: StateKind, value: &[u8], clock: &StateTime) -> bool {
    if kind != StateKind::List {
        return Expiry::<()>::expired_bytes(ttl, value, clock);
    }
    list::elements(value)
        .all(|element| element.is_ok_and(|bytes| Expiry::<()>::expired_bytes(ttl, bytes, clock)))
}

/// What compactions go by; shared with their threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<RwLock<Expiries>>);

impl Shared {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Expiries)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says what time it is.
    pub(crate) fn tell(&self, clock: StateTime) {
        self.change(|expiries| expiries.clock = clock);
    }

    fn get(&self) -> Expiries {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CompactionFilterFactory for Shared {
    type Filter = Filter;

    fn create(&mut self, _context: CompactionFilterContext) -> Filter {
        Filter(self.get())
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}

/// Goes by what was known when its compaction began.
pub(crate) struct Filter(Expiries);

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> Decision {
        let Self(expiries) = self;
        if expiries.states.is_empty() {
            return Decision::Keep;
        }
        let gone = prefix(key).is_ok_and(|(_, state)| expiries.expired(state, value));
        if gone { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}
