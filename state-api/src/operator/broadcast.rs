//! A keyed operator with a second input, whose records reach all of its subtasks.

use super::{Batch, Operator};
use crate::backend::KeyedBackend;
use crate::host::OperatorLists;
use crate::operator_state::{BroadcastMap, BroadcastState, BroadcastStates};
use crate::time::StateTime;
use crate::{Result, StateKey, Timestamp};

/// An [`Operator`] with a broadcast side (Flink: `KeyedBroadcastProcessFunction`): rules that change while
/// data flows.
///
/// An operator receives the records of its keyed side in [`Operator::process`], where it can read [broadcast
/// state](super::Context::broadcast), and the records of its broadcast side in
/// [`process_broadcast`](Self::process_broadcast), in every subtask, where it can also write broadcast
/// state.
///
/// # Every subtask must do the same
///
/// No subtask sends broadcast state to another: the state is the same everywhere because every subtask
/// receives the same records and does the same with them. So what an operator puts must follow from the
/// broadcast records and the broadcast state alone, not from keyed state, processing time or chance. Records
/// that come from several subtasks may arrive in a different order in each, and what an operator puts must
/// not depend on that order. After a rescale a subtask may continue with the copy of any other.
///
/// ```
/// use strandline_state_api::{
///     BroadcastContext, BroadcastDescriptor, BroadcastOperator, BroadcastState, Context, KeyedBackend, Open,
///     Operator, Result, ValueDescriptor, ValueState,
/// };
///
/// /// Counts for each customer, the key, the orders above the limit of their category.
/// struct Limits { limits: BroadcastState<String, u64>, seen: ValueState<u64> }
///
/// impl Limits {
///     fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
///         let limits = ctx.register(&BroadcastDescriptor::new("limits"))?;
///         Ok(Self { limits, seen: ctx.register(&ValueDescriptor::new("seen"))? })
///     }
/// }
///
/// impl Operator for Limits {
///     type Key = String;
///     type In = (String, u64);
///     type Out = (String, u64);
///     type Namespace = ();
///
///     fn process<B>(
///         &mut self,
///         (category, amount): Self::In,
///         ctx: &mut Context<'_, B, Self::Out>,
///     ) -> Result<()>
///     where
///         B: KeyedBackend<Key = String>,
///     {
///         if ctx.broadcast(self.limits)?.get(&category).is_some_and(|limit| amount > *limit) {
///             let n = ctx.state(self.seen).update_or_default(|n| { *n += 1; *n })?;
///             ctx.emit((ctx.key().clone(), n));
///         }
///         Ok(())
///     }
/// }
///
/// impl BroadcastOperator for Limits {
///     type Broadcast = (String, u64);
///
///     fn process_broadcast<B>(
///         &mut self,
///         (category, limit): Self::Broadcast,
///         ctx: &mut BroadcastContext<'_, B, Self::Out>,
///     ) -> Result<()>
///     where
///         B: KeyedBackend<Key = String>,
///     {
///         ctx.broadcast(self.limits)?.put(category, limit);
///         Ok(())
///     }
/// }
/// ```
///
/// The keyed side can only read; this does not compile:
///
/// ```compile_fail,E0596
/// # use strandline_state_api::{BroadcastState, Context, KeyedBackend, Result};
/// fn keyed_side<B: KeyedBackend>(
///     limits: BroadcastState<String, u64>,
///     ctx: &mut Context<'_, B, ()>,
/// ) -> Result<()> {
///     ctx.broadcast(limits)?.put("books".into(), 100);
///     Ok(())
/// }
/// ```
pub trait BroadcastOperator: Operator {
    /// The records of the broadcast side.
    type Broadcast;

    /// Processes one record of the broadcast side.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn process_broadcast<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        record: Self::Broadcast,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()>;
}

/// The context of a record of the broadcast side. There is no current key, so there are no timers either.
#[derive(Debug)]
pub struct BroadcastContext<'a, B, Out> {
    pub(crate) backend: &'a mut B,
    pub(crate) lists: &'a mut OperatorLists,
    pub(crate) broadcasts: &'a mut BroadcastStates,
    pub(crate) output: &'a mut Batch<Out>,
    pub(crate) time: StateTime,
}

impl<B: KeyedBackend, Out> BroadcastContext<'_, B, Out> {
    /// Returns a broadcast state, to read and to write.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle belongs to another operator.
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &mut self,
        state: BroadcastState<MK, V>,
    ) -> Result<&mut BroadcastMap<MK, V>> {
        self.broadcasts.get_mut(state)
    }

    /// Returns the keyed state of all keys of this subtask, and of no others.
    ///
    /// Read this state with [`for_each_value`](crate::backend::KeyedBackendExt::for_each_value) and
    /// [`keys`](crate::backend::KeyedBackendExt::keys); change it with
    /// [`apply_to_all_keys`](crate::backend::KeyedBackendExt::apply_to_all_keys) (Flink:
    /// `applyToKeyedState`).
    pub fn backend(&mut self) -> &mut B {
        self.backend
    }

    /// Returns the lists in the operator state of this subtask.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// Returns the event time of the record, if it has one.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.timestamp
    }

    /// Returns the current watermark, the least of both sides; `None` before the first.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.time.watermark
    }

    /// Returns the processing time that the host last set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.time.processing_time
    }

    /// Returns the index of this subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.backend.scope().subtask
    }

    /// Returns the number of subtasks of the operator.
    pub fn parallelism(&self) -> u32 {
        self.backend.scope().parallelism
    }

    /// Emits a record with the current timestamp. Every subtask that calls this emits one.
    pub fn emit(&mut self, record: Out) {
        self.output.push(record, self.time.timestamp);
    }

    /// Emits a record with a timestamp of its own.
    pub fn emit_at(&mut self, record: Out, timestamp: impl Into<Timestamp>) {
        self.output.push(record, timestamp.into());
    }
}
