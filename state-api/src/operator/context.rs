//! The context of a record or a timer: the current key and its state, the time, and the output.

use super::Batch;
use crate::access::{KeyScope, StateHandle};
use crate::backend::KeyedBackend;
use crate::host::OperatorLists;
use crate::operator_state::{BroadcastMap, BroadcastState, BroadcastStates};
use crate::time::StateTime;
use crate::{Result, StateKey, Timestamp};

/// The context of a record or a timer: the current key and its state, the time, and the output.
#[derive(Debug)]
pub struct Context<'a, B: KeyedBackend, Out> {
    pub(crate) scope: KeyScope<'a, B>,
    pub(crate) lists: &'a mut OperatorLists,
    pub(crate) broadcasts: &'a BroadcastStates,
    pub(crate) output: &'a mut Batch<Out>,
    pub(crate) time: StateTime,
    pub(crate) too_late: &'a mut u64,
}

impl<'a, B: KeyedBackend, Out> Context<'a, B, Out> {
    /// Returns the current key.
    #[inline]
    pub fn key(&self) -> &'a B::Key {
        self.scope.key()
    }

    /// Opens a state of the current key, without a namespace.
    #[inline]
    pub fn state<S: StateHandle<Namespace = ()>>(&mut self, state: S) -> S::Access<'_, B> {
        self.scope.state(state)
    }

    /// Opens a state of the current key, in a namespace.
    #[inline]
    pub fn state_in<'s, S: StateHandle>(
        &'s mut self,
        state: S,
        namespace: &'s S::Namespace,
    ) -> S::Access<'s, B> {
        self.scope.state_in(state, namespace)
    }

    /// Returns all state of the current key, to pass on.
    #[inline]
    pub fn scope(&mut self) -> &mut KeyScope<'a, B> {
        &mut self.scope
    }

    /// Returns the lists in the operator state of this subtask.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// Returns a broadcast state, to read: only the [broadcast
    /// side](super::BroadcastOperator::process_broadcast) writes it. The borrow may last while keyed state
    /// changes.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle belongs to another operator.
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &self,
        state: BroadcastState<MK, V>,
    ) -> Result<&'a BroadcastMap<MK, V>> {
        self.broadcasts.get(state)
    }

    /// Returns the event time of the current record or timer, if it has one.
    #[inline]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.timestamp
    }

    /// Returns the current watermark: no record at or before this time is expected. `None` before the
    /// first.
    #[inline]
    pub fn watermark(&self) -> Option<Timestamp> {
        self.time.watermark
    }

    /// Returns the processing time that the host last set.
    #[inline]
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.time.processing_time
    }

    /// Counts the current record as one that came too late for its window, whether the operator drops it or
    /// emits it apart. The host reports the count (Flink: `numLateRecordsDropped`), in which a record that is
    /// processed again after a failure counts once.
    pub fn count_too_late(&mut self) {
        *self.too_late += 1;
    }

    /// Returns the index of this subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.scope.backend_scope().subtask
    }

    /// Returns the number of subtasks of the operator.
    pub fn parallelism(&self) -> u32 {
        self.scope.backend_scope().parallelism
    }

    /// Emits a record with the current timestamp.
    #[inline]
    pub fn emit(&mut self, record: Out) {
        self.output.push(record, self.time.timestamp);
    }

    /// Emits a record with a timestamp of its own.
    #[inline]
    pub fn emit_at(&mut self, record: Out, timestamp: impl Into<Timestamp>) {
        self.output.push(record, timestamp.into());
    }

    /// Emits a record with a timestamp of its own, or without any.
    #[inline]
    pub fn emit_with(&mut self, record: Out, timestamp: Option<Timestamp>) {
        self.output.push(record, timestamp);
    }
}
