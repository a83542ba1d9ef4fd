//! A backend as seen from one key: what code that works on state mostly uses.

mod folding;
mod list;
mod map;
mod value;

pub use folding::{AggregatingAccess, ReducingAccess};
pub use list::ListAccess;
pub use map::MapAccess;
pub use value::ValueAccess;

use crate::{
    AggregateFunction, AggregatingState, Keyed, KeyedBackend, ListState, MapState, ReduceFunction,
    ReducingState, Result, StateKey, TimerService, ValueState,
};

/// All state of one key.
///
/// States with a time-to-live are accessed as others are; what has expired is not there.
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

    #[inline]
    fn access<'s, S, N>(&'s mut self, state: S, namespace: &'s N) -> Access<'s, B, S, N> {
        Access { backend: self.backend, key: self.key, namespace, state }
    }

    /// A value without a namespace.
    #[inline]
    pub fn value<V, A>(&mut self, state: ValueState<V, (), A>) -> ValueAccess<'_, B, V, (), A> {
        self.value_in(state, &())
    }

    /// A value in a namespace.
    #[inline]
    pub fn value_in<'s, V, N: StateKey, A>(
        &'s mut self,
        state: ValueState<V, N, A>,
        namespace: &'s N,
    ) -> ValueAccess<'s, B, V, N, A> {
        ValueAccess(self.access(state, namespace))
    }

    /// A list without a namespace.
    #[inline]
    pub fn list<T, A>(&mut self, state: ListState<T, (), A>) -> ListAccess<'_, B, T, (), A> {
        self.list_in(state, &())
    }

    /// A list in a namespace.
    #[inline]
    pub fn list_in<'s, T, N: StateKey, A>(
        &'s mut self,
        state: ListState<T, N, A>,
        namespace: &'s N,
    ) -> ListAccess<'s, B, T, N, A> {
        ListAccess(self.access(state, namespace))
    }

    /// A map without a namespace.
    #[inline]
    pub fn map<MK, V, A>(&mut self, state: MapState<MK, V, (), A>) -> MapAccess<'_, B, MK, V, (), A> {
        self.map_in(state, &())
    }

    /// A map in a namespace.
    #[inline]
    pub fn map_in<'s, MK, V, N: StateKey, A>(
        &'s mut self,
        state: MapState<MK, V, N, A>,
        namespace: &'s N,
    ) -> MapAccess<'s, B, MK, V, N, A> {
        MapAccess(self.access(state, namespace))
    }

    /// A reducing state without a namespace.
    #[inline]
    pub fn reducing<'s, V, R: ReduceFunction<V>, A>(
        &'s mut self,
        state: &'s ReducingState<V, R, (), A>,
    ) -> ReducingAccess<'s, B, V, R, (), A> {
        self.reducing_in(state, &())
    }

    /// A reducing state in a namespace.
    #[inline]
    pub fn reducing_in<'s, V, R: ReduceFunction<V>, N: StateKey, A>(
        &'s mut self,
        state: &'s ReducingState<V, R, N, A>,
        namespace: &'s N,
    ) -> ReducingAccess<'s, B, V, R, N, A> {
        ReducingAccess(self.access(state, namespace))
    }

    /// An aggregating state without a namespace.
    #[inline]
    pub fn aggregating<'s, F: AggregateFunction, A>(
        &'s mut self,
        state: &'s AggregatingState<F, (), A>,
    ) -> AggregatingAccess<'s, B, F, (), A> {
        self.aggregating_in(state, &())
    }

    /// An aggregating state in a namespace.
    #[inline]
    pub fn aggregating_in<'s, F: AggregateFunction, N: StateKey, A>(
        &'s mut self,
        state: &'s AggregatingState<F, N, A>,
        namespace: &'s N,
    ) -> AggregatingAccess<'s, B, F, N, A> {
        AggregatingAccess(self.access(state, namespace))
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
        TimerAccess(self.access(service, namespace))
    }
}

/// A state at one key and namespace.
#[derive(Debug)]
struct Access<'a, B: KeyedBackend, S, N> {
    backend: &'a mut B,
    key: Keyed<'a, B::Key>,
    namespace: &'a N,
    state: S,
}

/// The timers of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct TimerAccess<'a, B: KeyedBackend, N>(Access<'a, B, TimerService<N>, N>);

impl<B: KeyedBackend, N: StateKey> TimerAccess<'_, B, N> {
    /// Registers a timer at `time` (milliseconds); says whether it is new.
    #[inline]
    pub fn register(self, time: i64) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.timer_register(state, key, namespace, time)
    }

    /// Deletes the timer at `time`; says whether there was one.
    #[inline]
    pub fn delete(self, time: i64) -> Result<bool> {
        let Access { backend, key, namespace, state } = self.0;
        backend.timer_delete(state, key, namespace, time)
    }
}
