//! Access to lists.

use std::fmt;

use super::{Entry, StateHandle};
use crate::backend::{At, KeyedBackend, Lists, StateId, Verdict};
use crate::state::{Lasting, Lifespan, ListState};
use crate::{Result, StateKey};

/// Access to the list of one key and namespace.
///
/// # Errors
/// Those of [`ValueAccess`](super::ValueAccess).
#[derive(Debug)]
pub struct ListAccess<'a, B: KeyedBackend, T, N, L = Lasting> {
    entry: Entry<'a, B, N>,
    state: ListState<T, N, L>,
}

impl<T: Send + 'static, N: StateKey, L: Lifespan> StateHandle for ListState<T, N, L> {
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = ListAccess<'a, B, T, N, L>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> ListAccess<'_, B, T, N, L> {
        ListAccess { entry, state: self }
    }
}

impl<'a, B: KeyedBackend, T: Send + 'static, N: StateKey, L: Lifespan> ListAccess<'a, B, T, N, L> {
    /// Lends the elements in the order in which they were added; removes those that have expired.
    #[inline]
    pub fn get(self) -> Result<Elements<'a, T, L>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        if !L::EXPIRES {
            return Ok(Elements(backend.lists::<L::Stored<T>, N>(id)?.get(at)?));
        }
        if lifespan.refreshes_on_read() {
            let needs_refresh = |stored: &L::Stored<T>| lifespan.judge(stored, &clock) == Verdict::Refresh;
            if backend.lists::<L::Stored<T>, N>(id)?.get(at)?.iter().any(needs_refresh) {
                let mut elements = backend.lists::<L::Stored<T>, N>(id)?.take(at)?;
                elements.retain(|stored| !lifespan.hides(stored, &clock));
                elements.iter_mut().for_each(|stored| lifespan.refresh(stored, &clock));
                backend.lists::<L::Stored<T>, N>(id)?.put(at, elements)?;
            }
        }
        // What is to be refreshed is refreshed.
        let judge = |stored: &L::Stored<T>| match lifespan.judge(stored, &clock) {
            Verdict::Refresh => Verdict::Keep,
            verdict => verdict,
        };
        Ok(Elements(backend.lists::<L::Stored<T>, N>(id)?.get_if(at, judge)?))
    }

    /// Adds one element at the end.
    #[inline]
    pub fn push(self, element: T) -> Result<()> {
        self.extend([element])
    }

    /// Adds elements at the end.
    #[inline]
    pub fn extend(self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let elements = elements.into_iter().map(|element| lifespan.store(element, &clock));
        backend.lists::<L::Stored<T>, N>(id)?.append(at, elements)
    }

    /// Replaces all elements; an empty vector removes the list.
    #[inline]
    pub fn put(self, elements: Vec<T>) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let elements = elements.into_iter().map(|element| lifespan.store(element, &clock));
        backend.lists::<L::Stored<T>, N>(id)?.put(at, elements.collect())
    }

    /// Removes all elements and returns those that have not expired.
    #[inline]
    pub fn take(self) -> Result<Vec<T>> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        let taken = backend.lists::<L::Stored<T>, N>(id)?.take(at)?.into_iter();
        Ok(taken.filter(|stored| !lifespan.hides(stored, &clock)).map(L::into_value).collect())
    }

    /// Removes all elements; returns whether any existed, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        let (backend, at, id, ..) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        backend.lists::<L::Stored<T>, N>(id)?.clear(at)
    }

    /// Moves the lists of other namespaces of this key behind this one, in the order of `sources`, without
    /// expired elements (Flink: `mergeNamespaces`). If `sources` includes this namespace, its elements stay.
    /// Elements keep their stamps.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let (backend, at, id, lifespan, clock) = self.entry.open_for(self.state.id, self.state.lifespan)?;
        for source in sources.into_iter().filter(|source| *source != at.namespace) {
            let mut elements = backend.lists::<L::Stored<T>, N>(id)?.take(At { namespace: source, ..at })?;
            elements.retain(|stored| !lifespan.expired(stored, &clock));
            backend.lists::<L::Stored<T>, N>(id)?.append(at, elements)?;
        }
        Ok(())
    }
}

/// The elements of a list, lent by the backend.
pub struct Elements<'a, T: Send + 'static, L: Lifespan = Lasting>(&'a [L::Stored<T>]);

impl<'a, T: Send + 'static, L: Lifespan> Elements<'a, T, L> {
    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the list has no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the element at `index`, from 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a T> {
        self.0.get(index).map(L::value)
    }

    /// Returns the first element.
    #[inline]
    pub fn first(&self) -> Option<&'a T> {
        self.0.first().map(L::value)
    }

    /// Returns the last element.
    #[inline]
    pub fn last(&self) -> Option<&'a T> {
        self.0.last().map(L::value)
    }

    /// Returns an iterator over the elements, in order.
    #[inline]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a T> + ExactSizeIterator + use<'a, T, L> {
        self.0.iter().map(L::value as fn(&'a L::Stored<T>) -> &'a T)
    }

    /// Clones the elements into a vector.
    pub fn to_vec(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.iter().cloned().collect()
    }
}

impl<'a, T: Send + 'static> Elements<'a, T, Lasting> {
    /// Returns the elements as a slice; only a state without a time-to-live can lend one.
    #[inline]
    pub fn as_slice(&self) -> &'a [T] {
        self.0
    }
}

impl<T: Send + 'static, L: Lifespan> Clone for Elements<'_, T, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Send + 'static, L: Lifespan> Copy for Elements<'_, T, L> {}

impl<'a, T: Send + 'static, L: Lifespan> IntoIterator for Elements<'a, T, L> {
    type Item = &'a T;
    type IntoIter = std::iter::Map<std::slice::Iter<'a, L::Stored<T>>, fn(&'a L::Stored<T>) -> &'a T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(L::value as fn(&'a L::Stored<T>) -> &'a T)
    }
}

impl<T: PartialEq + Send + 'static, L: Lifespan, const LEN: usize> PartialEq<[T; LEN]>
    for Elements<'_, T, L>
{
    fn eq(&self, other: &[T; LEN]) -> bool {
        self.iter().eq(other)
    }
}

impl<T: PartialEq + Send + 'static, L: Lifespan> PartialEq<[T]> for Elements<'_, T, L> {
    fn eq(&self, other: &[T]) -> bool {
        self.iter().eq(other)
    }
}

impl<T: fmt::Debug + Send + 'static, L: Lifespan> fmt::Debug for Elements<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
