//! Value states.

use strandline_state_api::backend::{At, Values, Verdict};
use strandline_state_api::{Result, StateKey};

use super::Access;
use super::table::{Shape, Table};
use crate::store::{Order, Prefetch};

/// Values by key and namespace.
pub(crate) type ValueTable<K, N, V> = Table<K, N, V, Single<V>>;

/// One value for each key and namespace.
#[derive(Debug)]
pub struct Single<V> {
    lent: Option<V>,
}

impl<V> Default for Single<V> {
    fn default() -> Self {
        Self { lent: None }
    }
}

impl<V: Send + 'static> Shape<V> for Single<V> {
    const ORDER: Order = Order::Hashed;
    const PREFETCH: Prefetch = Prefetch::Database;
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V>
    for Access<'b, ValueTable<K, N, V>>
{
    #[inline]
    fn get_if(
        self,
        at: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        self.run(|table, store| {
            table.encode_address(at);
            table.shape.lent = table.read_if(store, judge, refresh)?;
            Ok(table.shape.lent.as_ref())
        })
    }

    fn change<R>(self, at: At<'_, K, N>, change: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        self.run(|table, store| {
            table.encode_address(at);
            let mut stored = table.read(store)?;
            let existed = stored.is_some();
            let result = change(&mut stored);
            match stored {
                Some(value) => table.write(store, &value)?,
                None if existed => drop(table.remove(store)?),
                None => {}
            }
            Ok(result)
        })
    }

    #[inline]
    fn put(self, at: At<'_, K, N>, value: V) -> Result<()> {
        self.run(|table, store| {
            table.encode_address(at);
            table.write(store, &value)
        })
    }

    #[inline]
    fn modify<R>(
        self,
        at: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.run(|table, store| {
            table.encode_address(at);
            table.modify(store, keep, initial, change)
        })
    }

    #[inline]
    fn update(self, at: At<'_, K, N>, change: impl FnOnce(&mut V)) -> Result<bool> {
        self.run(|table, store| {
            table.encode_address(at);
            let Some(mut value) = table.read(store)? else { return Ok(false) };
            change(&mut value);
            table.write(store, &value).map(|()| true)
        })
    }

    #[inline]
    fn merge(self, at: At<'_, K, N>, value: V, combine: impl FnOnce(&mut V, V)) -> Result<()> {
        self.run(|table, store| {
            table.encode_address(at);
            let merged = match table.read(store)? {
                Some(mut into) => {
                    combine(&mut into, value);
                    into
                }
                None => value,
            };
            table.write(store, &merged)
        })
    }

    #[inline]
    fn take(self, at: At<'_, K, N>) -> Result<Option<V>> {
        self.run(|table, store| {
            table.encode_address(at);
            table.take(store)
        })
    }

    #[inline]
    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        self.run(|table, store| {
            table.encode_address(at);
            table.remove(store)
        })
    }

    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.run(|table, store| {
            let Table { addressing, key_groups, values, .. } = table;
            store.scan_state(addressing.id, *key_groups, Order::Hashed, |address, value| {
                let parts = addressing.layout.split(address)?;
                visit(&K::decode(&parts.key)?, &N::decode(&parts.namespace)?, &values.decode(value)?)?;
                Ok(true)
            })
        })
    }
}
