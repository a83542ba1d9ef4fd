//! What the backend needs of a state of any kind.

use std::any::Any;
use std::fmt::Debug;

use strandline_state_api::StateKey;
use strandline_state_api::format::{StateKind, StateMeta};

use crate::directory::StoredState;
use crate::layout::Layout;

mod list;
mod map;
mod timers;
mod value;

pub(crate) use list::List;
pub(crate) use map::Map;
pub(crate) use timers::Timers;
pub(crate) use value::Value;

/// A state behind a handle. Accesses go to the concrete type; only what spans all states goes through this.
pub(crate) trait AnyState: Any + Debug + Send {
    fn place(&self) -> &Place;

    /// Changes what the keys of the state look like, as those of a restored snapshot are.
    fn adopt(&mut self, id: u16, layout: Layout);
}

/// Where the entries of a state are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) meta: StateMeta,
    pub(crate) id: u16,
    pub(crate) layout: Layout,
}

impl Place {
    pub(crate) fn new<K: StateKey, N: StateKey>(meta: StateMeta, id: u16, sub: Option<usize>) -> Self {
        let layout = Layout::of::<K, N>(meta.kind, sub);
        Self { meta, id, layout }
    }

    pub(crate) fn adopt(&mut self, id: u16, layout: Layout) {
        (self.id, self.layout) = (id, layout);
    }

    pub(crate) fn stored(&self) -> StoredState {
        StoredState { id: self.id, layout: self.layout, meta: self.meta.clone() }
    }
}

/// How a state is described in snapshots.
pub(crate) fn meta<K: StateKey, N: StateKey>(
    name: &str,
    kind: StateKind,
    sub_codec: String,
    value_codec: String,
    schema_version: u32,
) -> StateMeta {
    StateMeta {
        key_codec: K::codec(),
        namespace_codec: N::codec(),
        sub_codec,
        value_codec,
        schema_version,
        ..StateMeta::new(name, kind)
    }
}
