//! Access to maps.

use std::ops::{Bound, RangeBounds};

use super::{Entry, StateHandle};
use crate::backend::{KeyedBackend, Maps, StateId, Verdict};
use crate::state::{Lasting, Lifespan, MapState};
use crate::{Result, StateKey};

/// Access to the map of one key and namespace.
///
/// # Errors
/// Those of [`ValueAccess`](super::ValueAccess).
#[derive(Debug)]
pub struct MapAccess<'a, B: KeyedBackend, MK, V, N, L = Lasting> {
    entry: Entry<'a, B, N>,
    state: MapState<MK, V, N, L>,
}

impl<MK: StateKey, V: Send + 'static, N: StateKey, L: Lifespan> StateHandle for MapState<MK, V, N, L> {
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = MapAccess<'a, B, MK, V, N, L>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> MapAccess<'_, B, MK, V, N, L> {
        MapAccess { entry, state: self }
    }
}

impl<'a, B, MK, V, N, L> MapAccess<'a, B, MK, V, N, L>
where
    B: KeyedBackend,
    MK: StateKey,
    V: Send + 'static,
    N: StateKey,
    L: Lifespan,
{
    /// Lends the value of one entry.
    #[inline(always)]
    pub fn get(self, map_key: &MK) -> Result<Option<&'a V>> {
        if L::EXPIRES {
            return self.get_unexpired(map_key);
        }
        let (backend, at) = self.entry.open()?;
        Ok(backend.maps::<MK, L::Stored<V>, N>(self.state.id)?.get(at, map_key)?.map(L::value))
    }

    /// Lends the value of an entry of a state with a time-to-live; removes the entry if it has expired.
    fn get_unexpired(self, map_key: &MK) -> Result<Option<&'a V>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let judge = |stored: &L::Stored<V>| lifespan.judge(stored, &clock);
        let refresh = |stored: &mut L::Stored<V>| lifespan.refresh(stored, &clock);
        Ok(backend.maps::<MK, L::Stored<V>, N>(id)?.get_if(at, map_key, judge, refresh)?.map(L::value))
    }

    /// Sets one entry.
    #[inline(always)]
    pub fn put(self, map_key: MK, value: V) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.put(at, map_key, lifespan.store(value, &clock))
    }

    /// Sets several entries.
    pub fn put_all(self, entries: impl IntoIterator<Item = (MK, V)>) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        entries.into_iter().try_for_each(|(map_key, value)| {
            let stored = lifespan.store(value, &clock);
            backend.maps::<MK, L::Stored<V>, N>(id)?.put(at, map_key, stored)
        })
    }

    /// Changes the value of one entry in one access; if there is none, `initial` creates it first.
    #[inline(always)]
    pub fn modify<R>(
        self,
        map_key: MK,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.modify(
            at,
            map_key,
            |stored| !lifespan.expired(stored, &clock),
            || lifespan.store(initial(), &clock),
            |stored| {
                lifespan.touch(stored, &clock);
                change(L::value_mut(stored))
            },
        )
    }

    /// Changes the value of one entry in one access; if there is none, [`Default`] creates it first.
    #[inline]
    pub fn update_or_default<R>(self, map_key: MK, change: impl FnOnce(&mut V) -> R) -> Result<R>
    where
        V: Default,
    {
        self.modify(map_key, V::default, change)
    }

    /// Removes one entry and returns its value unless the value has expired.
    #[inline]
    pub fn take(self, map_key: &MK) -> Result<Option<V>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let taken = backend.maps::<MK, L::Stored<V>, N>(id)?.take(at, map_key)?;
        Ok(taken.filter(|stored| !lifespan.hides(stored, &clock)).map(L::into_value))
    }

    /// Removes one entry; returns whether one existed, expired or not.
    #[inline]
    pub fn remove(self, map_key: &MK) -> Result<bool> {
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.remove(at, map_key)
    }

    /// Returns whether an entry exists that a read would return. The call counts as a read of the entry: an
    /// expired one is removed.
    #[inline(always)]
    pub fn contains(self, map_key: &MK) -> Result<bool> {
        if L::EXPIRES {
            return Ok(self.get(map_key)?.is_some());
        }
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.contains(at, map_key)
    }

    /// Visits every entry, in arbitrary order.
    #[inline]
    pub fn for_each(self, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.visit(None::<(Bound<MK>, Bound<MK>)>, visit)
    }

    /// Visits the entries whose map key lies in `range`, in ascending order of their encoded map keys.
    #[inline]
    pub fn range(self, range: impl RangeBounds<MK>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.visit(Some(range), visit)
    }

    #[inline]
    fn visit(
        self,
        range: Option<impl RangeBounds<MK>>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        // A visit must not change the map, so expired entries are removed and others refreshed afterwards, even
        // if the visit stopped at an error: what it has seen counts as read.
        let (mut expired, mut refreshed) = (Vec::new(), Vec::new());
        let each = |map_key: &MK, stored: &L::Stored<V>| {
            let verdict = lifespan.judge(stored, &clock);
            match verdict {
                Verdict::Keep => {}
                Verdict::Refresh => refreshed.push(map_key.clone()),
                Verdict::LendOnce | Verdict::Remove => expired.push(map_key.clone()),
            }
            if verdict == Verdict::Remove { Ok(()) } else { visit(map_key, L::value(stored)) }
        };
        let map = backend.maps::<MK, L::Stored<V>, N>(id)?;
        let visited = match range {
            Some(range) => map.range(at, range, each),
            None => map.for_each(at, each),
        };
        for map_key in &expired {
            backend.maps::<MK, L::Stored<V>, N>(id)?.remove(at, map_key)?;
        }
        for map_key in refreshed {
            let refresh = |stored: &mut L::Stored<V>| lifespan.refresh(stored, &clock);
            backend.maps::<MK, L::Stored<V>, N>(id)?.get_if(at, &map_key, |_| Verdict::Refresh, refresh)?;
        }
        visited
    }

    /// Counts the entries that a read would return. The call does not count as a read of them.
    #[inline]
    pub fn len(self) -> Result<usize> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        if !L::EXPIRES {
            return backend.maps::<MK, L::Stored<V>, N>(id)?.len(at);
        }
        let mut len = 0;
        backend.maps::<MK, L::Stored<V>, N>(id)?.for_each(at, |_, stored| {
            len += usize::from(!lifespan.hides(stored, &clock));
            Ok(())
        })?;
        Ok(len)
    }

    /// Returns whether no entry exists that a read would return. The call does not count as a read.
    #[inline]
    pub fn is_empty(self) -> Result<bool> {
        if L::EXPIRES {
            return Ok(self.len()? == 0);
        }
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.is_empty(at)
    }

    /// Removes all entries; returns whether any existed, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.maps::<MK, L::Stored<V>, N>(id)?.clear(at)
    }
}
