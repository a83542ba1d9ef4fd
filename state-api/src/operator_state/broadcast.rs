//! Broadcast state: a map with the same contents in every subtask.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::registered::{AnyState, Meta, Registered};
use super::{OperatorStateEntry, Redistribution};
use crate::{Codec, Error, Result, SerdeCodec, StateKey};

/// Declares a broadcast state (Flink: `MapStateDescriptor` given to `broadcast`).
pub struct BroadcastDescriptor<MK, V> {
    name: String,
    codec: Arc<dyn Codec<V>>,
    schema_version: u32,
    map_key: PhantomData<fn() -> MK>,
}

impl<MK: StateKey, V: 'static> BroadcastDescriptor<MK, V> {
    /// Declares a map of this name (unique among the operator states of its operator) with the default codec,
    /// [`SerdeCodec`].
    pub fn new(name: impl Into<String>) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        Self::with_codec(name, SerdeCodec)
    }

    /// Declares a map of this name with a codec of your own for its values.
    pub fn with_codec(name: impl Into<String>, codec: impl Codec<V>) -> Self {
        Self { name: name.into(), codec: Arc::new(codec), schema_version: 1, map_key: PhantomData }
    }

    /// Sets the version of the value's schema (1 unless set), which snapshots store.
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    pub(super) fn meta(&self) -> Meta {
        Meta {
            name: self.name.clone(),
            redistribution: Redistribution::Broadcast,
            codec: format!("{} -> {}", MK::codec(), self.codec.id()),
            schema_version: self.schema_version,
            types: std::any::type_name::<(MK, V)>(),
        }
    }
}

impl<MK, V> Clone for BroadcastDescriptor<MK, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            codec: Arc::clone(&self.codec),
            schema_version: self.schema_version,
            map_key: PhantomData,
        }
    }
}

impl<MK, V> fmt::Debug for BroadcastDescriptor<MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastDescriptor({} v{})", self.name, self.schema_version)
    }
}

/// A handle of a broadcast state that is registered with an
/// [`OperatorStateStore`](super::OperatorStateStore), valid for that store only.
pub struct BroadcastState<MK, V> {
    pub(super) index: usize,
    types: PhantomData<fn() -> (MK, V)>,
}

impl<MK, V> BroadcastState<MK, V> {
    pub(super) fn new(index: usize) -> Self {
        Self { index, types: PhantomData }
    }
}

impl<MK, V> Clone for BroadcastState<MK, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<MK, V> Copy for BroadcastState<MK, V> {}

impl<MK, V> fmt::Debug for BroadcastState<MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastState(#{})", self.index)
    }
}

/// The contents of a broadcast state. A `&BroadcastMap` can read, a `&mut BroadcastMap` can also write.
pub struct BroadcastMap<MK, V> {
    /// The entries by encoded map key, which defines their order.
    entries: BTreeMap<Vec<u8>, (MK, V)>,
    /// The buffer for the encoding of each key that is looked up, so that a lookup allocates nothing.
    scratch: Cell<Vec<u8>>,
}

impl<MK: StateKey, V> BroadcastMap<MK, V> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), scratch: Cell::default() }
    }

    /// Lends a value.
    pub fn get(&self, map_key: &MK) -> Option<&V> {
        let encoded = self.encode(map_key);
        let found = self.entries.get(&encoded);
        self.scratch.set(encoded);
        found.map(|(_, value)| value)
    }

    /// Returns whether an entry exists.
    pub fn contains(&self, map_key: &MK) -> bool {
        self.get(map_key).is_some()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns an iterator over all entries in ascending order of the encoded map keys, the natural order for
    /// numbers, strings and tuples of them. The order is the same in every subtask, whatever the order of the
    /// puts was.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&MK, &V)> {
        self.entries.values().map(|(map_key, value)| (map_key, value))
    }

    /// Sets a value and returns the value that it replaces.
    pub fn put(&mut self, map_key: MK, value: V) -> Option<V> {
        let encoded = self.encode(&map_key);
        self.entries.insert(encoded, (map_key, value)).map(|(_, value)| value)
    }

    /// Lends a value mutably.
    pub fn get_mut(&mut self, map_key: &MK) -> Option<&mut V> {
        let encoded = self.encode(map_key);
        let found = self.entries.get_mut(&encoded);
        self.scratch.set(encoded);
        found.map(|(_, value)| value)
    }

    /// Removes an entry and returns its value.
    pub fn remove(&mut self, map_key: &MK) -> Option<V> {
        let encoded = self.encode(map_key);
        let removed = self.entries.remove(&encoded);
        self.scratch.set(encoded);
        removed.map(|(_, value)| value)
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    fn encode(&self, map_key: &MK) -> Vec<u8> {
        let mut encoded = self.scratch.take();
        encoded.clear();
        map_key.encode(&mut encoded);
        encoded
    }
}

impl<MK, V> fmt::Debug for BroadcastMap<MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastMap({} entries)", self.entries.len())
    }
}

/// A map and the codec of its values.
pub(super) struct Broadcast<MK, V> {
    meta: Meta,
    codec: Arc<dyn Codec<V>>,
    map: BroadcastMap<MK, V>,
}

impl<MK: StateKey, V: 'static> Broadcast<MK, V> {
    pub(super) fn decode<'e>(
        descriptor: &BroadcastDescriptor<MK, V>,
        meta: Meta,
        mut stored: impl Iterator<Item = &'e Vec<u8>>,
    ) -> Result<Self> {
        let codec = Arc::clone(&descriptor.codec);
        let mut broadcast = Self { meta, codec, map: BroadcastMap::new() };
        let added = stored.try_for_each(|element| broadcast.add(element));
        added.map_err(|error| error.with("operator state", &broadcast.meta.name))?;
        Ok(broadcast)
    }

    fn add(&mut self, element: &[u8]) -> Result<()> {
        let (map_key, value) = decode_entry(self.codec.as_ref(), element)?;
        if self.map.put(map_key, value).is_some() {
            return Err(Error::corrupt("two entries of a broadcast state have one map key"));
        }
        Ok(())
    }
}

impl<MK: StateKey, V: Send + 'static> AnyState for Broadcast<MK, V> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn entry(&self) -> Result<OperatorStateEntry> {
        let mut elements = Vec::with_capacity(self.map.len());
        for (encoded, (_, value)) in &self.map.entries {
            elements.push(encode_entry(self.codec.as_ref(), encoded, value)?);
        }
        Ok(self.meta.entry(elements))
    }

    fn restore(&mut self, elements: &[Vec<u8>]) -> Result<()> {
        elements.iter().try_for_each(|element| self.add(element))
    }
}

/// Encodes an element of the checkpoint: the length of the map key (4 bytes, little-endian), the map key, the
/// value.
fn encode_entry<V: 'static>(codec: &dyn Codec<V>, map_key: &[u8], value: &V) -> Result<Vec<u8>> {
    let len = u32::try_from(map_key.len());
    let len = len.map_err(|_| Error::invalid("a map key of a broadcast state has 4 GiB or more"))?;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend_from_slice(map_key);
    codec.encode(value, &mut bytes)?;
    Ok(bytes)
}

fn decode_entry<MK: StateKey, V: 'static>(codec: &dyn Codec<V>, bytes: &[u8]) -> Result<(MK, V)> {
    let split = bytes.split_first_chunk::<4>().and_then(|(len, rest)| {
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        rest.split_at_checked(len)
    });
    let (map_key, value) =
        split.ok_or_else(|| Error::corrupt("an entry of a broadcast state ends within its map key"))?;
    Ok((MK::decode(map_key)?, codec.decode(value)?))
}

/// The broadcast states of one subtask.
#[derive(Debug, Default)]
pub(crate) struct BroadcastStates(pub(super) Registered);

impl BroadcastStates {
    pub(crate) fn get<MK: StateKey, V: Send + 'static>(
        &self,
        state: BroadcastState<MK, V>,
    ) -> Result<&BroadcastMap<MK, V>> {
        self.0.get::<Broadcast<MK, V>>(state.index).map(|broadcast| &broadcast.map)
    }

    pub(crate) fn get_mut<MK: StateKey, V: Send + 'static>(
        &mut self,
        state: BroadcastState<MK, V>,
    ) -> Result<&mut BroadcastMap<MK, V>> {
        self.0.get_mut::<Broadcast<MK, V>>(state.index).map(|broadcast| &mut broadcast.map)
    }
}
