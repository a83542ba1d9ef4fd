//! Map states: one entry of the database for each map entry, those of a map behind each other in the order of their keys.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use strandline_state_api::format::StateMeta;
use strandline_state_api::{
    Codec, KeyGroupRange, Keyed, MapDescriptor, Result, StateKey, StateTime, Ttl, encoded_range,
};

use super::ageing::{self, Ageing};
use super::{AnyState, Place, VisitKey};
use crate::layout::{Layout, successor};
use crate::store::{Order, Store};

/// Maps by key and namespace.
pub(crate) struct Map<K, N, MK, V> {
    place: Place,
    codec: Arc<dyn Codec<V>>,
    ageing: Ageing<V>,
    at: Vec<u8>,
    encoded: Vec<u8>,
    /// The value that is lent.
    lent: Option<V>,
    types: PhantomData<fn(K, N, MK)>,
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Map<K, N, MK, V> {
    pub(crate) fn new(descriptor: &MapDescriptor<MK, V, N>, id: u16) -> Self {
        let codec = Arc::clone(descriptor.codec());
        let ageing = Ageing::new(descriptor.decoder(), descriptor.expiry());
        let place = Place::new::<K, N>(descriptor.schema::<K>(), id, MK::WIDTH);
        Self { place, codec, ageing, at: Vec::new(), encoded: Vec::new(), lent: None, types: PhantomData }
    }

    fn aim(&mut self, key: Keyed<'_, K>, namespace: &N) {
        let Place { id, layout, .. } = &self.place;
        layout.address(*id, key.group(), key.key(), namespace, &mut self.at);
    }

    fn aim_at(&mut self, key: Keyed<'_, K>, namespace: &N, map_key: &MK) {
        self.aim(key, namespace);
        self.place.layout.push_sub(&mut self.at, |out| map_key.encode(out));
    }

    pub(crate) fn get(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<&V>> {
        self.aim_at(key, namespace, map_key);
        self.lent = match store.get(&self.at, Order::Sorted)? {
            Some(bytes) => Some(self.codec.decode(bytes)?),
            None => None,
        };
        Ok(self.lent.as_ref())
    }

    pub(crate) fn contains(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        self.aim_at(key, namespace, map_key);
        store.contains(&self.at, Order::Sorted)
    }

    pub(crate) fn put(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
        value: &V,
    ) -> Result<()> {
        self.aim_at(key, namespace, map_key);
        self.encoded.clear();
        self.codec.encode(value, &mut self.encoded)?;
        store.put(&self.at, Order::Sorted, &self.encoded)
    }

    pub(crate) fn take(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<V>> {
        self.get(store, key, namespace, map_key)?;
        let taken = self.lent.take();
        if taken.is_some() {
            store.delete(&self.at, Order::Sorted)?;
        }
        Ok(taken)
    }

    pub(crate) fn remove(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        let there = self.contains(store, key, namespace, map_key)?;
        if there {
            store.delete(&self.at, Order::Sorted)?;
        }
        Ok(there)
    }

    /// Visits the entries whose map key lies in `range`, in order.
    pub(crate) fn range(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        range: impl RangeBounds<MK>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        self.aim(key, namespace);
        let Self { place, codec, at: map, .. } = self;
        let with = |map_key: &[u8]| {
            let mut at = map.clone();
            place.layout.push_sub(&mut at, |out| out.extend_from_slice(map_key));
            at
        };
        // The first address behind that of a map key is the same with one more byte.
        let behind = |map_key: &[u8]| {
            let mut at = with(map_key);
            at.push(0);
            at
        };
        let (from, to) = encoded_range(&range);
        let from = match from {
            Bound::Included(map_key) => with(&map_key),
            Bound::Excluded(map_key) => behind(&map_key),
            Bound::Unbounded => map.clone(),
        };
        let to = match to {
            Bound::Included(map_key) => Some(behind(&map_key)),
            Bound::Excluded(map_key) => Some(with(&map_key)),
            Bound::Unbounded => successor(map),
        };
        if to.as_ref().is_some_and(|to| *to <= from) {
            return Ok(());
        }
        store.scan(&from, to.as_deref(), Order::Sorted, |address, value| {
            let parts = place.layout.split(address)?;
            visit(&MK::decode(&parts.sub)?, &codec.decode(value)?)?;
            Ok(true)
        })
    }

    pub(crate) fn is_empty(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<bool> {
        self.aim(key, namespace);
        let mut empty = true;
        store.scan(&self.at, successor(&self.at).as_deref(), Order::Sorted, |_, _| {
            empty = false;
            Ok(false)
        })?;
        Ok(empty)
    }

    pub(crate) fn clear(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<bool> {
        self.aim(key, namespace);
        // One tombstone for each entry: a range tombstone would slow down every read near it.
        let mut all = Vec::new();
        store.scan(&self.at, successor(&self.at).as_deref(), Order::Sorted, |address, _| {
            all.push(address.to_vec());
            Ok(true)
        })?;
        for address in &all {
            store.delete(address, Order::Sorted)?;
        }
        Ok(!all.is_empty())
    }
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> AnyState for Map<K, N, MK, V> {
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
        ageing::for_each_key::<K, N>(&self.place, store, (key_groups, Order::Sorted), visit)
    }

    fn clean_up(&mut self, store: &mut Store, records: usize, clock: &StateTime) -> Result<u64> {
        self.ageing.clean_up(&self.place, store, Order::Sorted, (records, clock))
    }
}

impl<K, N, MK, V> fmt::Debug for Map<K, N, MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("place", &self.place).finish_non_exhaustive()
    }
}
