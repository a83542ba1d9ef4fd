//! Map states: one entry of the database for each map entry; those of one map stand together in the order of
//! their map keys.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use strandline_state_api::backend::{At, Maps, Verdict, encoded_range};
use strandline_state_api::{Result, StateKey};

use super::Access;
use super::table::{Shape, Table};
use crate::layout::successor;
use crate::store::{Order, Store};

/// Maps by key and namespace.
pub(crate) type MapTable<K, N, MK, V> = Table<K, N, V, ByMapKey<MK, V>>;

/// A map for each key and namespace.
#[derive(Debug)]
pub struct ByMapKey<MK, V> {
    lent: Option<V>,
    map_key: PhantomData<fn() -> MK>,
}

impl<MK, V> Default for ByMapKey<MK, V> {
    fn default() -> Self {
        Self { lent: None, map_key: PhantomData }
    }
}

impl<MK: StateKey, V: Send + 'static> Shape<V> for ByMapKey<MK, V> {
    const ORDER: Order = Order::Sorted;
    const MAP_KEY_WIDTH: Option<usize> = MK::WIDTH;
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> MapTable<K, N, MK, V> {
    /// Makes one entry of a map the current one.
    #[inline]
    fn encode_entry(&mut self, at: At<'_, K, N>, map_key: &MK) {
        self.encode_address(at);
        self.addressing.push_map_key(&mut self.address, |out| map_key.encode(out));
    }

    /// Visits the addresses of one map, as long as `visit` returns true.
    fn scan(
        &mut self,
        store: &mut Store,
        at: At<'_, K, N>,
        mut visit: impl FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        self.encode_address(at);
        let end = successor(&self.address);
        store.scan(&self.address, end.as_deref(), Order::Sorted, |address, _| Ok(visit(address)))
    }

    /// The first address of a range of one map, and the first behind the range.
    fn encode_range(&mut self, at: At<'_, K, N>, range: &impl RangeBounds<MK>) -> (Vec<u8>, Option<Vec<u8>>) {
        self.encode_address(at);
        let Self { addressing, address: map, .. } = self;
        let with = |map_key: &[u8]| {
            let mut address = map.clone();
            addressing.push_map_key(&mut address, |out| out.extend_from_slice(map_key));
            address
        };
        // The first address behind that of a map key is the same with one more byte.
        let behind = |map_key: &[u8]| {
            let mut address = with(map_key);
            address.push(0);
            address
        };
        let (from, to) = encoded_range(range);
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
        (from, to)
    }
}

impl<'b, K, N, MK, V> Maps<'b, K, N, MK, V> for Access<'b, MapTable<K, N, MK, V>>
where
    K: StateKey,
    N: StateKey,
    MK: StateKey,
    V: Send + 'static,
{
    #[inline]
    fn get_if(
        self,
        at: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        self.run(|table, store| {
            table.encode_entry(at, map_key);
            table.shape.lent = table.read_if(store, judge, refresh)?;
            Ok(table.shape.lent.as_ref())
        })
    }

    #[inline]
    fn put(self, at: At<'_, K, N>, map_key: MK, value: V) -> Result<()> {
        self.run(|table, store| {
            table.encode_entry(at, &map_key);
            table.write(store, &value)
        })
    }

    #[inline]
    fn modify<R>(
        self,
        at: At<'_, K, N>,
        map_key: MK,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.run(|table, store| {
            table.encode_entry(at, &map_key);
            table.modify(store, keep, initial, change)
        })
    }

    #[inline]
    fn take(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<V>> {
        self.run(|table, store| {
            table.encode_entry(at, map_key);
            table.take(store)
        })
    }

    #[inline]
    fn remove(self, at: At<'_, K, N>, map_key: &MK) -> Result<bool> {
        self.run(|table, store| {
            table.encode_entry(at, map_key);
            table.remove(store)
        })
    }

    #[inline]
    fn contains(self, at: At<'_, K, N>, map_key: &MK) -> Result<bool> {
        self.run(|table, store| {
            table.encode_entry(at, map_key);
            store.contains(&table.address, Order::Sorted)
        })
    }

    fn for_each(self, at: At<'_, K, N>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.range(at, .., visit)
    }

    fn range(
        self,
        at: At<'_, K, N>,
        range: impl RangeBounds<MK>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        self.run(|table, store| {
            let (from, to) = table.encode_range(at, &range);
            if to.as_ref().is_some_and(|to| *to <= from) {
                return Ok(());
            }
            let Table { addressing, values, .. } = table;
            store.scan(&from, to.as_deref(), Order::Sorted, |address, value| {
                let parts = addressing.layout.split(address)?;
                visit(&MK::decode(&parts.sub)?, &values.decode(value)?)?;
                Ok(true)
            })
        })
    }

    fn len(self, at: At<'_, K, N>) -> Result<usize> {
        self.run(|table, store| {
            let mut len = 0;
            table.scan(store, at, |_| {
                len += 1;
                true
            })?;
            Ok(len)
        })
    }

    fn is_empty(self, at: At<'_, K, N>) -> Result<bool> {
        self.run(|table, store| {
            let mut empty = true;
            table.scan(store, at, |_| {
                empty = false;
                false
            })?;
            Ok(empty)
        })
    }

    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        self.run(|table, store| {
            // One tombstone for each entry: a range tombstone slows down every read near it.
            let mut all = Vec::new();
            table.scan(store, at, |address| {
                all.push(address.to_vec());
                true
            })?;
            for address in &all {
                store.delete(address, Order::Sorted)?;
            }
            Ok(!all.is_empty())
        })
    }
}
