//! The operator: a plain value that works on records, state and timers, and knows nothing of barriers, channels or threads.

use crate::operator_state::BroadcastStates;
use crate::{
    BroadcastDescriptor, BroadcastMap, BroadcastState, FiredTimer, KeyHash, KeyScope, KeyedBackend,
    ListDescriptor, ListState, MapDescriptor, MapState, OperatorListDescriptor, OperatorListState,
    OperatorLists, OperatorStateStore, Result, StateDescriptor, StateKey, TimeDomain, TimerDescriptor,
    TimerService, ValueDescriptor, ValueState,
};

mod broadcast;
mod driver;

pub use broadcast::{BroadcastContext, BroadcastOperator};
pub use driver::{KeyedProcess, Steps};

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = i64::MIN;

/// A keyed operator (Flink: `KeyedProcessFunction`).
///
/// Synchronous, owned by one thread. The same operator runs under our executor, in a bare loop, in a test harness and on
/// another engine: whatever drives it does so through [`KeyedProcess`]. It is made by a function that registers its states
/// ([`Open`]), so it holds its handles from its first moment, and one instance is made for each subtask.
///
/// ```
/// use strandline_state_api::*;
///
/// struct WordCount { counts: ValueState<u64> }
///
/// impl WordCount {
///     fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
///         Ok(Self { counts: ctx.value(&ValueDescriptor::new("counts"))? })
///     }
/// }
///
/// impl<B: KeyedBackend<Key = String>> Operator<B> for WordCount {
///     type In = ();
///     type Out = (String, u64);
///     type Namespace = ();
///
///     fn process(&mut self, _: (), ctx: &mut Context<'_, B, (String, u64)>) -> Result<()> {
///         let n = ctx.state().value(self.counts).modify(|| 0, |n| { *n += 1; *n })?;
///         ctx.emit((ctx.key().clone(), n));
///         Ok(())
///     }
/// }
/// ```
pub trait Operator<B: KeyedBackend>: Send {
    /// The records that come in, without their key (that is in the context).
    type In;
    /// The records that go out.
    type Out;
    /// The namespace of its timers; `()` where it has none.
    type Namespace: StateKey;

    /// Works on one record.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn process(&mut self, record: Self::In, ctx: &mut Context<'_, B, Self::Out>) -> Result<()>;

    /// A timer of this operator is due. The context stands at its key, its timestamp is the timer's.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    fn on_timer(
        &mut self,
        _timer: &DueTimer<B::Key, Self::Namespace>,
        _ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        Ok(())
    }

    /// The watermark rose to `watermark`, and all timers up to it have fired.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    fn on_watermark(&mut self, _watermark: i64, _output: &mut Output<Self::Out>) -> Result<()> {
        Ok(())
    }

    /// The input has ended, and all event timers have fired. What is emitted here belongs to the result.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    fn on_end(&mut self, _backend: &mut B, _output: &mut Output<Self::Out>) -> Result<()> {
        Ok(())
    }

    /// Records with these keys come next: a chance to [prefetch](KeyedBackend::value_prefetch). Only a hint.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    fn prefetch(
        &mut self,
        _backend: &mut B,
        _keys: &mut dyn Iterator<Item = (KeyHash, &B::Key)>,
    ) -> Result<()> {
        Ok(())
    }
}

/// A timer that fires, and where it was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer<K, N> {
    /// Which time it goes by.
    pub domain: TimeDomain,
    /// The name of its service.
    pub service: String,
    /// The timer itself.
    pub timer: FiredTimer<K, N>,
}

/// Records that an operator emits, each with its event time. Consumers drain it; its memory is reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<T> {
    /// The records in order.
    pub records: Vec<T>,
    /// The event time of each, in milliseconds; [`NO_TIMESTAMP`] where there is none.
    pub timestamps: Vec<i64>,
}

impl<T> Output<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { records: Vec::new(), timestamps: Vec::new() }
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, record: T, timestamp: i64) {
        self.records.push(record);
        self.timestamps.push(timestamp);
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Drops all records, keeping the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.timestamps.clear();
    }
}

impl<T> Default for Output<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What an operator sees while it opens: the place where states are registered.
#[derive(Debug)]
pub struct Open<'a, B, N = ()> {
    backend: &'a mut B,
    operator_state: &'a mut OperatorStateStore,
    services: &'a mut Vec<Service<N>>,
}

#[derive(Debug)]
struct Service<N> {
    name: String,
    domain: TimeDomain,
    handle: TimerService<N>,
}

impl<B: KeyedBackend, N: StateKey> Open<'_, B, N> {
    /// Registers a state of any kind, with or without a time-to-live; timers that this operator wants to see come
    /// by [`timers`](Self::timers).
    ///
    /// # Errors
    /// Those of [`KeyedBackend::register_value`]; so for the other kinds.
    pub fn register<D: StateDescriptor>(&mut self, descriptor: &D) -> Result<D::State> {
        self.backend.register(descriptor)
    }

    /// Registers a value state.
    pub fn value<V: Send + 'static, M: StateKey>(
        &mut self,
        descriptor: &ValueDescriptor<V, M>,
    ) -> Result<ValueState<V, M>> {
        self.backend.register(descriptor)
    }

    /// Registers a list state.
    pub fn list<T: Send + 'static, M: StateKey>(
        &mut self,
        descriptor: &ListDescriptor<T, M>,
    ) -> Result<ListState<T, M>> {
        self.backend.register(descriptor)
    }

    /// Registers a map state.
    pub fn map<MK: StateKey, V: Send + 'static, M: StateKey>(
        &mut self,
        descriptor: &MapDescriptor<MK, V, M>,
    ) -> Result<MapState<MK, V, M>> {
        self.backend.register(descriptor)
    }

    /// Registers a timer service; its timers come to [`Operator::on_timer`].
    pub fn timers(&mut self, descriptor: &TimerDescriptor<N>) -> Result<TimerService<N>> {
        let handle = self.backend.register_timers(descriptor)?;
        if !self.services.iter().any(|s| s.name == descriptor.name()) {
            let (name, domain) = (descriptor.name().to_owned(), descriptor.domain());
            self.services.push(Service { name, domain, handle });
        }
        Ok(handle)
    }

    /// Registers a list in operator state, with its restored elements.
    ///
    /// # Errors
    /// Those of [`OperatorStateStore::register_list`].
    pub fn operator_list<T: Send + 'static>(
        &mut self,
        descriptor: &OperatorListDescriptor<T>,
    ) -> Result<OperatorListState<T>> {
        self.operator_state.register_list(descriptor)
    }

    /// Registers a broadcast state, with its restored entries. A [`BroadcastOperator`] writes it on its broadcast side.
    ///
    /// # Errors
    /// Those of [`OperatorStateStore::register_broadcast`].
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &mut self,
        descriptor: &BroadcastDescriptor<MK, V>,
    ) -> Result<BroadcastState<MK, V>> {
        self.operator_state.register_broadcast(descriptor)
    }

    /// The lists that are registered, with what was restored: to look at, and to change before the first record. Of a
    /// [union list](OperatorListDescriptor::union) keep here what this subtask needs.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.operator_state.keyed_side().0
    }
}

/// What an operator sees while it works: the current key and its state, time, and the way out.
#[derive(Debug)]
pub struct Context<'a, B: KeyedBackend, Out> {
    scope: KeyScope<'a, B>,
    lists: &'a mut OperatorLists,
    broadcasts: &'a BroadcastStates,
    output: &'a mut Output<Out>,
    timestamp: i64,
    watermark: i64,
    processing_time: i64,
}

impl<'a, B: KeyedBackend, Out> Context<'a, B, Out> {
    /// The current key.
    #[inline]
    pub fn key(&self) -> &'a B::Key {
        self.scope.key()
    }

    /// The keyed state of the current key.
    #[inline]
    pub fn state(&mut self) -> &mut KeyScope<'a, B> {
        &mut self.scope
    }

    /// The lists in the operator state of this subtask.
    pub fn operator_state(&mut self) -> &mut OperatorLists {
        self.lists
    }

    /// A broadcast state, to read: only the [broadcast side](BroadcastOperator::process_broadcast) writes it. What is lent
    /// may be held while keyed state changes.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the handle is of another operator.
    pub fn broadcast<MK: StateKey, V: Send + 'static>(
        &self,
        state: BroadcastState<MK, V>,
    ) -> Result<&'a BroadcastMap<MK, V>> {
        self.broadcasts.get(state)
    }

    /// The event time of the current record or timer in milliseconds; [`NO_TIMESTAMP`] where there is none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The current watermark: no record at or before it is expected any more. `i64::MIN` before the first.
    #[inline]
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The processing time in milliseconds since the epoch, as whoever drives the operator last told it.
    #[inline]
    pub fn processing_time(&self) -> i64 {
        self.processing_time
    }

    /// Emits a record with the current timestamp.
    #[inline]
    pub fn emit(&mut self, record: Out) {
        self.output.push(record, self.timestamp);
    }

    /// Emits a record with a timestamp of its own.
    #[inline]
    pub fn emit_at(&mut self, record: Out, timestamp: i64) {
        self.output.push(record, timestamp);
    }
}
