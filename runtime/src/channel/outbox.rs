//! What a subtask sends where a host, and no channel, brings it to other subtasks.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use super::{EdgeId, Message};
use crate::batch::AnyBatch;
use crate::sync::lock;

/// How many empty batches are kept for each edge.
const MOST_USED: usize = 64;

/// What one subtask has sent and its host has not taken.
#[derive(Clone, Default)]
pub(crate) struct Outbox {
    sent: Arc<Mutex<VecDeque<Outgoing>>>,
    used: UsedBatches,
}

/// A message of a subtask, and where it goes.
pub(crate) struct Outgoing {
    pub(crate) edge: EdgeId,
    pub(crate) target: u32,
    pub(crate) message: Message,
}

/// The memory of batches that were read, for those who write to the same edge in the same process.
#[derive(Clone, Default)]
pub(crate) struct UsedBatches(Arc<Mutex<ByEdge>>);

type ByEdge = HashMap<EdgeId, Vec<Box<dyn AnyBatch>>>;

impl UsedBatches {
    /// Keeps the memory of an empty batch.
    pub(crate) fn keep(&self, edge: EdgeId, batch: Box<dyn AnyBatch>) {
        let mut used = lock(&self.0);
        let of_edge = used.entry(edge).or_default();
        // What is too much is freed.
        if of_edge.len() < MOST_USED {
            of_edge.push(batch);
        }
    }
}

impl Outbox {
    pub(crate) fn new(used: &UsedBatches) -> Self {
        Self { sent: Arc::default(), used: used.clone() }
    }

    pub(crate) fn push(&self, edge: EdgeId, target: u32, message: Message) {
        lock(&self.sent).push_back(Outgoing { edge, target, message });
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<Outgoing> {
        lock(&self.sent).pop_front()
    }

    /// Returns the memory of a batch that was used before.
    pub(super) fn used(&self, edge: EdgeId) -> Option<Box<dyn AnyBatch>> {
        lock(&self.used.0).get_mut(&edge)?.pop()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({})", lock(&self.sent).len())
    }
}
