//! One door for the registration of state of every kind.

use crate::backend::KeyedBackend;
use crate::host::OperatorStateStore;
use crate::operator_state::{BroadcastDescriptor, BroadcastState, OperatorListDescriptor, OperatorListState};
use crate::state::StateDescriptor;
use crate::{Result, StateKey};

/// A descriptor of any state that a subtask has: keyed state, a timer service, an operator list, a broadcast
/// map.
pub trait AnyDescriptor {
    /// The handle of the state.
    type State;

    /// Registers the state with the backend or the operator state of a subtask.
    ///
    /// # Errors
    /// Those of [`StateDescriptor::register`], [`OperatorStateStore::register_list`] and
    /// [`OperatorStateStore::register_broadcast`].
    fn register_in<B: KeyedBackend>(
        &self,
        backend: &mut B,
        operator_state: &mut OperatorStateStore,
    ) -> Result<Self::State>;
}

impl<D: StateDescriptor> AnyDescriptor for D {
    type State = D::State;

    fn register_in<B: KeyedBackend>(
        &self,
        backend: &mut B,
        _operator_state: &mut OperatorStateStore,
    ) -> Result<Self::State> {
        self.register(backend)
    }
}

impl<T: Send + 'static> AnyDescriptor for OperatorListDescriptor<T> {
    type State = OperatorListState<T>;

    fn register_in<B: KeyedBackend>(
        &self,
        _backend: &mut B,
        operator_state: &mut OperatorStateStore,
    ) -> Result<Self::State> {
        operator_state.register_list(self)
    }
}

impl<MK: StateKey, V: Send + 'static> AnyDescriptor for BroadcastDescriptor<MK, V> {
    type State = BroadcastState<MK, V>;

    fn register_in<B: KeyedBackend>(
        &self,
        _backend: &mut B,
        operator_state: &mut OperatorStateStore,
    ) -> Result<Self::State> {
        operator_state.register_broadcast(self)
    }
}
