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
use crate::schema::Decoder;
use crate::{Codec, Error, Evolution, Result, SerdeCodec, StateKey};

/// Declares a broadcast state (Flink: `MapStateDescriptor` given to `broadcast`).
pub struct BroadcastDescriptor<MK, V> {
    name: String,
    pub(super) decoder: Decoder<V>,
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
        Self::of(name.into(), Decoder::new(1, Arc::new(codec)))
    }

    /// Declares a map of this name whose values have older versions, which a restore migrates.
    pub fn evolving(name: impl Into<String>, evolution: Evolution<V>) -> Self {
        Self::of(name.into(), evolution.0)
    }

    fn of(name: String, decoder: Decoder<V>) -> Self {
        Self { name, decoder, map_key: PhantomData }
    }

    /// Sets the version of the value's schema (1 unless set); snapshots store it. A codec that [describes
    /// itself](Codec::is_self_describing) reads lower versions as they are; for others see
    /// [`evolving`](Self::evolving).
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.decoder.version = version;
        self
    }

    /// Declares a former name of the map: a restore fills this map with what a snapshot stores under that
    /// name.
    #[must_use]
    pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
        self.decoder.renamed_from.push(name.into());
        self
    }

    pub(super) fn meta(&self) -> Meta {
        let name = (self.name.as_str(), Redistribution::Broadcast);
        Meta::new(name, (MK::codec(), MK::description()), &self.decoder, std::any::type_name::<(MK, V)>())
    }
}

impl<MK, V> Clone for BroadcastDescriptor<MK, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), decoder: self.decoder.clone(), map_key: PhantomData }
    }
}

impl<MK, V> fmt::Debug for BroadcastDescriptor<MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastDescriptor({} v{})", self.name, self.decoder.version)
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

/// A map, and how its values are stored.
pub(super) struct Broadcast<MK, V> {
    meta: Meta,
    decoder: Decoder<V>,
    map: BroadcastMap<MK, V>,
}

impl<MK: StateKey, V: 'static> Broadcast<MK, V> {
    pub(super) fn new(descriptor: &BroadcastDescriptor<MK, V>, meta: Meta) -> Self {
        Self { meta, decoder: descriptor.decoder.clone(), map: BroadcastMap::new() }
    }
}

impl<MK: StateKey, V: Send + 'static> AnyState for Broadcast<MK, V> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn entry(&self) -> Result<OperatorStateEntry> {
        let mut elements = Vec::with_capacity(self.map.len());
        for (encoded, (_, value)) in &self.map.entries {
            elements.push(encode_entry(self.decoder.codec.as_ref(), encoded, value)?);
        }
        Ok(self.meta.entry(elements))
    }

    fn restore(&mut self, entry: &OperatorStateEntry) -> Result<()> {
        let decode = self.decoder.of_version(self.meta.version_of(entry)?);
        for element in &entry.elements {
            let (map_key, value) = OperatorStateEntry::split_map_entry(element)?;
            if self.map.put(MK::decode(map_key)?, decode(value)?).is_some() {
                return Err(Error::corrupt("two entries of a broadcast state have one map key"));
            }
        }
        Ok(())
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
