//! Timers: registered in no order, fired in order of time; beside a plain ordered set of (time, key).

use std::collections::BTreeSet;
use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, Timers as _};
use strandline_state_api::{KeyedBackend, Result, StateHandle, TimerDescriptor, TimerService, Timestamp};

use crate::compare::Subject;
use crate::keys::slice_of;
use crate::snapshots::open;

/// An access to timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimerOp {
    /// Registers a timer for each key, at a time that does not follow from the order of the keys.
    Register,
    /// Removes the earliest timers.
    Fire,
}

impl TimerOp {
    /// Both. What one slice registers, one of the other fires, so the number of timers stays about the same.
    pub const ALL: [Self; 2] = [Self::Register, Self::Fire];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "timerRegister",
            Self::Fire => "timerFire",
        }
    }
}

/// The next timers, the same on both sides.
#[derive(Debug)]
struct Plan {
    keys: Arc<[u64]>,
    next: usize,
    slice: usize,
    /// Timers that are set.
    set: usize,
}

impl Plan {
    fn new(keys: &Arc<[u64]>) -> Self {
        Self { keys: Arc::clone(keys), next: 0, slice: slice_of(keys.len()), set: 0 }
    }

    /// Returns the key and the time of the next timer. The times of a round are behind those of the round
    /// before.
    fn next(&mut self) -> (u64, i64) {
        let key = self.keys[self.next % self.keys.len()];
        let round = (self.next / self.keys.len()) as i64;
        self.next += 1;
        self.set += 1;
        (key, (round << 40) + (key >> 25) as i64)
    }

    /// Returns how many timers a slice of `op` starts with.
    fn wanted(&self, op: TimerOp) -> usize {
        match op {
            TimerOp::Register => self.keys.len() - self.slice,
            TimerOp::Fire => self.keys.len(),
        }
    }
}

/// The workload on a backend that `F` makes.
#[derive(Debug)]
pub struct Timers<F: BackendFactory> {
    backend: F::Backend<u64>,
    service: TimerService,
    plan: Plan,
}

impl<F: BackendFactory> Timers<F> {
    /// An empty backend; the first operation fills it with a timer for each of `keys`.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: &F, keys: &Arc<[u64]>) -> Result<Self> {
        let (backend, service) = open(factory, &TimerDescriptor::event_time("timers"))?;
        Ok(Self { backend, service, plan: Plan::new(keys) })
    }

    fn register(&mut self) -> Result<u64> {
        let (key, time) = self.plan.next();
        self.backend.at(&key).state(self.service).register(time).map(u64::from)
    }

    fn fire(&mut self) -> Result<u64> {
        self.plan.set -= 1;
        let fired = self.backend.timers::<()>(self.service.state_id())?.pop(Timestamp::MAX)?;
        Ok(fired.map_or(0, |timer| timer.time.as_millis() as u64))
    }
}

impl<F: BackendFactory> Subject<TimerOp> for Timers<F> {
    fn slice(&self, _op: TimerOp) -> usize {
        self.plan.slice
    }

    fn ready(&mut self, op: TimerOp) -> Result<()> {
        while self.plan.set < self.plan.wanted(op) {
            self.register()?;
        }
        while self.plan.set > self.plan.wanted(op) {
            self.fire()?;
        }
        Ok(())
    }

    fn work(&mut self, op: TimerOp) -> Result<u64> {
        let mut sum = 0u64;
        for _ in 0..self.plan.slice {
            let done = match op {
                TimerOp::Register => self.register()?,
                TimerOp::Fire => self.fire()?,
            };
            sum = sum.wrapping_add(done);
        }
        Ok(sum)
    }
}

/// The plain set.
#[derive(Debug)]
pub struct PlainTimers {
    set: BTreeSet<(i64, u64)>,
    plan: Plan,
}

impl PlainTimers {
    /// An empty set; the first operation fills it with a timer for each of `keys`.
    pub fn new(keys: &Arc<[u64]>) -> Self {
        Self { set: BTreeSet::new(), plan: Plan::new(keys) }
    }

    fn register(&mut self) -> u64 {
        let (key, time) = self.plan.next();
        u64::from(self.set.insert((time, key)))
    }

    fn fire(&mut self) -> u64 {
        self.plan.set -= 1;
        self.set.pop_first().map_or(0, |(time, _)| time as u64)
    }
}

impl Subject<TimerOp> for PlainTimers {
    fn slice(&self, _op: TimerOp) -> usize {
        self.plan.slice
    }

    fn ready(&mut self, op: TimerOp) -> Result<()> {
        while self.plan.set < self.plan.wanted(op) {
            self.register();
        }
        while self.plan.set > self.plan.wanted(op) {
            self.fire();
        }
        Ok(())
    }

    fn work(&mut self, op: TimerOp) -> Result<u64> {
        let mut sum = 0u64;
        for _ in 0..self.plan.slice {
            let done = match op {
                TimerOp::Register => self.register(),
                TimerOp::Fire => self.fire(),
            };
            sum = sum.wrapping_add(done);
        }
        Ok(sum)
    }
}
