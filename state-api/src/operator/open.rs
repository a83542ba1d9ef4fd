//! The context in which an operator opens and registers its states.

use crate::backend::{BackendScope, KeyedBackend};
use crate::host::{AnyDescriptor, OperatorLists, OperatorStateStore};
use crate::operator_state::{BroadcastDescriptor, OperatorListDescriptor};
use crate::state::{
    AggregateFunction, AggregatingDescriptor, ListDescriptor, MapDescriptor, ReducingDescriptor,
    StateDescriptor, TimerDescriptor, TimerService, ValueDescriptor,
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

/// Descriptors that an operator registers whatever the namespace of its timers is.
macro_rules! without_timers {
    ($(<$($param:ident $(: $bound:path)?),+> $descriptor:ty;)+) => {$(
        impl<$($param $(: $bound)?,)+ M> Register<M> for $descriptor
        where
            Self: AnyDescriptor,
        {
            type State = <Self as AnyDescriptor>::State;

            fn register_in<B: KeyedBackend>(&self, open: &mut Open<'_, B, M>) -> Result<Self::State> {
                AnyDescriptor::register_in(self, open.backend, open.operator_state)
            }
        }
    )+};
}

without_timers! {
    <V, N, L> ValueDescriptor<V, N, L>;
    <T, N, L> ListDescriptor<T, N, L>;
    <MK, V, N, L> MapDescriptor<MK, V, N, L>;
    <V, N, L, R> ReducingDescriptor<V, N, L, R>;
    <F: AggregateFunction, N, L> AggregatingDescriptor<F, N, L>;
    <T> OperatorListDescriptor<T>;
    <MK, V> BroadcastDescriptor<MK, V>;
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
