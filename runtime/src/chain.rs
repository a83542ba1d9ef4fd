//! What one thread runs: steps that hand whole batches to each other by a virtual call a batch, never one a
//! record.

pub(crate) mod assembly;
pub(crate) mod exchange;
pub(crate) mod flat_map;
pub(crate) mod keyed;
pub(crate) mod replay;
pub(crate) mod sink;
pub(crate) mod slot;
pub(crate) mod stateless;
pub(crate) mod time;

use strandline_state_api::{AbortNotice, Batch, CheckpointId, Result, Timestamp};

use crate::batch::{AnyBatch, Side, downcast};
use crate::look_up::LookUp;
use crate::passing::PassingBarrier;
use crate::summary::TaskSummary;

/// A step of a chain, whatever its records are, and behind it all steps that follow.
pub(crate) trait Stage: Send {
    /// Takes something that stands between two batches, and passes it on behind everything that came before.
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()>;

    /// Lets half-filled batches leave, and does a bounded piece of the work that waits beside records.
    fn work(&mut self) -> Result<Work>;
}

/// A [`Stage`] for batches of type `P`.
pub(crate) trait Node<P>: Stage {
    /// Takes a batch and leaves it empty. What results is passed on, at the latest with the next signal or
    /// flush.
    fn collect(&mut self, batch: &mut P) -> Result<()>;
}

/// A [`Node`] for records without keys.
pub(crate) type Collector<T> = Box<dyn Node<Batch<T>>>;

/// A [`Stage`] that a task feeds, for batches whose type the task does not know.
pub(crate) trait Inlet: Stage {
    /// Takes a batch of one side and leaves it empty.
    fn collect_any(&mut self, side: Side, batch: &mut dyn AnyBatch) -> Result<()>;
}

/// A [`Node`] as an [`Inlet`] with one side.
pub(crate) struct SingleInlet<P>(pub(crate) Box<dyn Node<P>>);

impl<P> Stage for SingleInlet<P> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.0.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.0.work()
    }
}

impl<P: AnyBatch> Inlet for SingleInlet<P> {
    fn collect_any(&mut self, _: Side, batch: &mut dyn AnyBatch) -> Result<()> {
        self.0.collect(downcast(batch)?)
    }
}

/// What stands between two batches.
#[derive(Debug)]
pub(crate) enum Signal<'a> {
    /// No record at or before this time is expected any more.
    Watermark(Timestamp),
    /// Time does not wait for the stream until its next watermark.
    Idle,
    /// The processing time.
    ProcessingTime(Timestamp),
    /// The barrier of a checkpoint.
    Barrier(&'a mut PassingBarrier),
    /// Nothing follows but barriers.
    End,
    /// The checkpoint is complete. Not passed on over channels: the coordinator sends it to every task.
    Complete(CheckpointId),
    /// The checkpoint will never be complete. Not passed on over channels: the coordinator sends it to every
    /// task.
    Aborted(&'a AbortNotice),
    /// Nobody waits for this barrier any more, which belongs to no checkpoint. Not passed on over channels: the
    /// coordinator sends it to every task.
    DropLive(CheckpointId),
    /// Somebody looks up a key. Not passed on over channels: the coordinator sends it to every task.
    LookUp(&'a LookUp),
    /// Moves snapshots that are under way on; set to true where there is more to do. Waits for nothing. Not
    /// passed on over channels.
    Advance(&'a mut bool),
    /// The job is over: sinks add their summaries. Not passed on over channels.
    Close(&'a mut TaskSummary),
}

/// What a chain still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Call again as soon as there is time.
    pub(crate) more: bool,
    /// The earliest processing timer.
    pub(crate) wake_at: Option<Timestamp>,
}

impl Work {
    /// What two branches have to do.
    pub(crate) fn and(self, other: Self) -> Self {
        let wake_at = match (self.wake_at, other.wake_at) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
        Self { more: self.more || other.more, wake_at }
    }
}
