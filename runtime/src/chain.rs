//! What one thread runs: steps that hand whole batches to each other by a virtual call a batch, never one a record.

pub(crate) mod assembly;
pub(crate) mod exchange;
pub(crate) mod keyed;
pub(crate) mod sink;
pub(crate) mod slot;
pub(crate) mod stateless;
pub(crate) mod time;

use strandline_state_api::{CheckpointId, Output, Result};

use crate::cut::Cut;
use crate::mailbox::Closing;

/// A step of a chain, and behind it all that follow.
pub(crate) trait Node<P>: Send {
    /// Takes a batch and leaves it empty. What results is passed on, at the latest with the next signal or flush.
    fn collect(&mut self, batch: &mut P) -> Result<()>;

    /// Takes something that stands between two batches, and passes it on behind everything that came before.
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()>;

    /// Lets half-filled batches leave, and does a bounded piece of what is left to do beside records.
    fn work(&mut self) -> Result<Work>;
}

/// A [`Node`] for records without keys.
pub(crate) type Collector<T> = Box<dyn Node<Output<T>>>;

/// What stands between two batches.
#[derive(Debug)]
pub(crate) enum Signal<'a> {
    /// No record at or before this time is expected any more.
    Watermark(i64),
    /// Time has passed: milliseconds since the epoch.
    ProcessingTime(i64),
    /// The barrier of a checkpoint.
    Barrier(&'a mut Cut),
    /// Nothing follows but barriers.
    End,
    /// The checkpoint is complete. Not passed on over channels: the coordinator sends it to every task.
    Complete(CheckpointId),
    /// The job is over: hand in summaries. Not passed on over channels.
    Close(&'a mut Closing),
}

/// What a chain still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Call again as soon as there is time.
    pub(crate) more: bool,
    /// The earliest processing timer.
    pub(crate) wake_at: Option<i64>,
}

impl Work {
    /// What two branches have to do.
    pub(crate) fn and(self, other: Self) -> Self {
        let wake_at = match (self.wake_at, other.wake_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { more: self.more || other.more, wake_at }
    }
}
