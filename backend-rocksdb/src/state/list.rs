//! List states: one value for each list, its elements one behind the other as in the portable format, so that adding is a merge.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_state_api::format::{StateMeta, list};
use strandline_state_api::{Codec, KeyGroupRange, Keyed, ListDescriptor, Result, StateKey, StateTime, Ttl};

use super::ageing::{self, Ageing};
use super::{AnyState, Place, VisitKey};
use crate::layout::Layout;
use crate::store::{Order, Store};

/// Lists by key and namespace. No list in it is empty.
pub(crate) struct List<K, N, T> {
    place: Place,
    codec: Arc<dyn Codec<T>>,
    ageing: Ageing<T>,
    at: Vec<u8>,
    encoded: Vec<u8>,
    element: Vec<u8>,
    /// The elements that are lent.
    lent: Vec<T>,
    types: PhantomData<fn() -> (K, N)>,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> List<K, N, T> {
    pub(crate) fn new(descriptor: &ListDescriptor<T, N>, id: u16) -> Self {
        let codec = Arc::clone(descriptor.codec());
        let ageing = Ageing::new(descriptor.decoder(), descriptor.expiry());
        let place = Place::new::<K, N>(descriptor.schema::<K>(), id, Some(0));
        let (at, encoded, element) = (Vec::new(), Vec::new(), Vec::new());
        Self { place, codec, ageing, at, encoded, element, lent: Vec::new(), types: PhantomData }
    }

    fn aim(&mut self, key: Keyed<'_, K>, namespace: &N) {
        let Place { id, layout, .. } = &self.place;
        layout.address(*id, key.group(), key.key(), namespace, &mut self.at);
    }

    fn encode(&mut self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        self.encoded.clear();
        for element in elements {
            self.element.clear();
            self.codec.encode(&element, &mut self.element)?;
            list::push(&mut self.encoded, &self.element);
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<&[T]> {
        self.aim(key, namespace);
        self.lent.clear();
        if let Some(bytes) = store.get(&self.at, Order::Hashed)? {
            for element in list::elements(bytes) {
                self.lent.push(self.codec.decode(element?)?);
            }
        }
        Ok(&self.lent)
    }

    pub(crate) fn append(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.encode(elements)?;
        if self.encoded.is_empty() {
            return Ok(());
        }
        self.aim(key, namespace);
        store.append(&self.at, &self.encoded)
    }

    pub(crate) fn put(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: Vec<T>,
    ) -> Result<()> {
        self.encode(elements)?;
        self.aim(key, namespace);
        if self.encoded.is_empty() {
            return store.delete(&self.at, Order::Hashed);
        }
        store.put(&self.at, Order::Hashed, &self.encoded)
    }

    pub(crate) fn take(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<Vec<T>> {
        self.get(store, key, namespace)?;
        if !self.lent.is_empty() {
            store.delete(&self.at, Order::Hashed)?;
        }
        Ok(std::mem::take(&mut self.lent))
    }

    pub(crate) fn clear(&mut self, store: &mut Store, key: Keyed<'_, K>, namespace: &N) -> Result<bool> {
        self.aim(key, namespace);
        let there = store.contains(&self.at, Order::Hashed)?;
        if there {
            store.delete(&self.at, Order::Hashed)?;
        }
        Ok(there)
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> AnyState for List<K, N, T> {
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
        self.ageing.migrate(value, out, |migration, out| {
            let mut bytes = Vec::new();
            for element in list::elements(value) {
                bytes.clear();
                self.codec.encode(&migration.decode(element?)?, &mut bytes)?;
                list::push(out, &bytes);
            }
            Ok(())
        })
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

impl<K, N, T> fmt::Debug for List<K, N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("place", &self.place).finish_non_exhaustive()
    }
}
