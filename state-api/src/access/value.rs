//! Access to values.

use super::{Admission, Entry, StateHandle};
use crate::backend::{At, KeyedBackend, StateId, Values, Verdict};
use crate::state::{Lasting, Lifespan, ValueState};
use crate::{Result, StateKey};

/// Access to the value of one key and namespace.
///
/// # Errors
/// Every method fails with [`Invalid`](crate::ErrorKind::Invalid) when the handle belongs to another backend
/// or the key to another subtask, with [`Unavailable`](crate::ErrorKind::Unavailable) when the underlying
/// store fails, and with the error of the codec when a backend that keeps bytes cannot encode or decode a
/// value.
#[derive(Debug)]
pub struct ValueAccess<'a, B: KeyedBackend, V, N, L = Lasting> {
    pub(super) entry: Entry<'a, B, N>,
    pub(super) state: ValueState<V, N, L>,
}

impl<V: Send + 'static, N: StateKey, L: Lifespan> StateHandle for ValueState<V, N, L> {
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = ValueAccess<'a, B, V, N, L>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> ValueAccess<'_, B, V, N, L> {
        ValueAccess { entry, state: self }
    }
}

impl<'a, B: KeyedBackend, V: Send + 'static, N: StateKey, L: Lifespan> ValueAccess<'a, B, V, N, L> {
    /// Lends the value.
    #[inline(always)]
    pub fn get(self) -> Result<Option<&'a V>> {
        if L::EXPIRES {
            return self.get_unexpired();
        }
        let (backend, at) = self.entry.open()?;
        Ok(backend.values::<L::Stored<V>, N>(self.state.id)?.get(at)?.map(L::value))
    }

    /// Lends the value of a state with a time-to-live; removes it if it has expired, and resets its time-to-live if
    /// a read does that.
    fn get_unexpired(self) -> Result<Option<&'a V>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let judge = |stored: &L::Stored<V>| lifespan.judge(stored, &clock);
        let refresh = |stored: &mut L::Stored<V>| lifespan.refresh(stored, &clock);
        Ok(backend.values::<L::Stored<V>, N>(id)?.get_if(at, judge, refresh)?.map(L::value))
    }

    /// Sets the value.
    #[inline(always)]
    pub fn put(self, value: V) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.values::<L::Stored<V>, N>(id)?.put(at, lifespan.store(value, &clock))
    }

    /// Changes the value in one access; if there is none, `initial` creates it first.
    #[inline(always)]
    pub fn modify<R>(self, initial: impl FnOnce() -> V, change: impl FnOnce(&mut V) -> R) -> Result<R> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.values::<L::Stored<V>, N>(id)?.modify(
            at,
            |stored| !lifespan.expired(stored, &clock),
            || lifespan.store(initial(), &clock),
            |stored| {
                lifespan.touch(stored, &clock);
                change(L::value_mut(stored))
            },
        )
    }

    /// Changes the value in one access; if there is none, [`Default`] creates it first.
    #[inline]
    pub fn update_or_default<R>(self, change: impl FnOnce(&mut V) -> R) -> Result<R>
    where
        V: Default,
    {
        self.modify(V::default, change)
    }

    /// Changes the value in one access; returns whether one existed.
    #[inline]
    pub fn update(self, change: impl FnOnce(&mut V)) -> Result<bool> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        if L::EXPIRES {
            let judge = |stored: &L::Stored<V>| match lifespan.expired(stored, &clock) {
                true => Verdict::Remove,
                false => Verdict::Keep,
            };
            if backend.values::<L::Stored<V>, N>(id)?.get_if(at, judge, |_| ())?.is_none() {
                return Ok(false);
            }
        }
        backend.values::<L::Stored<V>, N>(id)?.update(at, |stored| {
            lifespan.touch(stored, &clock);
            change(L::value_mut(stored));
        })
    }

    /// Removes and returns the value.
    #[inline]
    pub fn take(self) -> Result<Option<V>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let taken = backend.values::<L::Stored<V>, N>(id)?.take(at)?;
        Ok(taken.filter(|stored| !lifespan.hides(stored, &clock)).map(L::into_value))
    }

    /// Removes the value; returns whether one existed, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.values::<L::Stored<V>, N>(id)?.clear(at)
    }

    /// Combines `value` with the existing value; an expired one counts as absent.
    #[inline]
    pub(super) fn fold(self, value: L::Stored<V>, fold: impl FnOnce(&mut V, V)) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.values::<L::Stored<V>, N>(id)?.merge(at, value, |into, value| {
            if lifespan.expired(into, &clock) {
                *into = value;
                return;
            }
            L::join_stamps::<V>(into, &value);
            fold(L::value_mut(into), L::into_value(value));
        })
    }

    /// Folds the values of other namespaces into this one and removes them. Expired values count as absent;
    /// the result is fresh.
    pub(super) fn merge_namespaces<'n>(
        self,
        sources: impl IntoIterator<Item = &'n N>,
        fold: impl Fn(&mut V, V),
    ) -> Result<()> {
        let state = self.state;
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        for source in sources.into_iter().filter(|source| *source != at.namespace) {
            let taken = backend.values::<L::Stored<V>, N>(id)?.take(At { namespace: source, ..at })?;
            let Some(mut taken) = taken.filter(|stored| !lifespan.expired(stored, &clock)) else { continue };
            lifespan.touch(&mut taken, &clock);
            let entry = Entry { backend, at, admission: Admission::Granted };
            ValueAccess { entry, state }.fold(taken, &fold)?;
        }
        Ok(())
    }
}
