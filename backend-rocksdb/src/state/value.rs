//! Value states.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_state_api::format::StateMeta;
use strandline_state_api::{
    Codec, KeyGroup, KeyGroupRange, KeyHash, Keyed, Result, StateKey, StateTime, Ttl, ValueDescriptor,
};

use super::ageing::{self, Ageing};
use super::{AnyState, Place, VisitKey};
use crate::layout::Layout;
use crate::store::{Order, Store};

/// Values by key and namespace.
pub(crate) struct Value<K, N, V> {
    place: Place,
    codec: Arc<dyn Codec<V>>,
    ageing: Ageing<V>,
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
        let ageing = Ageing::new(descriptor.decoder(), descriptor.expiry());
        let place = Place::new::<K, N>(descriptor.schema::<K>(), id, Some(0));
        let (batch, types) = (Vec::new(), PhantomData);
        Self { place, codec, ageing, at: Vec::new(), encoded: Vec::new(), lent: None, batch, types }
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

    pub(crate) fn merge(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        self.aim(key, namespace);
        let merged = match store.get(&self.at, Order::Hashed)? {
            Some(bytes) => {
                let mut into = self.codec.decode(bytes)?;
                combine(&mut into, value);
                into
            }
            None => value,
        };
        self.encoded.clear();
        self.codec.encode(&merged, &mut self.encoded)?;
        store.put(&self.at, Order::Hashed, &self.encoded)
    }

    /// The value if `keep` says so; otherwise it is removed.
    pub(crate) fn get_if(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        keep: impl FnOnce(&V) -> bool,
    ) -> Result<Option<&V>> {
        self.get(store, key, namespace)?;
        if self.lent.as_ref().is_some_and(|value| !keep(value)) {
            self.lent = None;
            store.delete(&self.at, Order::Hashed)?;
        }
        Ok(self.lent.as_ref())
    }

    pub(crate) fn update(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        change: impl FnOnce(&mut V),
    ) -> Result<bool> {
        self.get(store, key, namespace)?;
        let Some(value) = &mut self.lent else { return Ok(false) };
        change(value);
        self.encoded.clear();
        self.codec.encode(value, &mut self.encoded)?;
        store.put(&self.at, Order::Hashed, &self.encoded).map(|()| true)
    }

    pub(crate) fn take(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<Option<V>> {
        self.get(store, key, namespace)?;
        let taken = self.lent.take();
        if taken.is_some() {
            store.delete(&self.at, Order::Hashed)?;
        }
        Ok(taken)
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
        store.load(&self.batch[..used])
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> AnyState for Value<K, N, V> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn adopt(&mut self, id: u16, layout: Layout) {
        self.place.adopt(id, layout);
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<bool> {
        self.ageing.accept(stored, self.place.meta())
    }

    fn migrate(&self, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.ageing.migrate(value, out, |migration, out| self.codec.encode(&migration.decode(value)?, out))
    }

    fn ttl(&self) -> Option<Ttl> {
        self.ageing.ttl()
    }

    fn for_each_key(
        &mut self,
        store: &mut Store,
        key_groups: KeyGroupRange,
        visit: VisitKey<'_>,
    ) -> Result<()> {
        ageing::for_each_key::<K, N>(&self.place, store, (key_groups, Order::Hashed), visit)
    }

    fn clean_up(&mut self, store: &mut Store, records: usize, clock: &StateTime) -> Result<u64> {
        self.ageing.clean_up(&self.place, store, Order::Hashed, (records, clock))
    }
}

impl<K, N, V> fmt::Debug for Value<K, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("place", &self.place).finish_non_exhaustive()
    }
}
