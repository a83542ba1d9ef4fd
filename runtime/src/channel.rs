//! Channels between tasks: bounded, one for each pair of subtasks, with a way back for used memory.
//!
//! A channel carries boxed batches and does not know their type, so its code is compiled once. The boxes come
//! back with the memory of their batches: a channel in use allocates nothing.
//!
//! All channels into one subtask share one [inbox](inbox), and all that a subtask writes to share its used
//! memory: a wide job has as many of these as it has subtasks, and not the square of that.

mod inbox;
pub(crate) mod outbox;

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use strandline_state_api::{Result, Timestamp};

pub(crate) use self::inbox::InboxReader;
use self::inbox::{Inbox, Patience};
use self::outbox::Outbox;
use crate::barrier::Barrier;
use crate::batch::AnyBatch;
use crate::sync::{cancelled, lock};
use crate::threads::Threads;
use crate::urgency::Urgency;

/// An exchange between two vertices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EdgeId(pub(crate) u32);

/// What a channel carries.
pub(crate) enum Message {
    /// Records, and the watermark behind them.
    Batch { records: Option<Box<dyn AnyBatch>>, watermark: Option<Timestamp> },
    /// Time does not wait for the channel until its next watermark.
    Idle,
    /// The barrier of a checkpoint.
    Barrier(Barrier),
    /// Only barriers follow.
    End,
}

/// The writing end of a channel for batches of type `P`.
pub(crate) struct ChannelWriter<P> {
    to: To,
    carries: PhantomData<fn(P)>,
}

/// Where the messages of a channel go.
enum To {
    Inbox {
        edge: Arc<Edge>,
        /// The subtask that it writes to, and its number among the channels into that subtask.
        target: u32,
        channel: u32,
        /// The subtask that writes, and when it should not wait for room.
        source: u32,
        urgency: Arc<Urgency>,
    },
    /// A host takes them from there.
    Outbox { outbox: Outbox, edge: EdgeId, target: u32 },
}

impl<P: AnyBatch + Default> ChannelWriter<P> {
    /// Sends records, and the watermark behind them.
    pub(crate) fn send_batch(&self, records: Box<P>, watermark: Option<Timestamp>) -> Result<()> {
        self.send(Message::Batch { records: Some(records), watermark })
    }

    /// Sends the last records before a barrier, which may overtake records from `until` on.
    pub(crate) fn send_last(&self, records: Box<P>, until: Option<Instant>) -> Result<()> {
        self.send_until(Message::Batch { records: Some(records), watermark: None }, until)
    }

    /// Sends a watermark behind the records before it.
    pub(crate) fn send_watermark(&self, watermark: Timestamp) -> Result<()> {
        self.send(Message::Batch { records: None, watermark: Some(watermark) })
    }

    /// Sends, waiting while the channel is full: this is how backpressure reaches the source.
    pub(crate) fn send(&self, message: Message) -> Result<()> {
        self.send_until(message, None)
    }

    fn send_until(&self, message: Message, until: Option<Instant>) -> Result<()> {
        match &self.to {
            To::Inbox { edge, target, channel, urgency, .. } => {
                let inbox = edge.inboxes.get(*target as usize).ok_or_else(cancelled)?;
                inbox.send(*channel, message, Patience { urgency, until })
            }
            To::Outbox { outbox, edge, target } => {
                outbox.push(*edge, *target, message);
                Ok(())
            }
        }
    }

    /// A channel whose messages a host takes from `outbox`.
    pub(crate) fn to_outbox(outbox: &Outbox, edge: EdgeId, target: u32) -> Self {
        Self { to: To::Outbox { outbox: outbox.clone(), edge, target }, carries: PhantomData }
    }

    /// Returns an empty batch, with memory that was used before if some has come back.
    // A call for each batch, which must not grow into the loops over records.
    #[inline(never)]
    pub(crate) fn empty_batch(&self) -> Box<P> {
        let recycled = match &self.to {
            To::Inbox { edge, source, .. } => {
                edge.used.get(*source as usize).and_then(|used| lock(used).pop())
            }
            To::Outbox { outbox, edge, .. } => outbox.used(*edge),
        };
        let recycled = recycled.map(|batch| batch as Box<dyn Any>);
        recycled.and_then(|batch| batch.downcast().ok()).unwrap_or_default()
    }
}

/// The reading ends of all channels of an edge into one subtask.
pub(crate) struct EdgeReader {
    pub(crate) inbox: InboxReader,
    edge: Arc<Edge>,
    subtask: u32,
}

impl EdgeReader {
    /// How many channels there are.
    pub(crate) fn channels(&self) -> usize {
        self.edge.channels()
    }

    /// Returns the memory of a batch to the writer of a channel; the batch must be empty.
    pub(crate) fn recycle(&self, channel: usize, batch: Box<dyn AnyBatch>) {
        let source = match self.edge.pattern {
            Pattern::AllToAll => channel,
            Pattern::OneToOne => self.subtask as usize,
        };
        let Some(used) = self.edge.used.get(source) else { return };
        let mut used = lock(used);
        // What is too much is freed.
        if used.len() < self.edge.most_used {
            used.push(batch);
        }
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

/// All channels of an edge.
struct Edge {
    pattern: Pattern,
    /// Of each reading subtask.
    inboxes: Vec<Arc<Inbox>>,
    /// Empty batches on their way back to each writing subtask, and how many of them are kept.
    used: Vec<Mutex<Vec<Box<dyn AnyBatch>>>>,
    most_used: usize,
}

/// How many batches wait at most in all channels into one subtask, unless there are more channels.
const MOST_WAITING: usize = 256;
/// How many empty batches a subtask keeps at most.
const MOST_USED: usize = 64;

impl Edge {
    fn new(parallelism: usize, capacity: usize, pattern: Pattern, threads: &Threads) -> Self {
        let channels = match pattern {
            Pattern::AllToAll => parallelism,
            Pattern::OneToOne => 1,
        };
        let capacity = capacity.clamp(1, (MOST_WAITING / channels.max(1)).max(1));
        let inbox = || Arc::new(Inbox::new(channels, capacity, threads.clone()));
        Self {
            pattern,
            inboxes: (0..parallelism).map(|_| inbox()).collect(),
            used: (0..parallelism).map(|_| Mutex::default()).collect(),
            most_used: ((capacity + 2) * channels).min(MOST_USED),
        }
    }

    fn channels(&self) -> usize {
        match self.pattern {
            Pattern::AllToAll => self.inboxes.len(),
            Pattern::OneToOne => 1,
        }
    }
}

/// All channels of an attempt. Each task takes its ends when it opens.
pub(crate) struct Wiring {
    parallelism: usize,
    capacity: usize,
    threads: Threads,
    /// `None` once the attempt is over.
    edges: Mutex<Option<HashMap<EdgeId, Arc<Edge>>>>,
}

impl Wiring {
    pub(crate) fn new(parallelism: u32, capacity: usize, threads: Threads) -> Self {
        let edges = Mutex::new(Some(HashMap::new()));
        Self { parallelism: parallelism as usize, capacity, threads, edges }
    }

    /// The writing ends of `subtask`, in the order of the target subtasks.
    pub(crate) fn writers<P: AnyBatch + Default>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        subtask: u32,
        urgency: &Arc<Urgency>,
    ) -> Result<Vec<ChannelWriter<P>>> {
        let edge = self.edge(edge, pattern)?;
        let writer = |target, channel| {
            let (edge, source, urgency) = (Arc::clone(&edge), subtask, Arc::clone(urgency));
            let to = To::Inbox { edge, target, channel, source, urgency };
            ChannelWriter { to, carries: PhantomData }
        };
        Ok(match pattern {
            Pattern::AllToAll => (0..self.parallelism as u32).map(|target| writer(target, subtask)).collect(),
            Pattern::OneToOne => vec![writer(subtask, 0)],
        })
    }

    /// The reading ends of `subtask`, in the order of the subtasks of origin. The reader `notices` what
    /// arrives before it reads it where barriers may overtake records.
    pub(crate) fn readers(
        &self,
        edge: EdgeId,
        pattern: Pattern,
        subtask: u32,
        urgency: &Arc<Urgency>,
        notices: bool,
    ) -> Result<EdgeReader> {
        let edge = self.edge(edge, pattern)?;
        let inbox = edge.inboxes.get(subtask as usize).ok_or_else(cancelled)?;
        let inbox = InboxReader::new(Arc::clone(inbox), urgency, notices);
        Ok(EdgeReader { inbox, edge, subtask })
    }

    fn edge(&self, edge: EdgeId, pattern: Pattern) -> Result<Arc<Edge>> {
        let mut edges = lock(&self.edges);
        let edges = edges.as_mut().ok_or_else(cancelled)?;
        let new = || Arc::new(Edge::new(self.parallelism, self.capacity, pattern, &self.threads));
        Ok(Arc::clone(edges.entry(edge).or_insert_with(new)))
    }

    /// Closes all channels, so that no task waits for one that never opened, or is gone.
    pub(crate) fn close(&self) {
        for edge in lock(&self.edges).take().into_iter().flat_map(HashMap::into_values) {
            edge.inboxes.iter().for_each(|inbox| inbox.close());
        }
    }
}
