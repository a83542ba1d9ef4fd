//! Time-to-live where RocksDB works by itself: what a compaction leaves out.
//!
//! A compaction must not drop a value that had not expired at a barrier whose copy has not been made: a job
//! that restores that copy reads the records since the barrier again, at the watermark of the barrier. So a
//! compaction goes by the time of the newest barrier before which everything is copied, not by the current
//! time.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use strandline_snapshot_format::list;
use strandline_state_api::Ttl;
use strandline_state_api::backend::{StateTime, expired_bytes};
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

    /// Whether the whole value of an entry has expired.
    fn expired(&self, state: u16, value: &[u8]) -> bool {
        let Some((ttl, kind)) = self.states.get(&state) else { return false };
        expired(ttl, *kind, value, &self.clock)
    }
}

/// Whether an encoded value (of a list: all of its elements) has expired.
pub(crate) fn expired(ttl: &Ttl, kind: StateKind, value: &[u8], clock: &StateTime) -> bool {
    if kind != StateKind::List {
        return expired_bytes(ttl, value, clock);
    }
    list::elements(value).all(|element| element.is_ok_and(|bytes| expired_bytes(ttl, bytes, clock)))
}

/// What compactions go by; shared with their threads.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedExpiries(Arc<RwLock<Expiries>>);

impl SharedExpiries {
    pub(crate) fn change(&self, change: impl FnOnce(&mut Expiries)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets the time by which values expire.
    pub(crate) fn set_clock(&self, clock: StateTime) {
        self.change(|expiries| expiries.clock = clock);
    }

    fn get(&self) -> Expiries {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CompactionFilterFactory for SharedExpiries {
    type Filter = CompactionExpiries;

    fn create(&mut self, _context: CompactionFilterContext) -> CompactionExpiries {
        CompactionExpiries(self.get())
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}

/// What one compaction goes by, as of its start.
pub(crate) struct CompactionExpiries(Expiries);

impl CompactionFilter for CompactionExpiries {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> Decision {
        let Self(expiries) = self;
        if expiries.states.is_empty() {
            return Decision::Keep;
        }
        let expired = prefix(key).is_ok_and(|(_, state)| expiries.expired(state, value));
        if expired { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        c"strandline-ttl"
    }
}
