//! Value states.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_state_api::format::StateKind;
use strandline_state_api::{
    Codec, KeyGroup, KeyGroupRange, KeyHash, Keyed, Result, StateKey, ValueDescriptor,
};

use super::{AnyState, Place, meta};
use crate::layout::Layout;
use crate::store::{Order, Store};

/// Values by key and namespace.
pub(crate) struct Value<K, N, V> {
    place: Place,
    codec: Arc<dyn Codec<V>>,
    at: Vec<u8>,
    encoded: Vec<u8>,
    /// The value that is lent.
    lent: Option<V>,
    /// Addresses of a batch.
    batch: Vec<Vec<u8>>,
    types: PhantomData<fn() -> (K, N)>,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> Value<K, N, V> {
    pub(crate) fn new(descriptor: &ValueDescriptor<V, N>, id: u16) -> Self {
        let codec = Arc::clone(descriptor.codec());
        let (name, version) = (descriptor.name(), descriptor.version());
        let meta = meta::<K, N>(name, StateKind::Value, String::new(), codec.id(), version);
        let (place, batch, types) = (Place::new::<K, N>(meta, id, Some(0)), Vec::new(), PhantomData);
        Self { place, codec, at: Vec::new(), encoded: Vec::new(), lent: None, batch, types }
    }

    #[inline]
    fn aim(&mut self, key: Keyed<'_, K>, namespace: &N) {
        let Place { id, layout, .. } = &self.place;
        layout.address(*id, key.group(), key.key(), namespace, &mut self.at);
    }

    pub(crate) fn get(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<Option<&V>> {
        self.aim(key, namespace);
        self.lent = match store.get(&self.at, Order::Hashed)? {
            Some(bytes) => Some(self.codec.decode(bytes)?),
            None => None,
        };
        Ok(self.lent.as_ref())
    }

    pub(crate) fn put(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        value: &V,
    ) -> Result<()> {
        self.aim(key, namespace);
        self.encoded.clear();
        self.codec.encode(value, &mut self.encoded)?;
        store.put(&self.at, Order::Hashed, &self.encoded)
    }

    pub(crate) fn modify<R>(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.aim(key, namespace);
        let mut value = match store.get(&self.at, Order::Hashed)? {
            Some(bytes) => self.codec.decode(bytes)?,
            None => initial(),
        };
        let answer = change(&mut value);
        self.encoded.clear();
        self.codec.encode(&value, &mut self.encoded)?;
        store.put(&self.at, Order::Hashed, &self.encoded)?;
        Ok(answer)
    }

    pub(crate) fn clear(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<bool> {
        self.aim(key, namespace);
        let there = store.contains(&self.at, Order::Hashed)?;
        if there {
            store.delete(&self.at, Order::Hashed)?;
        }
        Ok(there)
    }

    pub(crate) fn for_each(
        &mut self,
        store: &mut Store,
        range: KeyGroupRange,
        mut visit: impl FnMut(&K, &N, &V) -> Result<()>,
    ) -> Result<()> {
        let Self { place, codec, .. } = self;
        store.scan_state(place.id, range, Order::Hashed, |address, value| {
            let parts = place.layout.split(address)?;
            visit(&K::decode(&parts.key)?, &N::decode(&parts.namespace)?, &codec.decode(value)?)?;
            Ok(true)
        })
    }

    pub(crate) fn prefetch(
        &mut self,
        store: &mut Store,
        keys: &mut dyn Iterator<Item = (KeyHash, &K)>,
        namespace: &N,
    ) -> Result<()> {
        let Place { id, layout, .. } = &self.place;
        let mut used = 0;
        for (hash, key) in keys {
            if used == self.batch.len() {
                self.batch.push(Vec::new());
            }
            layout.address(*id, KeyGroup::of(hash), key, namespace, &mut self.batch[used]);
            used += 1;
        }
        store.load(&mut self.batch[..used])
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> AnyState for Value<K, N, V> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn adopt(&mut self, id: u16, layout: Layout) {
        self.place.adopt(id, layout);
    }
}

impl<K, N, V> fmt::Debug for Value<K, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("place", &self.place).finish_non_exhaustive()
    }
}
