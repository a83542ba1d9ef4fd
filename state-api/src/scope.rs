//! A backend as seen from one key: what code that works on state mostly uses.

use std::ops::RangeBounds;

use crate::{Keyed, KeyedBackend, ListState, MapState, Result, StateKey, TimerService, ValueState};

/// All state of one key.
///
/// ```
/// # use strandline_state_api::{KeyScope, Keyed, KeyedBackend, Result, ValueState};
/// fn count<B: KeyedBackend<Key = String>>(backend: &mut B, counts: ValueState<u64>, word: String) -> Result<u64> {
///     KeyScope::new(backend, Keyed::new(&word)).value(counts).modify(|| 0, |n| { *n += 1; *n })
/// }
/// ```
#[derive(Debug)]
pub struct KeyScope<'a, B: KeyedBackend> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
}

impl<'a, B: KeyedBackend> KeyScope<'a, B> {
    /// The state of `key` in `backend`.
    #[inline]
    pub fn new(backend: &'a mut B, key: Keyed<'a, B::Key>) -> Self {
        Self { backend, key }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'a B::Key {
        self.key.key()
    }

    /// The whole backend, for what goes beyond this key.
    pub fn backend(&mut self) -> &mut B {
        self.backend
    }

    /// A value without a namespace.
    #[inline]
    pub fn value<V: Send + 'static>(&mut self, state: ValueState<V>) -> ValueAccess<'_, B, V, ()> {
        self.value_in(state, &())
    }

    /// A value in a namespace.
    #[inline]
    pub fn value_in<'s, V: Send + 'static, N: StateKey>(
        &'s mut self,
        state: ValueState<V, N>,
        namespace: &'s N,
    ) -> ValueAccess<'s, B, V, N> {
        ValueAccess { backend: self.backend, key: self.key, namespace, state }
    }

    /// A list without a namespace.
    #[inline]
    pub fn list<T: Send + 'static>(&mut self, state: ListState<T>) -> ListAccess<'_, B, T, ()> {
        self.list_in(state, &())
    }

    /// A list in a namespace.
    #[inline]
    pub fn list_in<'s, T: Send + 'static, N: StateKey>(
        &'s mut self,
        state: ListState<T, N>,
        namespace: &'s N,
    ) -> ListAccess<'s, B, T, N> {
        ListAccess { backend: self.backend, key: self.key, namespace, state }
    }

    /// A map without a namespace.
    #[inline]
    pub fn map<MK: StateKey, V: Send + 'static>(
        &mut self,
        state: MapState<MK, V>,
    ) -> MapAccess<'_, B, MK, V, ()> {
        self.map_in(state, &())
    }

    /// A map in a namespace.
    #[inline]
    pub fn map_in<'s, MK: StateKey, V: Send + 'static, N: StateKey>(
        &'s mut self,
        state: MapState<MK, V, N>,
        namespace: &'s N,
    ) -> MapAccess<'s, B, MK, V, N> {
        MapAccess { backend: self.backend, key: self.key, namespace, state }
    }

    /// Timers without a namespace.
    #[inline]
    pub fn timers(&mut self, service: TimerService) -> TimerAccess<'_, B, ()> {
        self.timers_in(service, &())
    }

    /// Timers in a namespace.
    #[inline]
    pub fn timers_in<'s, N: StateKey>(
        &'s mut self,
        service: TimerService<N>,
        namespace: &'s N,
    ) -> TimerAccess<'s, B, N> {
        TimerAccess { backend: self.backend, key: self.key, namespace, service }
    }
}

/// The value of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct ValueAccess<'a, B: KeyedBackend, V, N> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    namespace: &'a N,
    state: ValueState<V, N>,
}

impl<'a, B: KeyedBackend, V: Send + 'static, N: StateKey> ValueAccess<'a, B, V, N> {
    /// Lends the value, if there is one.
    #[inline]
    pub fn get(self) -> Result<Option<&'a V>> {
        self.backend.value_get(self.state, self.key, self.namespace)
    }

    /// Sets the value.
    #[inline]
    pub fn put(self, value: V) -> Result<()> {
        self.backend.value_put(self.state, self.key, self.namespace, value)
    }

    /// Changes the value in one access; where there is none, `initial` makes one first.
    #[inline]
    pub fn modify<R>(self, initial: impl FnOnce() -> V, change: impl FnOnce(&mut V) -> R) -> Result<R> {
        self.backend.value_modify(self.state, self.key, self.namespace, initial, change)
    }

    /// Removes the value; says whether there was one.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.backend.value_clear(self.state, self.key, self.namespace)
    }
}

/// The list of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct ListAccess<'a, B: KeyedBackend, T, N> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    namespace: &'a N,
    state: ListState<T, N>,
}

impl<'a, B: KeyedBackend, T: Send + 'static, N: StateKey> ListAccess<'a, B, T, N> {
    /// Lends the elements in the order in which they were added.
    #[inline]
    pub fn get(self) -> Result<&'a [T]> {
        self.backend.list_get(self.state, self.key, self.namespace)
    }

    /// Adds one element at the end.
    #[inline]
    pub fn push(self, element: T) -> Result<()> {
        self.extend([element])
    }

    /// Adds elements at the end.
    #[inline]
    pub fn extend(self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        self.backend.list_append(self.state, self.key, self.namespace, elements)
    }

    /// Replaces all elements; an empty list clears.
    #[inline]
    pub fn put(self, elements: Vec<T>) -> Result<()> {
        self.backend.list_put(self.state, self.key, self.namespace, elements)
    }

    /// Removes all elements; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.backend.list_clear(self.state, self.key, self.namespace)
    }
}

/// The map of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct MapAccess<'a, B: KeyedBackend, MK, V, N> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    namespace: &'a N,
    state: MapState<MK, V, N>,
}

impl<'a, B: KeyedBackend, MK: StateKey, V: Send + 'static, N: StateKey> MapAccess<'a, B, MK, V, N> {
    /// Lends the value of one entry, if there is one.
    #[inline]
    pub fn get(self, map_key: &MK) -> Result<Option<&'a V>> {
        self.backend.map_get(self.state, self.key, self.namespace, map_key)
    }

    /// Sets one entry.
    #[inline]
    pub fn put(self, map_key: MK, value: V) -> Result<()> {
        self.backend.map_put(self.state, self.key, self.namespace, map_key, value)
    }

    /// Removes one entry; says whether there was one.
    #[inline]
    pub fn remove(self, map_key: &MK) -> Result<bool> {
        self.backend.map_remove(self.state, self.key, self.namespace, map_key)
    }

    /// Whether there is an entry.
    #[inline]
    pub fn contains(self, map_key: &MK) -> Result<bool> {
        self.backend.map_contains(self.state, self.key, self.namespace, map_key)
    }

    /// Visits every entry, in no promised order.
    #[inline]
    pub fn for_each(self, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.backend.map_for_each(self.state, self.key, self.namespace, visit)
    }

    /// Visits the entries whose map key lies in `range`, ascending by the encoding of the map key.
    #[inline]
    pub fn range(self, range: impl RangeBounds<MK>, visit: impl FnMut(&MK, &V) -> Result<()>) -> Result<()> {
        self.backend.map_range(self.state, self.key, self.namespace, range, visit)
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(self) -> Result<bool> {
        self.backend.map_is_empty(self.state, self.key, self.namespace)
    }

    /// Removes all entries; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.backend.map_clear(self.state, self.key, self.namespace)
    }
}

/// The timers of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct TimerAccess<'a, B: KeyedBackend, N> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    namespace: &'a N,
    service: TimerService<N>,
}

impl<B: KeyedBackend, N: StateKey> TimerAccess<'_, B, N> {
    /// Registers a timer at `time` (milliseconds); says whether it is new.
    #[inline]
    pub fn register(self, time: i64) -> Result<bool> {
        self.backend.timer_register(self.service, self.key, self.namespace, time)
    }

    /// Deletes the timer at `time`; says whether there was one.
    #[inline]
    pub fn delete(self, time: i64) -> Result<bool> {
        self.backend.timer_delete(self.service, self.key, self.namespace, time)
    }
}
