//! The table of a kind of state that a backend does not have.

use std::ops::RangeBounds;

use super::{At, Lists, Maps, TimerEntry, Timers, Values, Verdict};
use crate::{Result, StateKey, Timestamp};

/// The table of a kind of state that a backend does not have: the type has no value.
///
/// A backend names `Unsupported` as the associated type and leaves out the methods of the kind; a
/// registration then fails with [`Unsupported`](crate::ErrorKind::Unsupported).
#[derive(Clone, Copy, Debug)]
pub enum Unsupported {}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for Unsupported {
    fn get_if(
        self,
        _: At<'_, K, N>,
        _: impl FnOnce(&V) -> Verdict,
        _: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        match self {}
    }

    fn change<R>(self, _: At<'_, K, N>, _: impl FnOnce(&mut Option<V>) -> R) -> Result<R> {
        match self {}
    }

    fn for_each(self, _: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        match self {}
    }
}

impl<'b, K: StateKey, N: StateKey, T: Send + 'static> Lists<'b, K, N, T> for Unsupported {
    fn get(self, _: At<'_, K, N>) -> Result<&'b [T]> {
        match self {}
    }

    fn get_if(self, _: At<'_, K, N>, _: impl Fn(&T) -> Verdict) -> Result<&'b [T]> {
        match self {}
    }

    fn append(self, _: At<'_, K, N>, _: impl IntoIterator<Item = T>) -> Result<()> {
        match self {}
    }

    fn put(self, _: At<'_, K, N>, _: Vec<T>) -> Result<()> {
        match self {}
    }

    fn take(self, _: At<'_, K, N>) -> Result<Vec<T>> {
        match self {}
    }
}

impl<'b, K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Maps<'b, K, N, MK, V> for Unsupported {
    fn get_if(
        self,
        _: At<'_, K, N>,
        _: &MK,
        _: impl FnOnce(&V) -> Verdict,
        _: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        match self {}
    }

    fn put(self, _: At<'_, K, N>, _: MK, _: V) -> Result<()> {
        match self {}
    }

    fn modify<R>(
        self,
        _: At<'_, K, N>,
        _: MK,
        _: impl FnOnce(&V) -> bool,
        _: impl FnOnce() -> V,
        _: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        match self {}
    }

    fn take(self, _: At<'_, K, N>, _: &MK) -> Result<Option<V>> {
        match self {}
    }

    fn for_each(self, _: At<'_, K, N>, _: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        match self {}
    }

    fn range(
        self,
        _: At<'_, K, N>,
        _: impl RangeBounds<MK>,
        _: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        match self {}
    }

    fn clear(self, _: At<'_, K, N>) -> Result<bool> {
        match self {}
    }
}

impl<K: StateKey, N: StateKey> Timers<'_, K, N> for Unsupported {
    fn register(self, _: At<'_, K, N>, _: Timestamp) -> Result<bool> {
        match self {}
    }

    fn delete(self, _: At<'_, K, N>, _: Timestamp) -> Result<bool> {
        match self {}
    }

    fn pop(self, _: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        match self {}
    }

    fn next(self) -> Result<Option<Timestamp>> {
        match self {}
    }

    fn for_each(self, _: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        match self {}
    }
}
