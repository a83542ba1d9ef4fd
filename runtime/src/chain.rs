//! What one thread runs: steps that hand whole batches to each other by a virtual call a batch, never one a record.

mod assembly;
mod exchange;
mod keyed;
mod sink;
mod stateless;
mod time;

use strandline_state_api::{CheckpointId, Output, Result};

pub(crate) use assembly::{Assembly, Attempt, Builder, EdgeId, StoreAt, cancelled, is_cancelled};
pub(crate) use exchange::{BroadcastWriter, ExchangeWriter, ForwardWriter, KeyChain};
pub(crate) use keyed::{BroadcastNode, KeyedBatch, KeyedNode, micros};
pub(crate) use sink::{PENDING, SinkNode};
pub(crate) use stateless::{Discard, Stateless, Step, Tee};
pub(crate) use time::{ASSIGNERS, TimestampAssigner, decode_assigner, encode_assigner};

use crate::task::Cut;

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
    /// The checkpoint is complete. Not passed on over channels: every task is told by the coordinator.
    Complete(CheckpointId),
    /// The job is over: hand in summaries. Not passed on over channels.
    Close(&'a mut Closing),
}

/// What a task has to say when its job is over.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// By sink.
    pub(crate) summaries: Vec<(String, std::collections::BTreeMap<String, String>)>,
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
