#![doc = include_str!("../README.md")]

mod event_time;
mod rig;
mod snapshot;
mod subtask;
mod wait;

use std::fmt;

use strandline_snapshot_format::MemorySegments;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::host::{OperatorStateStore, Steps};
use strandline_state_api::{
    Batch, BroadcastOperator, CheckpointId, Error, KeyScope, Keyed, KeyedBackend, Open, Operator, OperatorId,
    Result, TimeDomain, Timer, Timestamp,
};

use subtask::{Process, Subtask};

pub use event_time::EventTime;
pub use rig::Rig;
pub use snapshot::HarnessSnapshot;
pub use wait::block_on;

/// Drives one operator in a test; see the [crate](self) for an example.
///
/// The type parameters are the factory of the backends, the operator, and the function that opens the
/// operator; all of them follow from the arguments of [`new`](Self::new).
///
/// # Errors
/// Every method fails with the errors of the operator and its backend, which then name operator and subtask.
/// After an error the harness is like a failed task: only [`restore`](Self::restore) makes it usable again.
pub struct Harness<F: BackendFactory, O: Operator, M> {
    factory: F,
    operator: OperatorId,
    open: M,
    subtasks: Vec<Subtask<F, O>>,
    output: Batch<O::Out>,
    store: MemorySegments,
    /// The checkpoint of the newest snapshot.
    last: CheckpointId,
    max_timers: usize,
    watermark: Option<Timestamp>,
    processing_time: Option<Timestamp>,
    ended: bool,
}

impl<F, O, M> Harness<F, O, M>
where
    F: BackendFactory,
    O: Operator,
    M: Fn(&mut Open<'_, F::Backend<O::Key>, O::Namespace>) -> Result<O>,
{
    /// Opens the operator `operator` with one subtask.
    ///
    /// # Errors
    /// Fails when `operator` is no [`OperatorId`], and with the errors of `factory` and `open`.
    pub fn new(factory: F, operator: &str, open: M) -> Result<Self> {
        Self::with_parallelism(factory, operator, open, 1)
    }

    /// Opens the operator `operator` with `parallelism` subtasks.
    ///
    /// # Errors
    /// Those of [`new`](Self::new); [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a parallelism
    /// of 0.
    pub fn with_parallelism(factory: F, operator: &str, open: M, parallelism: u32) -> Result<Self> {
        let operator = OperatorId::new(operator)?;
        let start = HarnessSnapshot::start(operator.clone());
        let mut harness = Self {
            factory,
            operator,
            open,
            subtasks: Vec::new(),
            output: Batch::new(),
            store: MemorySegments::new(),
            last: CheckpointId(0),
            max_timers: usize::MAX,
            watermark: None,
            processing_time: None,
            ended: false,
        };
        harness.restore(&start, parallelism)?;
        Ok(harness)
    }
}

impl<F: BackendFactory, O: Operator, M> Harness<F, O, M> {
    /// Bounds how many timers of each subtask one call of [`watermark`](Self::watermark) or
    /// [`processing_time`](Self::processing_time) fires (at least one), so that a test can take a snapshot in
    /// the middle of a large jump of time. Without a bound, a call fires all timers that are due.
    pub fn max_timers(&mut self, max_timers: usize) {
        self.max_timers = max_timers.max(1);
    }

    /// Processes a record in the subtask that owns `key`. `timestamp` is its event time: a number of
    /// milliseconds, a [`Timestamp`], or `None` for a record without one.
    ///
    /// # Errors
    /// Those of [`Operator::process`]; [`Invalid`](strandline_state_api::ErrorKind::Invalid) after the
    /// [end](Self::end).
    pub fn process(
        &mut self,
        key: impl Into<O::Key>,
        record: O::In,
        timestamp: impl EventTime,
    ) -> Result<()> {
        self.check_open()?;
        let key = key.into();
        let keyed = Keyed::new(&key);
        let timestamp = timestamp.event_time();
        self.owner(keyed)?.work(|process, output| process.process(keyed, record, timestamp, output))
    }

    /// Processes a record of the broadcast side in every subtask, in their order.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::process_broadcast`];
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) after the [end](Self::end).
    pub fn broadcast(&mut self, record: O::Broadcast, timestamp: impl EventTime) -> Result<()>
    where
        O: BroadcastOperator,
        O::Broadcast: Clone,
    {
        self.check_open()?;
        let timestamp = timestamp.event_time();
        for i in 0..self.subtasks.len() {
            let record = record.clone();
            self.at(i).work(|process, output| process.process_broadcast(record, timestamp, output))?;
        }
        Ok(())
    }

    /// Raises the watermark of all subtasks, and fires the event timers that are due.
    ///
    /// [`Steps::More`] occurs only with a [bound](Self::max_timers): timers are left, call again with the
    /// same watermark.
    ///
    /// # Errors
    /// Those of [`KeyedProcess::advance_watermark`](strandline_state_api::host::KeyedProcess).
    pub fn watermark(&mut self, watermark: impl Into<Timestamp>) -> Result<Steps> {
        let (watermark, max_timers) = (watermark.into(), self.max_timers);
        self.watermark = self.watermark.max(Some(watermark));
        self.each(|process, output| process.advance_watermark(watermark, max_timers, output))
    }

    /// Sets the processing time of all subtasks, which never decreases, and fires the processing timers that
    /// are due.
    ///
    /// [`Steps::More`] has the meaning that it has for [`watermark`](Self::watermark).
    ///
    /// # Errors
    /// Those of [`KeyedProcess::advance_processing_time`](strandline_state_api::host::KeyedProcess).
    pub fn processing_time(&mut self, now: impl Into<Timestamp>) -> Result<Steps> {
        let (now, max_timers) = (now.into(), self.max_timers);
        self.processing_time = self.processing_time.max(Some(now));
        self.each(|process, output| process.advance_processing_time(now, max_timers, output))
    }

    /// Ends the input as the runtime does: raises the watermark to the end of time, fires all event timers,
    /// then calls [`Operator::on_end`]. Pending processing timers do not fire.
    ///
    /// # Errors
    /// Those of [`watermark`](Self::watermark) and [`Operator::on_end`].
    pub fn end(&mut self) -> Result<()> {
        while self.watermark(Timestamp::MAX)? == Steps::More {}
        self.each(|process, output| process.end(output).map(|()| Steps::Done))?;
        self.ended = true;
        Ok(())
    }

    /// Removes and returns the records that were emitted since the last call, each with its event time, in
    /// the order in which the subtasks emitted them. Where time fires timers in several subtasks, those of
    /// the first come first: sort the records before you compare runs of different parallelism.
    pub fn take_output(&mut self) -> Batch<O::Out> {
        std::mem::take(&mut self.output)
    }

    /// Returns how many records the operator has counted as [too late](strandline_state_api::Context::count_too_late)
    /// since the last call.
    pub fn take_too_late(&mut self) -> u64 {
        self.subtasks.iter_mut().map(|subtask| subtask.process.take_too_late()).sum()
    }

    /// Calls `look` with the operator, for its handles, and the state of `key`.
    ///
    /// Where the handles are not visible, register the state once more, which returns the same handle:
    /// `state.backend().register(&descriptor)`.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn state<R>(
        &mut self,
        key: impl Into<O::Key>,
        look: impl FnOnce(&O, &mut KeyScope<'_, F::Backend<O::Key>>) -> Result<R>,
    ) -> Result<R> {
        let key = key.into();
        let keyed = Keyed::new(&key);
        self.owner(keyed)?.work(|process, _| process.state(keyed, look))
    }

    /// Calls `look` with the operator and the operator state of one subtask.
    ///
    /// # Errors
    /// Those of `look`; [`Invalid`](strandline_state_api::ErrorKind::Invalid) when there is no such subtask.
    pub fn operator_state<R>(
        &self,
        subtask: u32,
        look: impl FnOnce(&O, &OperatorStateStore) -> Result<R>,
    ) -> Result<R> {
        let Some(found) = self.subtasks.get(subtask as usize) else {
            let message = format!("the harness has {} subtasks, counted from 0", self.subtasks.len());
            return Err(Error::invalid(message).with("operator", &self.operator).with("subtask", subtask));
        };
        look(found.process.operator(), found.process.operator_state())
            .map_err(|error| found.located(error, &self.operator))
    }

    /// Returns all pending timers of a domain, of all subtasks, in the order of their times.
    ///
    /// # Errors
    /// Fails when the store of a backend fails.
    pub fn timers(&mut self, domain: TimeDomain) -> Result<Vec<Timer<O::Key, O::Namespace>>> {
        let mut timers = Vec::new();
        for i in 0..self.subtasks.len() {
            timers.extend(self.at(i).work(|process, _| process.timers(domain))?);
        }
        timers.sort_by_key(|timer| timer.time);
        Ok(timers)
    }

    /// Returns the time of the earliest pending processing timer of all subtasks: up to this time a host may
    /// sleep.
    ///
    /// # Errors
    /// Fails when the store of a backend fails.
    pub fn next_processing_timer(&mut self) -> Result<Option<Timestamp>> {
        let mut earliest: Option<Timestamp> = None;
        for i in 0..self.subtasks.len() {
            let next = self.at(i).work(|process, _| process.next_processing_timer())?;
            earliest = earliest.into_iter().chain(next).min();
        }
        Ok(earliest)
    }

    /// Counts the entries of all backends, [as far as these know them](KeyedBackend::entries).
    pub fn entries(&mut self) -> u64 {
        self.subtasks.iter_mut().map(|subtask| subtask.process.backend_mut().entries()).sum()
    }

    /// Returns the time that the output of all subtasks has reached (see [`Operator::output_watermark`]): the least of
    /// them, `None` while one has seen no watermark.
    pub fn output_watermark(&self) -> Option<Timestamp> {
        self.subtasks.iter().map(|subtask| subtask.process.output_watermark()).min().flatten()
    }

    /// Returns the number of subtasks.
    pub fn parallelism(&self) -> u32 {
        self.subtasks.len() as u32
    }

    /// Calls `work` with all subtasks; does nothing after the end of the input.
    fn each(
        &mut self,
        mut work: impl FnMut(&mut Process<F, O>, &mut Batch<O::Out>) -> Result<Steps>,
    ) -> Result<Steps> {
        let mut all = Steps::Done;
        for i in 0..if self.ended { 0 } else { self.subtasks.len() } {
            if self.at(i).work(&mut work)? == Steps::More {
                all = Steps::More;
            }
        }
        Ok(all)
    }

    fn check_open(&self) -> Result<()> {
        if self.ended {
            let message = "a record came after the end of the input: process it before `end`";
            return Err(Error::invalid(message).with("operator", &self.operator));
        }
        Ok(())
    }

    /// Returns the subtask that owns `key`.
    fn owner(&mut self, key: Keyed<'_, O::Key>) -> Result<Selected<'_, F, O>> {
        if self.subtasks.is_empty() {
            let message = "there is no subtask, because a restore failed: restore again";
            return Err(Error::invalid(message).with("operator", &self.operator));
        }
        Ok(self.at(key.group().subtask(self.parallelism()) as usize))
    }

    fn at(&mut self, index: usize) -> Selected<'_, F, O> {
        Selected { subtask: &mut self.subtasks[index], operator: &self.operator, output: &mut self.output }
    }
}

/// One subtask, and where its output goes.
struct Selected<'a, F: BackendFactory, O: Operator> {
    subtask: &'a mut Subtask<F, O>,
    operator: &'a OperatorId,
    output: &'a mut Batch<O::Out>,
}

impl<F: BackendFactory, O: Operator> Selected<'_, F, O> {
    /// Calls `work`, and adds operator and subtask to its error.
    fn work<R>(self, work: impl FnOnce(&mut Process<F, O>, &mut Batch<O::Out>) -> Result<R>) -> Result<R> {
        let Self { subtask, operator, output } = self;
        work(&mut subtask.process, output).map_err(|error| subtask.located(error, operator))
    }
}

impl<F: BackendFactory, O: Operator, M> fmt::Debug for Harness<F, O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("operator", &self.operator)
            .field("backend", &self.factory.name())
            .field("parallelism", &self.subtasks.len())
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
