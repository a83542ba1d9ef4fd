//! One trait for each kind of state, implemented by the tables of a backend.
//!
//! A table is borrowed for one access: every method takes `self`. A reference that it returns lives as long
//! as the borrow of the backend, `'b`.

#![allow(clippy::wrong_self_convention, reason = "a table is a borrow, which every method consumes")]

use std::ops::{Bound, RangeBounds};

use crate::{KeyHash, Keyed, Result, StateKey, Timestamp};

/// The address of an entry: its key, with the hash, and its namespace.
#[derive(Debug)]
pub struct At<'k, K, N> {
    /// The key.
    pub key: Keyed<'k, K>,
    /// The namespace.
    pub namespace: &'k N,
}

impl<K, N> Clone for At<'_, K, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, N> Copy for At<'_, K, N> {}

/// What a read does with a value that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The read lends the value, which stays.
    Keep,
    /// The read refreshes the value, by the closure that comes with the judgement, and lends it. Lists know no such
    /// read.
    Refresh,
    /// The read lends the value and removes it: the table keeps it until the next read that removes one.
    LendOnce,
    /// The read removes the value and does not lend it.
    Remove,
}

/// A table of values by key and namespace.
///
/// A table implements [`get_if`](Self::get_if), [`change`](Self::change) and [`for_each`](Self::for_each). The
/// other methods are provided; a table overrides those that it can do faster. Keys belong to the subtask: the
/// [`KeyScope`](crate::KeyScope) that opens an access refuses others.
///
/// # Errors
/// Every method fails with [`Unavailable`](crate::ErrorKind::Unavailable) when the underlying store fails,
/// and with the error of the codec when a table of bytes cannot encode or decode a value.
pub trait Values<'b, K: StateKey, N: StateKey, V: Send + 'static>: Sized {
    /// Lends the value, refreshes it first, removes it, or lends and removes it, as `judge` decides: in one access.
    fn get_if(
        self,
        at: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>>;

    /// Lends the value.
    #[inline]
    fn get(self, at: At<'_, K, N>) -> Result<Option<&'b V>> {
        self.get_if(at, |_| Verdict::Keep, |_| ())
    }

    /// Changes, sets or removes the value in one access: `change` receives the value if one exists, and the
    /// table stores what `change` leaves.
    fn change<R>(self, at: At<'_, K, N>, change: impl FnOnce(&mut Option<V>) -> R) -> Result<R>;

    /// Sets the value.
    #[inline]
    fn put(self, at: At<'_, K, N>, value: V) -> Result<()> {
        self.change(at, |stored| *stored = Some(value))
    }

    /// Changes the value in one access. If there is none, or `keep` refuses it, `initial` creates it first.
    #[inline]
    fn modify<R>(
        self,
        at: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.change(at, |stored| {
            let kept = stored.take().filter(keep);
            change(stored.insert(kept.unwrap_or_else(initial)))
        })
    }

    /// Changes the value in one access; returns whether one existed.
    #[inline]
    fn update(self, at: At<'_, K, N>, change: impl FnOnce(&mut V)) -> Result<bool> {
        self.change(at, |stored| stored.as_mut().map(change).is_some())
    }

    /// Combines `value` with the existing value in one access; sets it if none exists.
    #[inline]
    fn merge(self, at: At<'_, K, N>, value: V, combine: impl FnOnce(&mut V, V)) -> Result<()> {
        self.change(at, |stored| match stored {
            Some(into) => combine(into, value),
            None => *stored = Some(value),
        })
    }

    /// Removes and returns the value.
    #[inline]
    fn take(self, at: At<'_, K, N>) -> Result<Option<V>> {
        self.change(at, Option::take)
    }

    /// Removes the value; returns whether one existed.
    #[inline]
    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        Ok(self.take(at)?.is_some())
    }

    /// Visits every value of this subtask, in arbitrary order; stops at the first error.
    fn for_each(self, visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()>;
}

/// A table of lists by key and namespace.
///
/// # Errors
/// Those of [`Values`].
pub trait Lists<'b, K: StateKey, N: StateKey, T: Send + 'static>: Sized {
    /// Lends the elements in the order in which they were added; an empty slice where there is no list.
    fn get(self, at: At<'_, K, N>) -> Result<&'b [T]>;

    /// Lends those elements that `judge` does not remove, in order; of these, the ones that it lends once
    /// leave the list. A list without elements is removed. `judge` may be called several times for an
    /// element.
    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&T) -> Verdict) -> Result<&'b [T]>;

    /// Adds elements at the end, without reading the others.
    fn append(self, at: At<'_, K, N>, elements: impl IntoIterator<Item = T>) -> Result<()>;

    /// Replaces all elements; an empty vector removes the list.
    fn put(self, at: At<'_, K, N>, elements: Vec<T>) -> Result<()>;

    /// Removes and returns all elements.
    fn take(self, at: At<'_, K, N>) -> Result<Vec<T>>;

    /// Removes all elements; returns whether any existed.
    fn clear(self, at: At<'_, K, N>) -> Result<bool> {
        Ok(!self.take(at)?.is_empty())
    }
}

/// A table of maps by key and namespace.
///
/// # Errors
/// Those of [`Values`].
pub trait Maps<'b, K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static>: Sized {
    /// Lends the value of an entry, refreshes it first, removes the entry, or lends and removes it, as `judge` decides.
    fn get_if(
        self,
        at: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>>;

    /// Lends the value of an entry.
    #[inline]
    fn get(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<&'b V>> {
        self.get_if(at, map_key, |_| Verdict::Keep, |_| ())
    }

    /// Sets an entry.
    fn put(self, at: At<'_, K, N>, map_key: MK, value: V) -> Result<()>;

    /// Changes the value of an entry in one access. If there is none, or `keep` refuses it, `initial` creates
    /// it first.
    fn modify<R>(
        self,
        at: At<'_, K, N>,
        map_key: MK,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R>;

    /// Removes an entry and returns its value.
    fn take(self, at: At<'_, K, N>, map_key: &MK) -> Result<Option<V>>;

    /// Removes an entry; returns whether one existed.
    #[inline]
    fn remove(self, at: At<'_, K, N>, map_key: &MK) -> Result<bool> {
        Ok(self.take(at, map_key)?.is_some())
    }

    /// Returns whether an entry exists.
    #[inline]
    fn contains(self, at: At<'_, K, N>, map_key: &MK) -> Result<bool> {
        Ok(self.get(at, map_key)?.is_some())
    }

    /// Visits every entry of one map, in arbitrary order; stops at the first error.
    fn for_each(self, at: At<'_, K, N>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()>;

    /// Visits the entries of one map whose map key lies in `range`, in ascending order of their encoded map
    /// keys (the natural order for numbers and texts); stops at the first error.
    fn range(
        self,
        at: At<'_, K, N>,
        range: impl RangeBounds<MK>,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()>;

    /// Counts the entries of one map.
    fn len(self, at: At<'_, K, N>) -> Result<usize> {
        let mut len = 0;
        self.for_each(at, |_, _| {
            len += 1;
            Ok(())
        })?;
        Ok(len)
    }

    /// Returns whether one map has no entry.
    fn is_empty(self, at: At<'_, K, N>) -> Result<bool> {
        Ok(self.len(at)? == 0)
    }

    /// Removes all entries of one map; returns whether any existed.
    fn clear(self, at: At<'_, K, N>) -> Result<bool>;
}

/// A pending timer, as a backend holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerEntry<K, N> {
    /// The time at which the timer is due.
    pub time: Timestamp,
    /// The key that the timer was registered for.
    pub key: K,
    /// The hash of that key.
    pub hash: KeyHash,
    /// The namespace that the timer was registered for.
    pub namespace: N,
}

/// The timers of one service, in the order of their times.
///
/// # Errors
/// Those of [`Values`].
pub trait Timers<'b, K: StateKey, N: StateKey>: Sized {
    /// Registers a timer; returns whether the timer is new (equal timers collapse into one).
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool>;

    /// Deletes a timer; returns whether one existed.
    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool>;

    /// Removes and returns the earliest timer that is due at or before `up_to`. Timers of one time come in
    /// arbitrary order.
    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>>;

    /// Returns the time of the earliest timer.
    fn next(self) -> Result<Option<Timestamp>>;

    /// Visits every timer of this subtask, in arbitrary order; stops at the first error.
    fn for_each(self, visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()>;
}

/// Encodes the bounds of `range`; encodings keep the order of the keys.
pub fn encoded_range<K: StateKey>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let encode = |key: &K| {
        let mut encoded = Vec::with_capacity(K::WIDTH.unwrap_or(32));
        key.encode(&mut encoded);
        encoded
    };
    (range.start_bound().map(encode), range.end_bound().map(encode))
}
