//! A test harness for operators: records, watermarks and time go in, results come out, and state and timers can be looked at.
//!
//! [`Harness`] drives one operator on any backend, with as many subtasks as you like, in the calling thread and without a
//! clock: nothing happens but what a test says, so every run is the same. A record goes to the subtask that owns its key;
//! watermarks and processing time go to all. [`snapshot`](Harness::snapshot) and [`restore`](Harness::restore) go the way of a
//! real checkpoint, through the backend's files and to any parallelism, with operator state redistributed by the rules of the
//! runtime. (Flink: `KeyedOneInputStreamOperatorTestHarness`.)
//!
//! # Example
//! An operator that counts words, and says ten seconds after a word was first seen how often it came.
//!
//! ```
//! use strandline_backend_memory::MemoryBackendFactory;
//! use strandline_state_api::harness::Harness;
//! use strandline_state_api::*;
//!
//! struct Count {
//!     counts: ValueState<u64>,
//!     reports: TimerService,
//! }
//!
//! impl Count {
//!     fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
//!         Ok(Self {
//!             counts: ctx.value(&ValueDescriptor::new("counts"))?,
//!             reports: ctx.timers(&TimerDescriptor::event_time("reports"))?,
//!         })
//!     }
//! }
//!
//! impl<B: KeyedBackend<Key = String>> Operator<B> for Count {
//!     type In = ();
//!     type Out = (String, u64);
//!     type Namespace = ();
//!
//!     fn process(&mut self, _: (), ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
//!         let at = ctx.timestamp() + 10_000;
//!         let count = ctx.state().value(self.counts).modify(|| 0, |n| { *n += 1; *n })?;
//!         if count == 1 {
//!             ctx.state().timers(self.reports).register(at)?;
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_timer(&mut self, timer: &DueTimer<String, ()>, ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
//!         let count = ctx.state().value(self.counts).get()?.copied().unwrap_or(0);
//!         ctx.state().value(self.counts).clear()?;
//!         ctx.emit((timer.timer.key.clone(), count));
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let mut harness = Harness::new(MemoryBackendFactory::default(), "count", Count::open)?;
//! harness.process("ada", (), 1_000)?;
//! harness.process("bob", (), 2_000)?;
//! harness.process("ada", (), 3_000)?;
//!
//! // What does it hold, and what is it waiting for?
//! let count = harness.state("ada", |count, state| Ok(state.value(count.counts).get()?.copied()))?;
//! assert_eq!(count, Some(2));
//! let times: Vec<i64> = harness.timers(TimeDomain::Event)?.iter().map(|due| due.timer.time).collect();
//! assert_eq!(times, [11_000, 12_000]);
//!
//! // It must not matter that the job fails here, and goes on with three subtasks.
//! let snapshot = harness.snapshot(SnapshotKind::Incremental)?;
//! harness.process("ada", (), 4_000)?; // lost with the failure
//! harness.restore(&snapshot, 3)?;
//!
//! harness.watermark(11_500)?;
//! assert_eq!(harness.take_output(), [(("ada".to_owned(), 2), 11_000)]);
//! harness.end()?;
//! assert_eq!(harness.take_output(), [(("bob".to_owned(), 1), 12_000)]);
//! # Ok(())
//! # }
//! ```

mod snapshot;
mod wait;

use std::fmt;

use crate::format::MemorySegments;
use crate::{
    BackendFactory, CheckpointId, DueTimer, Error, KeyGroupRange, KeyScope, Keyed, KeyedBackend,
    KeyedProcess, Open, Operator, OperatorId, OperatorStateStore, Output, Result, SnapshotSource, StateKey,
    Steps, TimeDomain, subtask_of,
};

pub use snapshot::HarnessSnapshot;
pub use wait::block_on;

/// Drives one operator in a test; see the [module](self).
///
/// Its type parameters are the maker of backends, the key, the operator, and the function that opens it; all of them
/// follow from the arguments of [`new`](Self::new).
///
/// # Errors
/// Every method fails with what the operator and its backend fail with, with operator and subtask named. After an error the
/// harness is as a failed task: only [`restore`](Self::restore) it.
pub struct Harness<F, K, O, M>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
{
    factory: F,
    operator: OperatorId,
    open: M,
    subtasks: Vec<Subtask<F, K, O>>,
    output: Output<O::Out>,
    store: MemorySegments,
    /// The newest snapshot.
    last: CheckpointId,
    max_timers: usize,
    watermark: i64,
    processing_time: i64,
    ended: bool,
}

struct Subtask<F, K, O>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
{
    number: u32,
    key_groups: KeyGroupRange,
    process: KeyedProcess<O, F::Backend<K>, O::Namespace>,
    writer: <F::Backend<K> as SnapshotSource>::Writer,
}

impl<F, K, O, M> Harness<F, K, O, M>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
    M: Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O>,
{
    /// Opens the operator `operator` with one subtask.
    ///
    /// # Errors
    /// When `operator` is no [`OperatorId`], and what `factory` and `open` fail with.
    pub fn new(factory: F, operator: &str, open: M) -> Result<Self> {
        Self::with_parallelism(factory, operator, open, 1)
    }

    /// Opens it with `parallelism` subtasks.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Invalid`](crate::ErrorKind::Invalid) for a parallelism of 0.
    pub fn with_parallelism(factory: F, operator: &str, open: M, parallelism: u32) -> Result<Self> {
        let operator = OperatorId::new(operator)?;
        let start = HarnessSnapshot::start(operator.clone());
        let mut harness = Self {
            factory,
            operator,
            open,
            subtasks: Vec::new(),
            output: Output::new(),
            store: MemorySegments::new(),
            last: CheckpointId(0),
            max_timers: usize::MAX,
            watermark: i64::MIN,
            processing_time: i64::MIN,
            ended: false,
        };
        harness.restore(&start, parallelism)?;
        Ok(harness)
    }

    /// Bounds how many timers of each subtask one call of [`watermark`](Self::watermark) or
    /// [`processing_time`](Self::processing_time) fires (at least one), so that a snapshot can be taken in the middle of a
    /// large jump of time. Without a bound a call fires all that are due.
    pub fn max_timers(&mut self, max_timers: usize) {
        self.max_timers = max_timers.max(1);
    }

    /// Gives a record to the subtask that owns `key`. Use [`NO_TIMESTAMP`](crate::NO_TIMESTAMP) where it has no time.
    ///
    /// # Errors
    /// Those of [`Operator::process`]; [`Invalid`](crate::ErrorKind::Invalid) after the [end](Self::end).
    pub fn process(&mut self, key: impl Into<K>, record: O::In, timestamp: i64) -> Result<()> {
        if self.ended {
            return Err(Error::invalid("a record came after the end of the input: process it before `end`")
                .with("operator", &self.operator));
        }
        let key = key.into();
        let keyed = Keyed::new(&key);
        let i = self.owner(keyed)?;
        let worked = self.subtasks[i].process.process(keyed, record, timestamp, &mut self.output);
        worked.map_err(|error| self.located(error, self.subtasks[i].number))
    }

    /// Raises the watermark of all subtasks, and fires the event timers that are due.
    ///
    /// [`Steps::More`] comes only with a [bound](Self::max_timers): timers are left, call again with the same watermark.
    ///
    /// # Errors
    /// Those of [`KeyedProcess::advance_watermark`].
    pub fn watermark(&mut self, watermark: i64) -> Result<Steps> {
        self.watermark = self.watermark.max(watermark);
        self.each(|process, max_timers, output| process.advance_watermark(watermark, max_timers, output))
    }

    /// Tells all subtasks the processing time, and fires the processing timers that are due. Time does not go back.
    ///
    /// [`Steps::More`] as in [`watermark`](Self::watermark).
    ///
    /// # Errors
    /// Those of [`KeyedProcess::advance_processing_time`].
    pub fn processing_time(&mut self, now: i64) -> Result<Steps> {
        self.processing_time = self.processing_time.max(now);
        self.each(|process, max_timers, output| process.advance_processing_time(now, max_timers, output))
    }

    /// Ends the input as the runtime does: raises the watermark to the end of time, fires all event timers, then tells the
    /// operator. Pending processing timers do not fire.
    ///
    /// # Errors
    /// Those of [`watermark`](Self::watermark) and [`KeyedProcess::end`].
    pub fn end(&mut self) -> Result<()> {
        while self.watermark(i64::MAX)? == Steps::More {}
        self.each(|process, _, output| process.end(output).map(|()| Steps::Done))?;
        self.ended = true;
        Ok(())
    }

    /// Calls `work` on all subtasks; nothing reaches them after the end of the input.
    fn each(
        &mut self,
        mut work: impl FnMut(
            &mut KeyedProcess<O, F::Backend<K>, O::Namespace>,
            usize,
            &mut Output<O::Out>,
        ) -> Result<Steps>,
    ) -> Result<Steps> {
        let mut all = Steps::Done;
        for i in 0..if self.ended { 0 } else { self.subtasks.len() } {
            let worked = work(&mut self.subtasks[i].process, self.max_timers, &mut self.output);
            if worked.map_err(|error| self.located(error, self.subtasks[i].number))? == Steps::More {
                all = Steps::More;
            }
        }
        Ok(all)
    }

    /// Takes what was emitted since the last call: each record with its event time, in the order in which the subtasks
    /// emitted them. Where time fires timers in several subtasks, those of the first come first: sort before you compare
    /// runs of different parallelism.
    pub fn take_output(&mut self) -> Vec<(O::Out, i64)> {
        let Output { records, timestamps } = std::mem::take(&mut self.output);
        records.into_iter().zip(timestamps).collect()
    }

    /// Lets `look` see the operator, for its handles, and the state of `key`.
    ///
    /// Where the handles are not visible, register the state once more, which gives the same handle:
    /// `state.backend().register_value(&descriptor)`.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn state<R>(
        &mut self,
        key: impl Into<K>,
        look: impl FnOnce(&O, &mut KeyScope<'_, F::Backend<K>>) -> Result<R>,
    ) -> Result<R> {
        let key = key.into();
        let keyed = Keyed::new(&key);
        let i = self.owner(keyed)?;
        let found = self.subtasks[i].process.state(keyed, look);
        found.map_err(|error| self.located(error, self.subtasks[i].number))
    }

    /// Lets `look` see the operator and the operator state of one subtask.
    ///
    /// # Errors
    /// Those of `look`; [`Invalid`](crate::ErrorKind::Invalid) when there is no such subtask.
    pub fn operator_state<R>(
        &self,
        subtask: u32,
        look: impl FnOnce(&O, &OperatorStateStore) -> Result<R>,
    ) -> Result<R> {
        let Some(found) = self.subtasks.get(subtask as usize) else {
            let message =
                format!("there is no such subtask: the harness has {}, counted from 0", self.subtasks.len());
            return Err(self.located(Error::invalid(message), subtask));
        };
        look(found.process.operator(), found.process.operator_state())
            .map_err(|error| self.located(error, subtask))
    }

    /// All pending timers of a domain, of all subtasks, in the order of their times.
    ///
    /// # Errors
    /// Those of [`KeyedProcess::timers`].
    pub fn timers(&mut self, domain: TimeDomain) -> Result<Vec<DueTimer<K, O::Namespace>>> {
        let mut timers = Vec::new();
        for i in 0..self.subtasks.len() {
            let found = self.subtasks[i].process.timers(domain);
            timers.extend(found.map_err(|error| self.located(error, self.subtasks[i].number))?);
        }
        timers.sort_by_key(|due| due.timer.time);
        Ok(timers)
    }

    /// How many entries the backends hold, [as far as they know](KeyedBackend::entries).
    pub fn entries(&mut self) -> u64 {
        self.subtasks.iter_mut().map(|subtask| subtask.process.backend_mut().entries()).sum()
    }

    /// How many subtasks there are.
    pub fn parallelism(&self) -> u32 {
        self.subtasks.len() as u32
    }

    /// The index of the subtask that owns `key`.
    fn owner(&self, key: Keyed<'_, K>) -> Result<usize> {
        let subtask = subtask_of(key.group(), self.parallelism()) as usize;
        if subtask < self.subtasks.len() {
            return Ok(subtask);
        }
        Err(Error::invalid("there is no subtask, because a restore failed: restore again")
            .with("operator", &self.operator))
    }
}

impl<F, K, O, M> Harness<F, K, O, M>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
{
    fn located(&self, error: Error, subtask: u32) -> Error {
        error.with("operator", &self.operator).with("subtask", subtask)
    }
}

impl<F, K, O, M> fmt::Debug for Harness<F, K, O, M>
where
    F: BackendFactory,
    K: StateKey,
    O: Operator<F::Backend<K>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("operator", &self.operator)
            .field("backend", &self.factory.name())
            .field("parallelism", &self.subtasks.len())
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
