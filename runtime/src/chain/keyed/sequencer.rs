//! The half of a keyed operator's node that does not depend on types: the order of records, timers,
//! watermarks, barriers and snapshots.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use strandline_checkpoint_storage::OperatorTypes;
use strandline_state_api::backend::BackendScope;
use strandline_state_api::host::{OperatorStateStore, Steps};
use strandline_state_api::{AbortNotice, CheckpointId, Error, ErrorKind, Result, Timestamp};

use super::snapshots::{AnyWriter, SnapshotBackend, Snapshots};
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Signal, Stage, Work};
use crate::live::LiveState;
use crate::look_up::{Found, LookUp};
use crate::metrics::{Metrics, Tally, set};
use crate::passing::PassingBarrier;
use crate::sync::cancelled;

/// How many timers fire before results leave and a snapshot moves on.
pub(super) const TIMERS: usize = 256;
/// How many entries a snapshot moves on after a batch.
const SNAPSHOT_STEP: usize = 2048;

/// A subtask of a keyed operator without its types.
pub(super) trait Subtask {
    /// Fires at most [`TIMERS`] event timers up to `watermark`, and passes the results on.
    fn fire_event_timers(&mut self, watermark: Timestamp) -> Result<Steps>;

    /// Fires at most [`TIMERS`] processing timers up to `now`, and passes the results on.
    fn fire_processing_timers(&mut self, now: Timestamp) -> Result<Steps>;

    /// Ends the input of the operator, and passes the last results on.
    fn end(&mut self) -> Result<()>;

    /// Passes on that a checkpoint is complete.
    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()>;

    /// Passes on that a checkpoint will never be complete.
    fn checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()>;

    /// The time of the earliest processing timer.
    fn next_processing_timer(&mut self) -> Result<Option<Timestamp>>;

    /// The current watermark.
    fn watermark(&self) -> Option<Timestamp>;

    /// The time that the output has reached.
    fn output_watermark(&self) -> Option<Timestamp>;

    /// How many records the operator has counted as too late since the last call.
    fn take_too_late(&mut self) -> u64;

    /// The operator state.
    fn operator_state(&self) -> &OperatorStateStore;

    /// The backend, for snapshots.
    fn backend(&mut self) -> &mut dyn SnapshotBackend;

    /// What lies behind the operator.
    fn next(&mut self) -> &mut dyn Stage;
}

/// Decides the order in which things happen to one subtask.
pub(super) struct Sequencer {
    scope: BackendScope,
    snapshots: Snapshots,
    /// A watermark whose timers have not all fired. It is passed on when they have; until then only barriers
    /// may pass.
    firing: Option<Timestamp>,
    /// The watermark that was passed on last: less than that of the input while the operator holds it back.
    passed: Option<Timestamp>,
    /// The input is idle, and what follows must not see it before a watermark that the operator holds back.
    idle: bool,
    /// The input has ended and the operator has seen it, here or before the restored checkpoint.
    ended: bool,
    attempt: Arc<Attempt>,
    entries: Arc<AtomicU64>,
    late: Tally,
    too_late: Tally,
    /// The types of its state.
    types: Arc<OperatorTypes>,
    /// Set where this operator counts how much is done.
    done: Option<Arc<Metrics>>,
}

impl Sequencer {
    /// Starts where the restored checkpoint left off. Without a writer no snapshots are taken.
    pub(super) fn start(
        assembly: &Assembly,
        scope: BackendScope,
        first: bool,
        writer: Option<Arc<dyn AnyWriter>>,
        types: OperatorTypes,
    ) -> Result<Self> {
        let (types, restored) = (Arc::new(types), assembly.restored_here(&scope.operator));
        let ended = restored.is_some_and(|restored| restored.finished);
        // A barrier may have come between timers that were due.
        let firing = restored.and_then(|restored| restored.watermark).filter(|_| !ended);
        let attempt = Arc::clone(&assembly.attempt);
        let snapshots = Snapshots::start(&attempt, &scope, writer)?;
        let entries = attempt.metrics.entries(&scope.operator, scope.subtask);
        let late = attempt.metrics.late(&scope.operator);
        let too_late = attempt.metrics.too_late(&scope.operator);
        let done = first.then(|| Arc::clone(&attempt.metrics));
        let (passed, idle) = (None, false);
        Ok(Self {
            scope,
            snapshots,
            firing,
            passed,
            idle,
            ended,
            attempt,
            entries,
            late,
            too_late,
            types,
            done,
        })
    }

    pub(super) fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.scope.locate(error))
    }

    /// Counts late records and sets the processing time, before the records of a batch. `timestamps` has the event
    /// times of all its records, or is empty if none has one.
    ///
    /// # Errors
    /// `Internal` for records behind the end of the input: to drop them would lose them without a trace.
    pub(super) fn before_batch(
        &mut self,
        subtask: &mut dyn Subtask,
        timestamps: &[Option<Timestamp>],
    ) -> Result<()> {
        if self.ended {
            return self.locate(Err(ended_before()));
        }
        let watermark = subtask.watermark();
        if watermark.is_some() {
            let late = |time: &&Option<Timestamp>| time.is_some() && **time <= watermark;
            match timestamps.iter().filter(late).count() {
                0 => {}
                records => self.late.add(records),
            }
        }
        self.processing_time(subtask, self.attempt.config.clock.now())
    }

    /// Counts what is done and moves snapshots on, behind the records of a batch.
    pub(super) fn after_batch(&mut self, subtask: &mut dyn Subtask, records: usize) -> Result<()> {
        if let Some(metrics) = &self.done {
            metrics.done(records);
        }
        match subtask.take_too_late() {
            0 => {}
            records => self.too_late.add(records as usize),
        }
        self.after_broadcast(subtask)
    }

    /// As [`after_batch`](Self::after_batch), for records that do not count as done.
    pub(super) fn after_broadcast(&mut self, subtask: &mut dyn Subtask) -> Result<()> {
        self.count_entries(subtask);
        self.pass_time(subtask)?;
        self.snapshot_step(subtask).map(drop)
    }

    /// Passes on the time that the output has reached.
    fn pass_time(&mut self, subtask: &mut dyn Subtask) -> Result<()> {
        if self.firing.is_some() || self.ended {
            return Ok(());
        }
        let reached = subtask.output_watermark();
        if let Some(watermark) = reached.filter(|_| self.passed < reached) {
            self.passed = reached;
            subtask.next().signal(&mut Signal::Watermark(watermark))?;
        }
        if self.idle && reached == subtask.watermark() {
            self.idle = false;
            subtask.next().signal(&mut Signal::Idle)?;
        }
        Ok(())
    }

    fn count_entries(&self, subtask: &mut dyn Subtask) {
        set(&self.entries, subtask.backend().entry_count());
    }

    /// Fires some timers of the current watermark, and passes the watermark on after the last; returns
    /// whether it did.
    fn fire_some(&mut self, subtask: &mut dyn Subtask) -> Result<bool> {
        let Some(watermark) = self.firing else { return Ok(true) };
        let steps = subtask.fire_event_timers(watermark);
        if self.locate(steps)? == Steps::More {
            return Ok(false);
        }
        self.firing = None;
        self.pass_time(subtask)?;
        Ok(true)
    }

    /// Fires all of them: before anything that comes behind the watermark.
    fn fire_all(&mut self, subtask: &mut dyn Subtask) -> Result<()> {
        while !self.fire_some(subtask)? {
            self.between_steps(subtask)?;
        }
        Ok(())
    }

    /// Gives up if the job does, and moves snapshots on.
    fn between_steps(&mut self, subtask: &mut dyn Subtask) -> Result<()> {
        if self.attempt.is_cancelled() {
            return Err(cancelled());
        }
        self.snapshot_step(subtask).map(drop)
    }

    /// Sets the processing time, and fires the timers that are due.
    pub(super) fn processing_time(&mut self, subtask: &mut dyn Subtask, now: Timestamp) -> Result<()> {
        self.fire_all(subtask)?;
        loop {
            let steps = subtask.fire_processing_timers(now);
            if self.locate(steps)? == Steps::Done {
                return self.pass_time(subtask);
            }
            self.between_steps(subtask)?;
        }
    }

    fn snapshot_step(&mut self, subtask: &mut dyn Subtask) -> Result<bool> {
        let more = self.snapshots.step(subtask.backend(), SNAPSHOT_STEP);
        self.locate(more)
    }

    fn barrier(&mut self, subtask: &mut dyn Subtask, passing: &mut PassingBarrier) {
        let start = self.attempt.threads.now();
        let mut snapshot = passing.snapshot(self.scope.subtask, self.scope.key_groups);
        snapshot.watermark = subtask.watermark();
        snapshot.finished = self.ended;
        snapshot.types = Arc::clone(&self.types);
        passing.cut(&self.late);
        passing.cut(&self.too_late);
        match subtask.operator_state().snapshot() {
            Ok(entries) => snapshot.operator_state = entries,
            Err(error) => passing.fail(self.scope.locate(error)),
        }
        self.snapshots.prepare(subtask.backend(), passing, &self.scope.operator, snapshot, start);
    }

    pub(super) fn signal(&mut self, subtask: &mut dyn Subtask, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            // An operator that ended before the restored checkpoint has seen everything.
            Signal::Watermark(_) | Signal::ProcessingTime(_) if self.ended => {}
            Signal::Watermark(watermark) => {
                self.fire_all(subtask)?;
                // It is passed on when its timers have fired, in steps: a barrier may come next.
                self.idle = false;
                self.firing = Some(*watermark);
                return self.fire_some(subtask).map(drop);
            }
            // The watermark before it goes first.
            Signal::Idle if !self.ended => {
                self.fire_all(subtask)?;
                self.idle = true;
                return self.pass_time(subtask);
            }
            Signal::ProcessingTime(now) => self.processing_time(subtask, *now)?,
            Signal::End if !self.ended => {
                self.fire_all(subtask)?;
                let ended = subtask.end();
                self.locate(ended)?;
                self.pass_time(subtask)?;
                self.ended = true;
            }
            Signal::Barrier(passing) => self.barrier(subtask, passing),
            Signal::Aborted(aborted) => {
                self.snapshots.abort(aborted.checkpoint)?;
                let heard = subtask.checkpoint_aborted(aborted);
                self.locate(heard)?;
            }
            Signal::LookUp(look_up) if look_up.is_at(&self.scope) => {
                look_up.answer(self.look_up(subtask, look_up));
            }
            Signal::LookUp(_) => {}
            Signal::DropLive(checkpoint) => self.snapshots.abort(*checkpoint)?,
            Signal::Complete(checkpoint) => {
                let heard = subtask.checkpoint_complete(*checkpoint);
                self.locate(heard)?;
            }
            Signal::Advance(more) => **more |= self.snapshot_step(subtask)?,
            Signal::Close(_) => self.count_entries(subtask),
            Signal::Idle | Signal::End => {}
        }
        subtask.next().signal(signal)
    }

    fn look_up(&self, subtask: &mut dyn Subtask, look_up: &LookUp) -> Result<LiveState> {
        let backend = subtask.backend();
        let meta = backend.meta_of(look_up.state());
        let meta = meta.ok_or_else(|| Error::new(ErrorKind::NotFound, "the operator has no such state"));
        let meta = meta.map_err(|error| self.scope.locate(error.with("state", look_up.state())))?;
        let mut found = Found::default();
        backend.look_up_encoded(look_up.state(), look_up.key(), &mut |entry| {
            found.add(&entry);
            Ok(())
        })?;
        look_up.state_of(&self.scope, meta, &found, &self.types)
    }

    pub(super) fn work(&mut self, subtask: &mut dyn Subtask) -> Result<Work> {
        let more = !self.fire_some(subtask)? | self.snapshot_step(subtask)?;
        let wake_at = subtask.next_processing_timer();
        let wake_at = self.locate(wake_at)?;
        Ok(Work { more, wake_at }.and(subtask.next().work()?))
    }
}

fn ended_before() -> Error {
    Error::new(ErrorKind::Internal, "records came to an operator whose input had ended")
}
