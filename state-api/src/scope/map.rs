//! Access to maps.

use std::ops::RangeBounds;

use super::Access;
use crate::{Expiring, KeyedBackend, Lasting, MapState, Result, StateKey, Timed};

/// The map of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct MapAccess<'a, B: KeyedBackend, MK, V, N, A = Lasting>(
    pub(super) Access<'a, B, MapState<MK, V, N, A>, N>,
);

impl<'a, B: KeyedBackend, MK: StateKey, V: Send + 'static, N: StateKey> MapAccess<'a, B, MK, V, N> {
    /// Lends the value of one entry, if there is one.
    #[inline]
    pub fn get(self, map_key: &MK) -> Result<Option<&'a V>> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_get(state, key, namespace, map_key)
    }

    /// Sets one entry.
    #[inline]
    pub fn put(self, map_key: MK, value: V) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_put(state, key, namespace, map_key, value)
    }

    /// Sets several entries.
    pub fn put_all(self, entries: impl IntoIterator<Item = (MK, V)>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        entries
            .into_iter()
            .try_for_each(|(map_key, value)| backend.map_put(state, key, namespace, map_key, value))
    }

    /// Removes one entry; says whether there was one.
    #[inline]
    pub fn remove(self, map_key: &MK) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_remove(state, key, namespace, map_key)
    }

    /// Whether there is an entry.
    #[inline]
    pub fn contains(self, map_key: &MK) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_contains(state, key, namespace, map_key)
    }

    /// Visits every entry, in no promised order.
    #[inline]
    pub fn for_each(self, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_for_each(state, key, namespace, visit)
    }

    /// Visits the entries whose map key lies in `range`, ascending by the encoding of the map key.
    #[inline]
    pub fn range(self, range: impl RangeBounds<MK>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_range(state, key, namespace, range, visit)
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_is_empty(state, key, namespace)
    }

    /// Removes all entries; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_clear(state, key, namespace)
    }
}

impl<'a, B: KeyedBackend, MK: StateKey, V: Send + 'static, N: StateKey> MapAccess<'a, B, MK, V, N, Expiring> {
    /// Lends the value of one entry, if there is one that has not expired.
    pub fn get(self, map_key: &MK) -> Result<Option<&'a V>> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        let Some(stamp) = backend.map_get(state, key, namespace, map_key)?.map(|timed| timed.stamp) else {
            return Ok(None);
        };
        if ttl.hides(stamp, &clock) {
            backend.map_remove(state, key, namespace, map_key)?;
            return Ok(None);
        }
        let refreshed = ttl.after_read(stamp, &clock);
        if refreshed != stamp
            && let Some(Timed { value, .. }) = backend.map_take(state, key, namespace, map_key)?
        {
            backend.map_put(state, key, namespace, map_key.clone(), Timed { stamp: refreshed, value })?;
        }
        Ok(backend.map_get(state, key, namespace, map_key)?.map(|timed| &timed.value))
    }

    /// Sets one entry.
    #[inline]
    pub fn put(self, map_key: MK, value: V) -> Result<()> {
        self.put_all([(map_key, value)])
    }

    /// Sets several entries.
    pub fn put_all(self, entries: impl IntoIterator<Item = (MK, V)>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let stamp = state.ttl().stamp(backend.clock());
        entries.into_iter().try_for_each(|(map_key, value)| {
            backend.map_put(state.stored(), key, namespace, map_key, Timed { stamp, value })
        })
    }

    /// Removes one entry; says whether there was one, expired or not.
    #[inline]
    pub fn remove(self, map_key: &MK) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_remove(state.stored(), key, namespace, map_key)
    }

    /// Whether there is an entry that has not expired; as a read of it.
    #[inline]
    pub fn contains(self, map_key: &MK) -> Result<bool> {
        Ok(self.get(map_key)?.is_some())
    }

    /// Visits every entry that has not expired, in no promised order.
    pub fn for_each(self, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.visit(None::<(std::ops::Bound<MK>, std::ops::Bound<MK>)>, visit)
    }

    /// Visits the entries that have not expired and whose map key lies in `range`, ascending by the encoding of the map
    /// key.
    pub fn range(self, range: impl RangeBounds<MK>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.visit(Some(range), visit)
    }

    fn visit(
        self,
        range: Option<impl RangeBounds<MK>>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        // Hidden ones go, and others may get a new lease: after the walk, as it must not change what it walks on.
        let (mut hidden, mut refreshed) = (Vec::new(), Vec::new());
        let each = |map_key: &MK, timed: &Timed<V>| {
            if ttl.hides(timed.stamp, &clock) {
                hidden.push(map_key.clone());
                return Ok(());
            }
            if ttl.after_read(timed.stamp, &clock) != timed.stamp {
                refreshed.push(map_key.clone());
            }
            visit(map_key, &timed.value)
        };
        match range {
            Some(range) => backend.map_range(state, key, namespace, range, each)?,
            None => backend.map_for_each(state, key, namespace, each)?,
        }
        for map_key in &hidden {
            backend.map_remove(state, key, namespace, map_key)?;
        }
        for map_key in refreshed {
            if let Some(Timed { stamp, value }) = backend.map_take(state, key, namespace, &map_key)? {
                let stamp = ttl.after_read(stamp, &clock);
                backend.map_put(state, key, namespace, map_key, Timed { stamp, value })?;
            }
        }
        Ok(())
    }

    /// Whether there is no entry that has not expired. No read: nothing gets a new lease of life.
    pub fn is_empty(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        if backend.map_is_empty(state, key, namespace)? {
            return Ok(true);
        }
        let mut empty = true;
        backend.map_for_each(state, key, namespace, |_, timed| {
            empty &= ttl.hides(timed.stamp, &clock);
            Ok(())
        })?;
        Ok(empty)
    }

    /// Removes all entries; says whether there were any, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.map_clear(state.stored(), key, namespace)
    }
}
