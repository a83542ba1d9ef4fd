//! Channels between tasks: bounded, one for each pair of subtasks, with a way back for used memory.
//!
//! A channel carries boxed batches and does not know their type, so its code is compiled once. The boxes come
//! back with the memory of their batches: a channel in use allocates nothing.

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_state_api::{Result, Timestamp};

use crate::barrier::Barrier;
use crate::batch::AnyBatch;
use crate::sync::{cancelled, lock};

/// An exchange between two vertices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EdgeId(pub(crate) u32);

/// What a channel carries.
pub(crate) enum Message {
    /// Records, and the watermark behind them.
    Batch { records: Option<Box<dyn AnyBatch>>, watermark: Option<Timestamp> },
    /// The barrier of a checkpoint.
    Barrier(Barrier),
    /// Only barriers follow.
    End,
}

/// The writing end of a channel for batches of type `P`.
pub(crate) struct ChannelWriter<P> {
    sender: Sender<Message>,
    recycled: Receiver<Box<dyn AnyBatch>>,
    carries: PhantomData<fn(P)>,
}

impl<P: AnyBatch + Default> ChannelWriter<P> {
    fn new(end: WriterEnd) -> Self {
        Self { sender: end.sender, recycled: end.recycled, carries: PhantomData }
    }

    /// Sends records, and the watermark behind them.
    pub(crate) fn send_batch(&self, records: Box<P>, watermark: Option<Timestamp>) -> Result<()> {
        self.send(Message::Batch { records: Some(records), watermark })
    }

    /// Sends a watermark behind the records before it.
    pub(crate) fn send_watermark(&self, watermark: Timestamp) -> Result<()> {
        self.send(Message::Batch { records: None, watermark: Some(watermark) })
    }

    /// Sends, waiting while the channel is full: this is how backpressure reaches the source.
    pub(crate) fn send(&self, message: Message) -> Result<()> {
        send(&self.sender, message)
    }

    /// Returns an empty batch, with memory that was used before if some has come back.
    pub(crate) fn empty_batch(&self) -> Box<P> {
        let recycled = self.recycled.try_recv().ok().map(|batch| batch as Box<dyn Any>);
        recycled.and_then(|batch| batch.downcast().ok()).unwrap_or_default()
    }
}

fn send(sender: &Sender<Message>, message: Message) -> Result<()> {
    sender.send(message).map_err(|_| cancelled())
}

/// The reading end of a channel.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    pub(crate) receiver: Receiver<Message>,
    recycle: Sender<Box<dyn AnyBatch>>,
}

impl ChannelReader {
    /// Returns the memory of a batch to its writer; the batch must be empty.
    pub(crate) fn recycle(&self, batch: Box<dyn AnyBatch>) {
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

/// The writing end before its type is known.
#[derive(Debug)]
struct WriterEnd {
    sender: Sender<Message>,
    recycled: Receiver<Box<dyn AnyBatch>>,
}

/// The ends of one edge that no task has taken yet, by subtask.
#[derive(Debug)]
struct Edge {
    writers: Vec<Vec<WriterEnd>>,
    readers: Vec<Vec<ChannelReader>>,
}

impl Edge {
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
                    writers.push(WriterEnd { sender, recycled });
                    readers.push(ChannelReader { receiver, recycle });
                }
            }
        }
        edge
    }
}

/// All channels of an attempt. Each task takes its ends when it opens.
#[derive(Debug)]
pub(crate) struct Wiring {
    parallelism: usize,
    capacity: usize,
    /// `None` once the attempt is over.
    edges: Mutex<Option<HashMap<EdgeId, Edge>>>,
}

impl Wiring {
    pub(crate) fn new(parallelism: u32, capacity: usize) -> Self {
        Self { parallelism: parallelism as usize, capacity, edges: Mutex::new(Some(HashMap::new())) }
    }

    /// Takes the writing ends of `subtask`, in the order of the target subtasks.
    pub(crate) fn writers<P: AnyBatch + Default>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        subtask: u32,
    ) -> Result<Vec<ChannelWriter<P>>> {
        let ends =
            self.take(edge, pattern, |edge| edge.writers.get_mut(subtask as usize).map(std::mem::take))?;
        Ok(ends.into_iter().map(ChannelWriter::new).collect())
    }

    /// Takes the reading ends of `subtask`, in the order of the subtasks of origin.
    pub(crate) fn readers(&self, edge: EdgeId, pattern: Pattern, subtask: u32) -> Result<Vec<ChannelReader>> {
        self.take(edge, pattern, |edge| edge.readers.get_mut(subtask as usize).map(std::mem::take))
    }

    fn take<R>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        take: impl FnOnce(&mut Edge) -> Option<R>,
    ) -> Result<R> {
        let mut edges = lock(&self.edges);
        let edges = edges.as_mut().ok_or_else(cancelled)?;
        let edge = edges.entry(edge).or_insert_with(|| Edge::new(self.parallelism, self.capacity, pattern));
        take(edge).ok_or_else(cancelled)
    }

    /// Drops the ends that no task took, so that no task waits for one that never opened.
    pub(crate) fn close(&self) {
        *lock(&self.edges) = None;
    }
}
