//! A keyed operator with a second input, whose records reach all of its subtasks.

use super::{Operator, Output};
use crate::operator_state::BroadcastStates;
use crate::{BroadcastMap, BroadcastState, KeyedBackend, OperatorLists, Result, StateKey};

/// An [`Operator`] with a broadcast side (Flink: `KeyedBroadcastProcessFunction`): rules that change while data flows.
///
/// Records of the keyed side come to [`Operator::process`], where [broadcast state](super::Context::broadcast) can be read.
/// Records of the broadcast side come here, in every subtask, where it can be written.
///
/// # Every subtask must do the same
///
/// Nobody sends broadcast state to another subtask: it is the same everywhere because every subtask gets the same records
/// and does the same with them. So what is put must follow from the broadcast records and the broadcast state alone, not
/// from keyed state, processing time or chance. Records that come from several subtasks may come in another order
/// in each: what is put must not depend on that order. After a rescale a subtask may go on with the copy of any other.
///
/// ```
/// use strandline_state_api::*;
///
/// /// Lets through the orders (keyed by customer) above the limit of their category.
/// struct Limits { limits: BroadcastState<String, u64>, seen: ValueState<u64> }
///
/// impl Limits {
///     fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
///         let limits = ctx.broadcast(&BroadcastDescriptor::new("limits"))?;
///         Ok(Self { limits, seen: ctx.value(&ValueDescriptor::new("seen"))? })
///     }
/// }
///
/// impl<B: KeyedBackend<Key = String>> Operator<B> for Limits {
///     type In = (String, u64);
///     type Out = (String, u64);
///     type Namespace = ();
///
///     fn process(&mut self, (category, amount): Self::In, ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
///         if ctx.broadcast(self.limits)?.get(&category).is_some_and(|limit| amount > *limit) {
///             let n = ctx.state().value(self.seen).modify(|| 0, |n| { *n += 1; *n })?;
///             ctx.emit((ctx.key().clone(), n));
///         }
///         Ok(())
///     }
/// }
///
/// impl<B: KeyedBackend<Key = String>> BroadcastOperator<B> for Limits {
///     type Broadcast = (String, u64);
///
///     fn process_broadcast(
///         &mut self,
///         (category, limit): Self::Broadcast,
///         ctx: &mut BroadcastContext<'_, B, Self::Out>,
///     ) -> Result<()> {
///         ctx.broadcast(self.limits)?.put(category, limit);
///         Ok(())
///     }
/// }
/// ```
///
/// On the keyed side nothing can be put; this does not compile:
///
/// ```compile_fail,E0596
/// # use strandline_state_api::*;
/// fn keyed_side<B: KeyedBackend>(limits: BroadcastState<String, u64>, ctx: &mut Context<'_, B, ()>) -> Result<()> {
///     ctx.broadcast(limits)?.put("books".into(), 100);
///     Ok(())
/// }
/// ```
pub trait BroadcastOperator<B: KeyedBackend>: Operator<B> {
    /// The records of the broadcast side.
    type Broadcast;

    /// Works on one record of the broadcast side.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn process_broadcast(
        &mut self,
        record: Self::Broadcast,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()>;
}

/// What an operator sees while it works on a record of its broadcast side. There is no current key, so no timers either.
#[derive(Debug)]
pub struct BroadcastContext<'a, B, Out> {
    pub(super) backend: &'a mut B,
    pub(super) lists: &'a mut OperatorLists,
    pub(super) broadcasts: &'a mut BroadcastStates,
    pub(super) output: &'a mut Output<Out>,
    pub(super) timestamp: i64,
    pub(super) watermark: i64,
    pub(super) processing_time: i64,
}

impl<B: KeyedBackend, Out> BroadcastContext<'_, B, Out> {
    /// A broadcast state, to read and to write.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle is of another operator.
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &mut self,
        state: BroadcastState<MK, V>,
    ) -> Result<&mut BroadcastMap<MK, V>> {
        self.broadcasts.get_mut(state)
    }

    /// The keyed state of all keys of this subtask, and of no others: what is done to a key of another subtask is lost.
    ///
    /// Visit it with [`value_for_each`](KeyedBackend::value_for_each) or [`for_each_key`](KeyedBackend::for_each_key); change
    /// it with [`apply_to_all_keys`](KeyedBackend::apply_to_all_keys) (Flink: `applyToKeyedState`).
    pub fn backend(&mut self) -> &mut B {
        self.backend
    }

    /// The lists in the operator state of this subtask.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// The event time of the record in milliseconds; [`NO_TIMESTAMP`](crate::NO_TIMESTAMP) where there is none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The current watermark, which is the least of both sides. `i64::MIN` before the first.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The processing time in milliseconds since the epoch, as whoever drives the operator last told it.
    pub fn processing_time(&self) -> i64 {
        self.processing_time
    }

    /// Emits a record with the current timestamp. Every subtask that does so emits one.
    pub fn emit(&mut self, record: Out) {
        self.output.push(record, self.timestamp);
    }

    /// Emits a record with a timestamp of its own.
    pub fn emit_at(&mut self, record: Out, timestamp: i64) {
        self.output.push(record, timestamp);
    }
}
