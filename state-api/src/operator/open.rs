//! The context in which an operator opens and registers its states.

use crate::backend::{BackendScope, KeyedBackend};
use crate::host::{OperatorLists, OperatorStateStore};
use crate::operator_state::{BroadcastDescriptor, BroadcastState, OperatorListDescriptor, OperatorListState};
use crate::state::{
    AggregateFunction, AggregatingDescriptor, Lifespan, ListDescriptor, MapDescriptor, ReduceFunction,
    ReducingDescriptor, StateDescriptor, TimerDescriptor, TimerService, ValueDescriptor,
};
use crate::{Result, StateKey};

/// The context in which an operator opens and registers its states. `N` is the namespace of its timers.
#[derive(Debug)]
pub struct Open<'a, B, N = ()> {
    pub(crate) backend: &'a mut B,
    pub(crate) operator_state: &'a mut OperatorStateStore,
    pub(crate) services: &'a mut Vec<Service<N>>,
}

/// A service whose timers fire in the operator.
pub(crate) type Service<N> = TimerService<N>;

impl<B: KeyedBackend, N: StateKey> Open<'_, B, N> {
    /// Registers keyed state of any kind, a timer service, an operator list or a broadcast state. An operator
    /// list or a broadcast state then holds its restored elements.
    ///
    /// # Errors
    /// Those of [`StateDescriptor::register`], [`OperatorStateStore::register_list`] and
    /// [`OperatorStateStore::register_broadcast`].
    pub fn register<D: Register<N>>(&mut self, descriptor: &D) -> Result<D::State> {
        descriptor.register_in(self)
    }

    /// Returns the index of this subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.backend.scope().subtask
    }

    /// Returns the number of subtasks of the operator.
    pub fn parallelism(&self) -> u32 {
        self.backend.scope().parallelism
    }

    /// Returns the scope of the registered state: operator, subtask, key groups.
    pub fn scope(&self) -> &BackendScope {
        self.backend.scope()
    }

    /// Returns the registered lists with their restored elements, to read them, and to change them before the
    /// first record. Reduce a [union list](OperatorListDescriptor::union) to what this subtask needs here.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.operator_state.keyed_side().0
    }
}

/// A descriptor that [`Open::register`] accepts, in an operator whose timers have the namespace `N`.
pub trait Register<N> {
    /// The handle that the registration returns.
    type State;

    #[doc(hidden)]
    fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, N>) -> Result<Self::State>;
}

macro_rules! keyed {
    ($(<$($param:ident: $bound:path),+> $descriptor:ty;)+) => {$(
        impl<$($param: $bound,)+ M> Register<M> for $descriptor
        where
            Self: StateDescriptor,
        {
            type State = <Self as StateDescriptor>::State;

            fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, M>) -> Result<Self::State> {
                self.register(open.backend)
            }
        }
    )+};
}

keyed! {
    <V: Sized, N: StateKey, L: Lifespan> ValueDescriptor<V, N, L>;
    <V: Sized, N: StateKey, L: Lifespan> ListDescriptor<V, N, L>;
    <MK: StateKey, V: Sized, N: StateKey, L: Lifespan> MapDescriptor<MK, V, N, L>;
    <F: AggregateFunction, N: StateKey, L: Lifespan> AggregatingDescriptor<F, N, L>;
}

impl<V, N, L, R, M> Register<M> for ReducingDescriptor<V, N, L, R>
where
    V: Send + 'static,
    N: StateKey,
    L: Lifespan,
    R: ReduceFunction<V>,
{
    type State = <Self as StateDescriptor>::State;

    fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, M>) -> Result<Self::State> {
        self.register(open.backend)
    }
}

impl<N: StateKey> Register<N> for TimerDescriptor<N> {
    type State = TimerService<N>;

    fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, N>) -> Result<TimerService<N>> {
        let service = self.register(open.backend)?;
        if !open.services.contains(&service) {
            open.services.push(service);
        }
        Ok(service)
    }
}

impl<T: Send + 'static, N> Register<N> for OperatorListDescriptor<T> {
    type State = OperatorListState<T>;

    fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, N>) -> Result<OperatorListState<T>> {
        open.operator_state.register_list(self)
    }
}

impl<MK: StateKey, V: Send + 'static, N> Register<N> for BroadcastDescriptor<MK, V> {
    type State = BroadcastState<MK, V>;

    fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, N>) -> Result<BroadcastState<MK, V>> {
        open.operator_state.register_broadcast(self)
    }
}
