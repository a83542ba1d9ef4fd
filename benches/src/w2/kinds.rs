//! Reducing and aggregating state, and states with a time-to-live, beside a value state of the same backend.

use std::sync::Arc;
use std::time::Duration;

use strandline_state_api::backend::{BackendFactory, BackendScope, KeyedBackendExt};
use strandline_state_api::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, Expiring, KeyedBackend, ReducingDescriptor,
    ReducingState, Refresh, Result, Timestamp, Ttl, ValueDescriptor, ValueState,
};

use crate::compare::Subject;
use crate::keys::{Visit, slice_of};
use crate::snapshots::Cuts;

/// An access. The other side does the same to a plain value state: reads it, sets it, or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KindOp {
    /// Folds a number into a reducing state.
    ReducingAdd,
    /// Reads a reducing state.
    ReducingGet,
    /// Folds a number into an aggregating state, which keeps sum and count.
    AggregatingAdd,
    /// Reads an aggregating state.
    AggregatingGet,
    /// Reads a value with a time-to-live that has not expired.
    TimedGet,
    /// The same where reading refreshes, for the first time in a millisecond.
    TimedGetRefreshed,
    /// Sets a value with a time-to-live.
    TimedUpdate,
    /// Adds to a value with a time-to-live, in one access.
    TimedModify,
}

impl KindOp {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ReducingAdd,
        Self::ReducingGet,
        Self::AggregatingAdd,
        Self::AggregatingGet,
        Self::TimedGet,
        Self::TimedUpdate,
        Self::TimedModify,
        Self::TimedGetRefreshed,
    ];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReducingAdd => "reducingAdd / valueModify",
            Self::ReducingGet => "reducingGet / valueGet",
            Self::AggregatingAdd => "aggregatingAdd / valueModify",
            Self::AggregatingGet => "aggregatingGet / valueGet",
            Self::TimedGet => "valueGet, time-to-live / without",
            Self::TimedGetRefreshed => "valueGet, time-to-live, refreshing / without",
            Self::TimedUpdate => "valueUpdate, time-to-live / without",
            Self::TimedModify => "valueModify, time-to-live / without",
        }
    }

    /// The kind that it is about.
    pub fn kind(self) -> Kind {
        match self {
            Self::ReducingAdd | Self::ReducingGet => Kind::Reducing,
            Self::AggregatingAdd | Self::AggregatingGet => Kind::Aggregating,
            Self::TimedGet | Self::TimedUpdate | Self::TimedModify => Kind::Timed,
            Self::TimedGetRefreshed => Kind::Refreshed,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::ReducingGet | Self::AggregatingGet | Self::TimedGet | Self::TimedGetRefreshed)
    }
}

/// The state that a backend of this comparison has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain value state: the other side.
    Plain,
    /// A reducing state.
    Reducing,
    /// An aggregating state.
    Aggregating,
    /// A value state with a time-to-live.
    Timed,
    /// One that reading refreshes.
    Refreshed,
}

/// Sum and count.
#[derive(Clone, Copy, Debug)]
pub struct SumAndCount;

impl AggregateFunction for SumAndCount {
    type In = u64;
    type Accumulator = (u64, u64);
    type Out = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, n): &mut (u64, u64), value: u64) {
        *sum = sum.wrapping_add(value);
        *n += 1;
    }

    fn result(&self, (sum, _): &(u64, u64)) -> u64 {
        *sum
    }

    fn merge(&self, (sum, n): &mut (u64, u64), other: (u64, u64)) {
        *sum = sum.wrapping_add(other.0);
        *n += other.1;
    }
}

fn add(sum: &mut u64, n: u64) {
    *sum = sum.wrapping_add(n);
}

#[derive(Debug)]
enum State {
    Value(ValueState<u64>),
    Reducing(ReducingState<u64>),
    Aggregating(AggregatingState<SumAndCount>),
    Timed(ValueState<u64, (), Expiring>),
}

/// A backend with one state, which has every key.
#[derive(Debug)]
pub struct Kinds<F: BackendFactory> {
    backend: F::Backend<u64>,
    state: State,
    visit: Visit,
    slice: usize,
    cuts: Cuts,
}

impl<F: BackendFactory> Kinds<F> {
    /// A backend with `keys`.
    ///
    /// # Errors
    /// What the backend fails with.
    pub fn new(factory: &F, keys: &Arc<[u64]>, kind: Kind) -> Result<Self> {
        let mut backend = factory.create::<u64>(BackendScope::whole("bench")?)?;
        let hour = Ttl::processing_time(Duration::from_secs(3600));
        let timed = |ttl: Ttl| ValueDescriptor::new("timed").time_to_live(ttl);
        let state = match kind {
            Kind::Plain => State::Value(backend.register(&ValueDescriptor::new("value"))?),
            Kind::Reducing => State::Reducing(backend.register(&ReducingDescriptor::new("reducing", add))?),
            Kind::Aggregating => {
                State::Aggregating(backend.register(&AggregatingDescriptor::new("aggregating", SumAndCount))?)
            }
            Kind::Timed => State::Timed(backend.register(&timed(hour))?),
            Kind::Refreshed => State::Timed(backend.register(&timed(hour.refresh(Refresh::OnReadAndWrite)))?),
        };
        backend.clock().processing_time = Some(Timestamp::EPOCH);
        for key in keys.iter() {
            let mut scope = backend.at(key);
            match &state {
                State::Value(value) => scope.state(*value).put(0)?,
                State::Reducing(reducing) => scope.state(*reducing).add(0)?,
                State::Aggregating(aggregating) => scope.state(*aggregating).add(0)?,
                State::Timed(timed) => scope.state(*timed).put(0)?,
            }
        }
        let (visit, slice, cuts) = (Visit::new(Arc::clone(keys)), slice_of(keys.len()), Cuts::default());
        Ok(Self { backend, state, visit, slice, cuts })
    }
}

impl<F: BackendFactory> Subject<KindOp> for Kinds<F> {
    fn slice(&self, _op: KindOp) -> usize {
        self.slice
    }

    fn ready(&mut self, op: KindOp) -> Result<()> {
        let now = &mut self.backend.clock().processing_time;
        *now = now.map(|time| time.plus_millis(1));
        if op.reads() { Ok(()) } else { self.cuts.clean(&mut self.backend) }
    }

    fn work(&mut self, op: KindOp) -> Result<u64> {
        let (keys, range) = (self.visit.all(), self.visit.next(self.slice));
        let Self { backend, state, .. } = self;
        let (reads, sets) = (op.reads(), op == KindOp::TimedUpdate);
        let mut found = 0;
        for key in &keys[range] {
            let mut scope = backend.at(key);
            let there = match state {
                State::Value(value) if reads => scope.state(*value).get()?.is_some(),
                State::Value(value) if sets => scope.state(*value).put(*key).map(|()| true)?,
                State::Value(value) => {
                    scope.state(*value).update_or_default(|n| add(n, *key)).map(|()| true)?
                }
                State::Reducing(reducing) if reads => scope.state(*reducing).get()?.is_some(),
                State::Reducing(reducing) => scope.state(*reducing).add(*key).map(|()| true)?,
                State::Aggregating(aggregating) if reads => scope.state(*aggregating).get()?.is_some(),
                State::Aggregating(aggregating) => scope.state(*aggregating).add(*key).map(|()| true)?,
                State::Timed(timed) if reads => scope.state(*timed).get()?.is_some(),
                State::Timed(timed) if sets => scope.state(*timed).put(*key).map(|()| true)?,
                State::Timed(timed) => {
                    scope.state(*timed).update_or_default(|n| add(n, *key)).map(|()| true)?
                }
            };
            found += u64::from(there);
        }
        Ok(found)
    }
}
