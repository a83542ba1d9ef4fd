//! What the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_state_api::backend::{AcceptedForm, EncodedEntry, RegisteredState, StateLocation, StateTime};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{KeyGroupRange, KeyHash, Result, Ttl};

use crate::directory::StoredState;
use crate::layout::Addressing;
use crate::store::{Prefetch, Store};

mod list;
mod map;
mod table;
mod timers;
mod value;

pub(crate) use list::ListTable;
pub(crate) use map::MapTable;
pub(crate) use timers::TimerQueue;
pub(crate) use value::ValueTable;

/// Receives the hash of a key, the key and a namespace, of the types of the state.
pub(crate) type VisitKey<'a> = &'a mut dyn FnMut(KeyHash, &dyn Any, &dyn Any) -> Result<()>;

/// A registered state. Accesses go to the concrete type; only what spans all states goes through this trait.
// `Any` comes first, so that its part of the vtable is a prefix and an upcast costs nothing.
pub(crate) trait RocksState: Any + RegisteredState + Debug + Send {
    /// Which addresses its entries have.
    fn addressing(&self) -> Addressing;

    /// Changes the addresses to those of a restored snapshot.
    fn set_addressing(&mut self, addressing: Addressing);

    /// Counts announced keys; returns what to prefetch for them.
    fn announce(&mut self, _keys: usize) -> Prefetch {
        Prefetch::Nothing
    }

    /// Prepares for values that were stored under `stored`; those of a form that migrates have to be
    /// [rewritten](Self::rewrite).
    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm>;

    /// Appends the current form of a value in an accepted form to `out`.
    fn rewrite(&self, form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// The time-to-live of its values, where they expire.
    fn ttl(&self) -> Option<&Ttl>;

    /// Visits each key and namespace once.
    fn for_each_key(
        &mut self,
        store: &mut Store,
        key_groups: KeyGroupRange,
        visit: VisitKey<'_>,
    ) -> Result<()>;

    /// Visits the entries of one encoded key.
    fn look_up(
        &mut self,
        store: &mut Store,
        key: &[u8],
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Scans the entries that `records` records pay for and removes expired ones; returns the number removed.
    fn clean_up(&mut self, _store: &mut Store, _records: usize, _clock: &StateTime) -> Result<u64> {
        Ok(0)
    }
}

impl dyn RocksState {
    pub(crate) fn meta(&self) -> &StateMeta {
        &self.schema().meta
    }

    /// How a snapshot describes it.
    pub(crate) fn stored(&self) -> StoredState {
        StoredState { addressing: self.addressing(), meta: self.meta().clone() }
    }
}

/// A state, borrowed for one access, with the store that holds its entries.
#[derive(Debug)]
pub struct Access<'b, S> {
    state: &'b mut S,
    store: &'b mut Store,
    location: StateLocation<'b>,
}

impl<'b, S> Access<'b, S> {
    #[inline]
    pub(crate) fn new(state: &'b mut S, store: &'b mut Store, location: StateLocation<'b>) -> Self {
        Self { state, store, location }
    }

    /// Calls `access`, and adds the state to its error.
    #[inline]
    fn run<R>(self, access: impl FnOnce(&'b mut S, &'b mut Store) -> Result<R>) -> Result<R> {
        let Self { state, store, location } = self;
        access(state, store).map_err(|error| location.locate(error))
    }
}
