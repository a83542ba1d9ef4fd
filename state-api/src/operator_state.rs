//! State that belongs to a subtask and not to a key: positions of a source, files that a sink has yet to
//! commit, rules that every subtask needs.

mod broadcast;
mod list;
mod registered;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::broadcast::Broadcast;
pub(crate) use self::broadcast::BroadcastStates;
pub use self::broadcast::{BroadcastDescriptor, BroadcastMap, BroadcastState};
use self::list::List;
pub use self::list::{OperatorListDescriptor, OperatorListState, OperatorLists};
use self::registered::{AnyState, Meta, Registered};
use crate::schema::StateTypes;
use crate::{Error, ErrorKind, Result, StateKey};

/// How elements move to new subtasks when the parallelism changes (Flink: `OperatorStateHandle.Mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redistribution {
    /// The elements of all subtasks are split evenly among the new ones.
    Split,
    /// Every new subtask gets all elements of all subtasks.
    Union,
    /// Every new subtask gets the elements of one old subtask, since all old subtasks hold the same elements.
    /// Each element is one entry of a map: the length of the encoded map key (4 bytes, little-endian), the
    /// map key, the value.
    Broadcast,
}

impl fmt::Display for Redistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "a split list",
            Self::Union => "a union list",
            Self::Broadcast => "a broadcast map",
        })
    }
}

/// One operator state of one subtask, as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OperatorStateEntry {
    /// The name of the state, unique within its operator.
    pub name: String,
    /// How the elements move after a change of parallelism.
    pub redistribution: Redistribution,
    /// The name of the codec that wrote the elements.
    pub codec: String,
    /// The author's version of the schema of the elements; 1 where none is stored.
    #[serde(default = "first_version")]
    pub schema_version: u32,
    /// The encoded elements.
    pub elements: Vec<Vec<u8>>,
}

impl OperatorStateEntry {
    /// Returns the name of the codec of map keys, if this is a broadcast state, and of that of the elements or the
    /// values of the map.
    pub fn codecs(&self) -> (Option<&str>, &str) {
        match (self.redistribution, self.codec.split_once(ARROW)) {
            (Redistribution::Broadcast, Some((map_key, value))) => (Some(map_key), value),
            (Redistribution::Broadcast, None) => (Some(""), &self.codec),
            (Redistribution::Split | Redistribution::Union, _) => (None, &self.codec),
        }
    }

    /// Splits an element of a broadcast state into the encoded map key and the encoded value.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the element ends within its map key.
    pub fn split_map_entry(element: &[u8]) -> Result<(&[u8], &[u8])> {
        let split = element.split_first_chunk::<4>().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            rest.split_at_checked(len)
        });
        split.ok_or_else(|| Error::corrupt("an entry of a broadcast state ends within its map key"))
    }
}

/// Separates the codecs of map keys and of values in the stored codec of a broadcast state.
const ARROW: &str = " -> ";

fn first_version() -> u32 {
    1
}

/// The operator state of one subtask. It is small by nature: the store holds native values and writes all of
/// them at every checkpoint.
///
/// ```
/// use strandline_state_api::host::OperatorStateStore;
/// use strandline_state_api::{BroadcastDescriptor, OperatorListDescriptor, Result};
///
/// # fn main() -> Result<()> {
/// let mut store = OperatorStateStore::new();
/// let positions = store.register_list(&OperatorListDescriptor::<u64>::split("positions"))?;
/// let limits = store.register_broadcast(&BroadcastDescriptor::<String, u64>::new("limits"))?;
/// store.get_mut(positions)?.push(17);
/// store.broadcast_mut(limits)?.put("books".into(), 100);
///
/// let mut again = OperatorStateStore::restored(store.snapshot()?);
/// let limits = again.register_broadcast(&BroadcastDescriptor::<String, u64>::new("limits"))?;
/// assert_eq!(again.broadcast(limits)?.get(&"books".into()), Some(&100));
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct OperatorStateStore {
    lists: OperatorLists,
    broadcasts: BroadcastStates,
    /// Restored entries that no registration has claimed. Every snapshot writes them again.
    restored: Vec<OperatorStateEntry>,
}

impl OperatorStateStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a store with the entries of a checkpoint; a registration decodes the entries of its state.
    ///
    /// `entries` may come from several subtasks: the store joins lists, and takes the first copy of each
    /// broadcast state.
    pub fn restored(entries: Vec<OperatorStateEntry>) -> Self {
        let mut restored: Vec<OperatorStateEntry> = Vec::with_capacity(entries.len());
        for entry in entries {
            let is_copy = entry.redistribution == Redistribution::Broadcast
                && restored.iter().any(|known| known.name == entry.name);
            if !is_copy {
                restored.push(entry);
            }
        }
        Self { restored, ..Self::default() }
    }

    /// Adds the entries of a checkpoint to the states that are registered; a later registration claims the
    /// others. `entries` may come from several subtasks, as for [`restored`](Self::restored).
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when a state was stored with another redistribution, or in a
    /// form that it does not read, [`Corrupt`](ErrorKind::Corrupt) when an element cannot be decoded.
    pub fn restore(&mut self, entries: Vec<OperatorStateEntry>) -> Result<()> {
        let Self { restored: mut entries, .. } = Self::restored(entries);
        for state in self.lists.0.iter_mut().chain(self.broadcasts.0.iter_mut()) {
            fill(state, &mut entries)?;
        }
        self.restored.extend(entries);
        Ok(())
    }

    /// Registers a list, with its restored elements if there are any. The same name returns the same list.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when a state of another type, codec, version or redistribution has the
    /// name, or when the declared versions do not rise; [`Incompatible`](ErrorKind::Incompatible) when the
    /// state was stored with another redistribution, or in a form that it does not read;
    /// [`Corrupt`](ErrorKind::Corrupt) when an element cannot be decoded; the errors of migrations.
    pub fn register_list<T: Send + 'static>(
        &mut self,
        descriptor: &OperatorListDescriptor<T>,
    ) -> Result<OperatorListState<T>> {
        let wanted = descriptor.meta();
        self.check(&wanted, descriptor.decoder.check())?;
        if let Some(index) = self.lists.0.position(wanted.name()) {
            return same_types::<List<T>>(&self.lists.0, index, &wanted).map(OperatorListState::new);
        }
        let mut list = List::new(descriptor, wanted);
        fill(&mut list, &mut self.restored)?;
        Ok(OperatorListState::new(self.lists.0.push(list)))
    }

    /// Registers a broadcast state, with its restored entries if there are any. The same name returns the
    /// same map.
    ///
    /// What an operator puts must follow from the broadcast records alone, so that the map is the same in
    /// every subtask. Each subtask checkpoints its own copy, and after a change of parallelism it restores
    /// one copy, of any subtask; copies are never merged.
    ///
    /// # Errors
    /// Those of [`register_list`](Self::register_list).
    pub fn register_broadcast<MK: StateKey, V: Send + 'static>(
        &mut self,
        descriptor: &BroadcastDescriptor<MK, V>,
    ) -> Result<BroadcastState<MK, V>> {
        let wanted = descriptor.meta();
        self.check(&wanted, descriptor.decoder.check())?;
        if let Some(index) = self.broadcasts.0.position(wanted.name()) {
            let same = same_types::<Broadcast<MK, V>>(&self.broadcasts.0, index, &wanted);
            return same.map(BroadcastState::new);
        }
        let mut broadcast = Broadcast::new(descriptor, wanted);
        fill(&mut broadcast, &mut self.restored)?;
        Ok(BroadcastState::new(self.broadcasts.0.push(broadcast)))
    }

    /// Lends the elements of a list.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the handle belongs to another store.
    pub fn get<T: Send + 'static>(&self, state: OperatorListState<T>) -> Result<&[T]> {
        self.lists.get(state)
    }

    /// Lends the elements of a list mutably.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn get_mut<T: Send + 'static>(&mut self, state: OperatorListState<T>) -> Result<&mut Vec<T>> {
        self.lists.get_mut(state)
    }

    /// Lends a broadcast state.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &self,
        state: BroadcastState<MK, V>,
    ) -> Result<&BroadcastMap<MK, V>> {
        self.broadcasts.get(state)
    }

    /// Lends a broadcast state mutably.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub fn broadcast_mut<MK: StateKey, V: Send + 'static>(
        &mut self,
        state: BroadcastState<MK, V>,
    ) -> Result<&mut BroadcastMap<MK, V>> {
        self.broadcasts.get_mut(state)
    }

    /// Encodes all state as a checkpoint stores it.
    ///
    /// # Errors
    /// Those of the codecs.
    pub fn snapshot(&self) -> Result<Vec<OperatorStateEntry>> {
        let registered = self.lists.0.entries().chain(self.broadcasts.0.entries());
        registered.chain(self.restored.iter().cloned().map(Ok)).collect()
    }

    /// Returns the types of all registered states, for programs that read a snapshot without the job. The codec
    /// of an entry of a broadcast state is that of its values here.
    pub fn types(&self) -> Vec<StateTypes> {
        let registered = self.lists.0.metas().chain(self.broadcasts.0.metas());
        registered
            .flat_map(|meta| meta.schema.types.iter().filter(|types| !types.is_empty()).cloned())
            .collect()
    }

    /// Returns the lists to change and the broadcast states to read: what an operator sees on its keyed side.
    pub(crate) fn keyed_side(&mut self) -> (&mut OperatorLists, &BroadcastStates) {
        (&mut self.lists, &self.broadcasts)
    }

    /// Returns the lists and the broadcast states to change: what an operator sees on its broadcast side.
    pub(crate) fn broadcast_side(&mut self) -> (&mut OperatorLists, &mut BroadcastStates) {
        (&mut self.lists, &mut self.broadcasts)
    }

    /// Refuses a declaration that is wrong, and a name that another state has taken.
    fn check(&self, wanted: &Meta, declared: Result<()>) -> Result<()> {
        declared.map_err(|error| error.with("operator state", wanted.name()))?;
        let mut registered = self.lists.0.metas().chain(self.broadcasts.0.metas());
        match registered.find(|known| known.name() == wanted.name() && *known != wanted) {
            Some(known) => Err(taken(known, wanted)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for OperatorStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.lists.0.metas().chain(self.broadcasts.0.metas()).map(Meta::name);
        let restored = self.restored.iter().map(|entry| entry.name.as_str());
        f.debug_list().entries(registered.chain(restored)).finish()
    }
}

/// Moves the entries of a state, under its name or a former one, from `entries` into the state.
fn fill(state: &mut dyn AnyState, entries: &mut Vec<OperatorStateEntry>) -> Result<()> {
    let wanted = state.meta().clone();
    let of_state: Vec<_> = entries.iter().filter(|entry| wanted.is_called(&entry.name)).collect();
    if of_state.windows(2).any(|pair| pair[0].name != pair[1].name) {
        let message = "the checkpoint has the operator state under several of its names";
        return Err(Error::new(ErrorKind::Incompatible, message).with("operator state", wanted.name()));
    }
    of_state.iter().try_for_each(|entry| wanted.version_of(entry).map(drop))?;
    for entry in of_state {
        state.restore(entry).map_err(|error| error.with("operator state", wanted.name()))?;
    }
    entries.retain(|entry| !wanted.is_called(&entry.name));
    Ok(())
}

/// Returns the index of a registered state if its Rust types are the wanted ones; two types may have one
/// name.
fn same_types<S: AnyState>(registered: &Registered, index: usize, wanted: &Meta) -> Result<usize> {
    registered.get::<S>(index).map(|_| index).map_err(|_| taken(wanted, wanted))
}

fn taken(known: &Meta, wanted: &Meta) -> Error {
    let message = format!(
        "the operator state is registered as {known}, wanted is {wanted}; one name has one mode \
         and one type: use another name"
    );
    Error::invalid(message).with("operator state", wanted.name())
}
