//! Access to lists.

use super::Access;
use crate::{Expiring, KeyedBackend, Lasting, ListState, Result, StateKey, Timed};

/// The list of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct ListAccess<'a, B: KeyedBackend, T, N, A = Lasting>(
    pub(super) Access<'a, B, ListState<T, N, A>, N>,
);

impl<'a, B: KeyedBackend, T: Send + 'static, N: StateKey> ListAccess<'a, B, T, N> {
    /// Lends the elements in the order in which they were added.
    #[inline]
    pub fn get(self) -> Result<&'a [T]> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_get(state, key, namespace)
    }

    /// Adds one element at the end.
    #[inline]
    pub fn push(self, element: T) -> Result<()> {
        self.extend([element])
    }

    /// Adds elements at the end.
    #[inline]
    pub fn extend(self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_append(state, key, namespace, elements)
    }

    /// Replaces all elements; an empty list clears.
    #[inline]
    pub fn put(self, elements: Vec<T>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_put(state, key, namespace, elements)
    }

    /// Removes all elements and gives them.
    #[inline]
    pub fn take(self) -> Result<Vec<T>> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_take(state, key, namespace)
    }

    /// Removes all elements; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_clear(state, key, namespace)
    }

    /// Moves the lists of other namespaces of this key behind this one, in their order (Flink: `mergeNamespaces`). This
    /// namespace among them stays as it is.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        for source in sources {
            if source != namespace {
                let elements = backend.list_take(state, key, source)?;
                backend.list_append(state, key, namespace, elements)?;
            }
        }
        Ok(())
    }
}

impl<'a, B: KeyedBackend, T: Send + 'static, N: StateKey> ListAccess<'a, B, T, N, Expiring> {
    /// Lends the elements that have not expired, in the order in which they were added.
    pub fn get(self) -> Result<impl Iterator<Item = &'a T>> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        let changes = |timed: &Timed<T>| {
            ttl.hides(timed.stamp, &clock) || ttl.after_read(timed.stamp, &clock) != timed.stamp
        };
        if backend.list_get(state, key, namespace)?.iter().any(changes) {
            let mut elements = backend.list_take(state, key, namespace)?;
            elements.retain(|timed| !ttl.hides(timed.stamp, &clock));
            elements.iter_mut().for_each(|timed| timed.stamp = ttl.after_read(timed.stamp, &clock));
            backend.list_put(state, key, namespace, elements)?;
        }
        Ok(backend.list_get(state, key, namespace)?.iter().map(|timed| &timed.value))
    }

    /// Adds one element at the end.
    #[inline]
    pub fn push(self, element: T) -> Result<()> {
        self.extend([element])
    }

    /// Adds elements at the end.
    #[inline]
    pub fn extend(self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let stamp = state.ttl().stamp(backend.clock());
        let elements = elements.into_iter().map(|value| Timed { stamp, value });
        backend.list_append(state.stored(), key, namespace, elements)
    }

    /// Replaces all elements; an empty list clears.
    #[inline]
    pub fn put(self, elements: Vec<T>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let stamp = state.ttl().stamp(backend.clock());
        let elements = elements.into_iter().map(|value| Timed { stamp, value });
        backend.list_put(state.stored(), key, namespace, elements.collect())
    }

    /// Removes all elements, and gives those that have not expired.
    pub fn take(self) -> Result<Vec<T>> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock) = (state.ttl(), *backend.clock());
        let taken = backend.list_take(state.stored(), key, namespace)?.into_iter();
        Ok(taken.filter(|timed| !ttl.hides(timed.stamp, &clock)).map(|timed| timed.value).collect())
    }

    /// Removes all elements; says whether there were any, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.list_clear(state.stored(), key, namespace)
    }

    /// Moves the lists of other namespaces of this key behind this one, in their order, without what has expired. Elements
    /// keep the time that they have left.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let (ttl, clock, state) = (state.ttl(), *backend.clock(), state.stored());
        for source in sources {
            if source != namespace {
                let mut elements = backend.list_take(state, key, source)?;
                elements.retain(|timed| !ttl.expired(timed.stamp, &clock));
                backend.list_append(state, key, namespace, elements)?;
            }
        }
        Ok(())
    }
}
