//! Reducing and aggregating state, and states with a time-to-live: what they cost more than a value state of the same backend.

use std::sync::Arc;
use std::time::Duration;

use strandline_state_api::{
    AggregateFunction, AggregatingDescriptor, AggregatingState, BackendFactory, BackendScope, Expiring,
    KeyScope, Keyed, KeyedBackend, ReducingDescriptor, ReducingState, Refresh, Result, Ttl, ValueDescriptor,
    ValueState,
};

use crate::compare::Subject;
use crate::keys::{Visit, slice_of};
use crate::snapshots::Cuts;

/// What is done. The other side does the same to a plain value state: reads it, sets it, or adds to it.
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
        Self::TimedGetRefreshed,
        Self::TimedUpdate,
        Self::TimedModify,
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

    fn reads(self) -> bool {
        matches!(self, Self::ReducingGet | Self::AggregatingGet | Self::TimedGet | Self::TimedGetRefreshed)
    }
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

type Add = fn(&mut u64, u64);

fn add(sum: &mut u64, n: u64) {
    *sum = sum.wrapping_add(n);
}

/// A backend with one state of each kind; every key is in all of them, on both sides, so that caches are as full.
#[derive(Debug)]
pub struct Kinds<F: BackendFactory> {
    backend: F::Backend<u64>,
    /// Whether all operations go to the plain value state.
    plain: bool,
    value: ValueState<u64>,
    reducing: ReducingState<u64, Add>,
    aggregating: AggregatingState<SumAndCount>,
    timed: ValueState<u64, (), Expiring>,
    refreshed: ValueState<u64, (), Expiring>,
    visit: Visit,
    slice: usize,
    cuts: Cuts,
}

impl<F: BackendFactory> Kinds<F> {
    /// A backend with `keys`.
    ///
    /// # Errors
    /// What the backend fails with.
    pub fn new(factory: &F, keys: &Arc<[u64]>, plain: bool) -> Result<Self> {
        let mut backend = factory.create::<u64>(BackendScope::whole("bench")?)?;
        let hour = Ttl::processing_time(Duration::from_secs(3600));
        let value = backend.register(&ValueDescriptor::new("value"))?;
        let reducing = backend.register(&ReducingDescriptor::new("reducing", add as Add))?;
        let aggregating = backend.register(&AggregatingDescriptor::new("aggregating", SumAndCount))?;
        let timed = backend.register(&ValueDescriptor::new("timed").time_to_live(hour))?;
        let refreshing = hour.refresh(Refresh::OnReadAndWrite);
        let refreshed = backend.register(&ValueDescriptor::new("refreshed").time_to_live(refreshing))?;
        backend.clock().processing_time = 1;
        for key in keys.iter() {
            let mut scope = KeyScope::new(&mut backend, Keyed::new(key));
            scope.value(value).put(0)?;
            scope.reducing(&reducing).add(0)?;
            scope.aggregating(&aggregating).add(0)?;
            scope.value(timed).put(0)?;
            scope.value(refreshed).put(0)?;
        }
        let (visit, slice, cuts) = (Visit::new(Arc::clone(keys)), slice_of(keys.len()), Cuts::default());
        Ok(Self { backend, plain, value, reducing, aggregating, timed, refreshed, visit, slice, cuts })
    }
}

impl<F: BackendFactory> Subject<KindOp> for Kinds<F> {
    fn slice(&self, _op: KindOp) -> usize {
        self.slice
    }

    fn ready(&mut self, op: KindOp) -> Result<()> {
        self.backend.clock().processing_time += 1;
        if op.reads() { Ok(()) } else { self.cuts.clean(&mut self.backend) }
    }

    fn work(&mut self, op: KindOp) -> Result<u64> {
        let (keys, range) = (self.visit.all(), self.visit.next(self.slice));
        let Self { backend, plain, value, reducing, aggregating, timed, refreshed, .. } = self;
        let mut sum = 0u64;
        for key in &keys[range] {
            let mut scope = KeyScope::new(backend, Keyed::new(key));
            match op {
                _ if *plain && op.reads() => {
                    sum = sum.wrapping_add(scope.value(*value).get()?.map_or(0, |_| 1));
                }
                KindOp::TimedUpdate if *plain => scope.value(*value).put(*key)?,
                _ if *plain => scope.value(*value).modify(|| 0, |n| *n = n.wrapping_add(*key))?,
                KindOp::ReducingAdd => scope.reducing(reducing).add(*key)?,
                KindOp::ReducingGet => sum += u64::from(scope.reducing(reducing).get()?.is_some()),
                KindOp::AggregatingAdd => scope.aggregating(aggregating).add(*key)?,
                KindOp::AggregatingGet => sum += u64::from(scope.aggregating(aggregating).get()?.is_some()),
                KindOp::TimedGet => sum += u64::from(scope.value(*timed).get()?.is_some()),
                KindOp::TimedGetRefreshed => sum += u64::from(scope.value(*refreshed).get()?.is_some()),
                KindOp::TimedUpdate => scope.value(*timed).put(*key)?,
                KindOp::TimedModify => scope.value(*timed).modify(|| 0, |n| *n = n.wrapping_add(*key))?,
            }
        }
        Ok(sum)
    }
}
