//! Access to values.

use super::Access;
use crate::{Expiring, KeyedBackend, Lasting, Result, StateKey, Timed, ValueState};

/// The value of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct ValueAccess<'a, B: KeyedBackend, V, N, A = Lasting>(
    pub(super) Access<'a, B, ValueState<V, N, A>, N>,
);

impl<'a, B: KeyedBackend, V: Send + 'static, N: StateKey> ValueAccess<'a, B, V, N> {
    /// Lends the value, if there is one.
    #[inline]
    pub fn get(self) -> Result<Option<&'a V>> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_get(state, key, namespace)
    }

    /// Sets the value.
    #[inline]
    pub fn put(self, value: V) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_put(state, key, namespace, value)
    }

    /// Changes the value in one access; where there is none, `initial` makes one first.
    #[inline]
    pub fn modify<R>(self, initial: impl FnOnce() -> V, change: impl FnOnce(&mut V) -> R) -> Result<R> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_modify(state, key, namespace, initial, change)
    }

    /// Changes the value in one access, if there is one; says whether there was.
    #[inline]
    pub fn update(self, change: impl FnOnce(&mut V)) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_update(state, key, namespace, change)
    }

    /// Removes the value and gives it.
    #[inline]
    pub fn take(self) -> Result<Option<V>> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_take(state, key, namespace)
    }

    /// Removes the value; says whether there was one.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_clear(state, key, namespace)
    }
}

impl<'a, B: KeyedBackend, V: Send + 'static, N: StateKey> ValueAccess<'a, B, V, N, Expiring> {
    /// Lends the value, if there is one that has not expired.
    pub fn get(self) -> Result<Option<&'a V>> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        let mut refreshed = None;
        let keep = |timed: &Timed<V>| {
            refreshed = Some(ttl.after_read(timed.stamp, &clock)).filter(|stamp| *stamp != timed.stamp);
            !ttl.hides(timed.stamp, &clock)
        };
        if ttl.refreshes_on_read() {
            backend.value_get_if(state, key, namespace, keep)?;
            if let Some(stamp) = refreshed {
                backend.value_update(state, key, namespace, |timed| timed.stamp = stamp)?;
            }
            return Ok(backend.value_get(state, key, namespace)?.map(|timed| &timed.value));
        }
        Ok(backend.value_get_if(state, key, namespace, keep)?.map(|timed| &timed.value))
    }

    /// Sets the value.
    #[inline]
    pub fn put(self, value: V) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let stamp = state.ttl().stamp(backend.clock());
        backend.value_put(state.stored(), key, namespace, Timed { stamp, value })
    }

    /// Changes the value in one access; where there is none, or only one that has expired, `initial` makes one first.
    #[inline]
    pub fn modify<R>(self, initial: impl Fn() -> V, change: impl FnOnce(&mut V) -> R) -> Result<R> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock) = (state.ttl(), *backend.clock());
        let stamp = ttl.stamp(&clock);
        let fresh = || Timed { stamp, value: initial() };
        backend.value_modify(state.stored(), key, namespace, fresh, |timed| {
            if ttl.expired(timed.stamp, &clock) {
                *timed = fresh();
            }
            timed.stamp = timed.stamp.max(stamp);
            change(&mut timed.value)
        })
    }

    /// Removes the value, and gives it unless it has expired.
    #[inline]
    pub fn take(self) -> Result<Option<V>> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock) = (state.ttl(), *backend.clock());
        let taken = backend.value_take(state.stored(), key, namespace)?;
        Ok(taken.filter(|timed| !ttl.hides(timed.stamp, &clock)).map(|timed| timed.value))
    }

    /// Removes the value; says whether there was one, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.value_clear(state.stored(), key, namespace)
    }
}
