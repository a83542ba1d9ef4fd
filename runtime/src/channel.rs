//! Channels between tasks: bounded, one for each pair of subtasks, with a way back for used memory.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_state_api::{CheckpointId, Result, SnapshotKind};

use crate::sync::{cancelled, lock};

/// What flows between the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) kind: SnapshotKind,
    /// Sources read nothing behind it.
    pub(crate) stop: bool,
    /// When it was injected.
    pub(crate) triggered: Instant,
}

/// An exchange between two vertices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EdgeId(pub(crate) u32);

/// What a channel carries.
#[derive(Debug)]
pub(crate) enum Message<P> {
    /// Records, which may be none, and the watermark behind them.
    Batch { records: P, watermark: Option<i64> },
    /// The barrier of a checkpoint.
    Barrier(Barrier),
    /// Only barriers follow.
    End,
}

impl<P> Message<P> {
    /// The same with other records.
    pub(crate) fn map<Q>(self, f: impl FnOnce(P) -> Q) -> Message<Q> {
        match self {
            Self::Batch { records, watermark } => Message::Batch { records: f(records), watermark },
            Self::Barrier(barrier) => Message::Barrier(barrier),
            Self::End => Message::End,
        }
    }
}

/// The writing end of a channel.
#[derive(Debug)]
pub(crate) struct ChannelWriter<P> {
    sender: Sender<Message<P>>,
    recycled: Receiver<P>,
}

impl<P> ChannelWriter<P> {
    /// Sends, waiting while the channel is full: this is how backpressure reaches the source.
    pub(crate) fn send(&self, message: Message<P>) -> Result<()> {
        self.sender.send(message).map_err(|_| cancelled())
    }

    /// An empty batch whose memory was used before, if one has come back.
    pub(crate) fn recycled(&self) -> Option<P> {
        self.recycled.try_recv().ok()
    }
}

/// The reading end of a channel.
#[derive(Debug)]
pub(crate) struct ChannelReader<P> {
    pub(crate) receiver: Receiver<Message<P>>,
    recycle: Sender<P>,
}

impl<P> ChannelReader<P> {
    /// Gives the memory of a batch back to its writer; the batch must be empty.
    pub(crate) fn recycle(&self, batch: P) {
        // Where the way back is full, or the writer gone, the memory is simply freed.
        let _ = self.recycle.try_send(batch);
    }
}

/// Which subtasks of two vertices are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Each with each.
    AllToAll,
    /// Each with that of the same number.
    OneToOne,
}

/// The ends of one edge that nobody has taken yet, by subtask.
struct Edge<P> {
    writers: Vec<Vec<ChannelWriter<P>>>,
    readers: Vec<Vec<ChannelReader<P>>>,
}

impl<P> Edge<P> {
    fn new(parallelism: usize, capacity: usize, pattern: Pattern) -> Self {
        let mut edge = Self {
            writers: (0..parallelism).map(|_| Vec::new()).collect(),
            readers: (0..parallelism).map(|_| Vec::new()).collect(),
        };
        for (from, writers) in edge.writers.iter_mut().enumerate() {
            for (to, readers) in edge.readers.iter_mut().enumerate() {
                if pattern == Pattern::AllToAll || from == to {
                    let (sender, receiver) = bounded(capacity.max(1));
                    let (recycle, recycled) = bounded(capacity.max(1) + 2);
                    writers.push(ChannelWriter { sender, recycled });
                    readers.push(ChannelReader { receiver, recycle });
                }
            }
        }
        edge
    }
}

/// All channels of an attempt. Each task takes its ends when it opens.
pub(crate) struct Wiring {
    parallelism: usize,
    capacity: usize,
    /// `None` once the attempt is over.
    edges: Mutex<Option<HashMap<EdgeId, Box<dyn Any + Send>>>>,
}

impl Wiring {
    pub(crate) fn new(parallelism: u32, capacity: usize) -> Self {
        Self { parallelism: parallelism as usize, capacity, edges: Mutex::new(Some(HashMap::new())) }
    }

    /// The writing ends of `subtask`, by target.
    pub(crate) fn writers<P: Send + 'static>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        subtask: u32,
    ) -> Result<Vec<ChannelWriter<P>>> {
        self.take(edge, pattern, |edge| edge.writers.get_mut(subtask as usize).map(std::mem::take))
    }

    /// The reading ends of `subtask`, by origin.
    pub(crate) fn readers<P: Send + 'static>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        subtask: u32,
    ) -> Result<Vec<ChannelReader<P>>> {
        self.take(edge, pattern, |edge| edge.readers.get_mut(subtask as usize).map(std::mem::take))
    }

    fn take<P: Send + 'static, R>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        take: impl FnOnce(&mut Edge<P>) -> Option<R>,
    ) -> Result<R> {
        let mut edges = lock(&self.edges);
        let edges = edges.as_mut().ok_or_else(cancelled)?;
        let edge = edges
            .entry(edge)
            .or_insert_with(|| Box::new(Edge::<P>::new(self.parallelism, self.capacity, pattern)));
        edge.downcast_mut::<Edge<P>>().and_then(take).ok_or_else(cancelled)
    }

    /// Drops the ends that nobody took, so that no task waits for one that never opened.
    pub(crate) fn close(&self) {
        *lock(&self.edges) = None;
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").field("parallelism", &self.parallelism).finish_non_exhaustive()
    }
}
