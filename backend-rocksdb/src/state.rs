//! What the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_state_api::format::StateMeta;
use strandline_state_api::{KeyGroupRange, KeyHash, Result, StateKey, StateSchema, StateTime, Ttl};

use crate::directory::StoredState;
use crate::layout::Layout;
use crate::store::Store;

mod ageing;
mod list;
mod map;
mod timers;
mod value;

pub(crate) use list::List;
pub(crate) use map::Map;
pub(crate) use timers::Timers;
pub(crate) use value::Value;

/// Is given the hash of a key, the key and a namespace, of the types of the state.
pub(crate) type VisitKey<'a> = &'a mut dyn FnMut(KeyHash, &dyn Any, &dyn Any) -> Result<()>;

/// A state behind a handle. Accesses go to the concrete type; only what spans all states goes through this.
pub(crate) trait AnyState: Any + Debug + Send {
    fn place(&self) -> &Place;

    /// Changes what the keys of the state look like, as those of a restored snapshot are.
    fn adopt(&mut self, id: u16, layout: Layout);

    /// Prepares for values that were stored under `stored`; says whether they have to be [migrated](Self::migrate).
    fn accept(&mut self, stored: &StateMeta) -> Result<bool>;

    /// Writes the form of today of a value in the form that was accepted to `out`, replacing what is there.
    fn migrate(&self, value: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// How long values live, if they expire.
    fn ttl(&self) -> Option<Ttl>;

    /// Visits each key and namespace once: the hash of the key, the key, the namespace.
    fn for_each_key(
        &mut self,
        store: &mut Store,
        key_groups: KeyGroupRange,
        visit: VisitKey<'_>,
    ) -> Result<()>;

    /// Looks at the entries that `records` records pay for, and removes what has expired; says how many.
    fn clean_up(&mut self, _store: &mut Store, _records: usize, _clock: &StateTime) -> Result<u64> {
        Ok(0)
    }
}

/// Where the entries of a state are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) schema: StateSchema,
    pub(crate) id: u16,
    pub(crate) layout: Layout,
}

impl Place {
    pub(crate) fn new<K: StateKey, N: StateKey>(schema: StateSchema, id: u16, sub: Option<usize>) -> Self {
        let layout = Layout::of::<K, N>(schema.meta.kind, sub);
        Self { schema, id, layout }
    }

    pub(crate) fn meta(&self) -> &StateMeta {
        &self.schema.meta
    }

    pub(crate) fn adopt(&mut self, id: u16, layout: Layout) {
        (self.id, self.layout) = (id, layout);
    }

    pub(crate) fn stored(&self) -> StoredState {
        StoredState { id: self.id, layout: self.layout, meta: self.meta().clone() }
    }
}
