//! The end of a chain: where records leave for other threads, by key or as they are.

use strandline_state_api::{Batch, KeyGroup, Result, StateKey, Timestamp};

use super::assembly::Assembly;
use super::stateless::copy_records;
use super::{Node, Signal, Stage, Work};
use crate::batch::{AnyBatch, KeyedBatch};
use crate::channel::{ChannelWriter, EdgeId, Message, Pattern};
use crate::sync::cancelled;

/// Sends records to the subtask that owns their key. Takes the hash of the key, once; it travels with the
/// record.
pub(crate) struct ExchangeWriter<K, V, KF> {
    key: KF,
    targets: Vec<Target<KeyedBatch<K, V>>>,
    batch_size: usize,
}

/// How many records a subtask holds at most for all others, unless there are more of those.
const MOST_PENDING: usize = 1 << 16;

/// One channel, and what was not sent yet.
struct Target<P> {
    channel: ChannelWriter<P>,
    pending: Option<Box<P>>,
}

impl<P: AnyBatch + Default> Target<P> {
    /// What was not sent yet.
    fn pending(&mut self) -> &mut P {
        let Self { channel, pending } = self;
        pending.get_or_insert_with(|| channel.empty_batch())
    }

    fn send(&mut self, watermark: Option<Timestamp>) -> Result<()> {
        match (self.pending.take_if(|pending| !pending.is_empty()), watermark) {
            (Some(records), _) => self.channel.send_batch(records, watermark),
            (None, Some(watermark)) => self.channel.send_watermark(watermark),
            (None, None) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.send(None)
    }

    fn signal(&mut self, signal: &Signal<'_>) -> Result<()> {
        match signal {
            Signal::Watermark(watermark) => return self.send(Some(*watermark)),
            Signal::Barrier(passing) => {
                if let Some(records) = self.pending.take_if(|pending| !pending.is_empty()) {
                    self.channel.send_last(records, passing.barrier.overtake)?;
                }
            }
            Signal::Idle | Signal::End => self.flush()?,
            Signal::ProcessingTime(_)
            | Signal::Complete(_)
            | Signal::Aborted(_)
            | Signal::DropLive(_)
            | Signal::LookUp(_)
            | Signal::Advance(_)
            | Signal::Close(_) => return Ok(()),
        }
        forward(&self.channel, signal)
    }
}

/// Sends a signal over a channel, if it travels over channels.
fn forward<P: AnyBatch + Default>(channel: &ChannelWriter<P>, signal: &Signal<'_>) -> Result<()> {
    match signal {
        Signal::Watermark(watermark) => channel.send_watermark(*watermark),
        Signal::Idle => channel.send(Message::Idle),
        Signal::Barrier(passing) => channel.send(Message::Barrier(passing.barrier.clone())),
        Signal::End => channel.send(Message::End),
        Signal::ProcessingTime(_)
        | Signal::Complete(_)
        | Signal::Aborted(_)
        | Signal::DropLive(_)
        | Signal::LookUp(_)
        | Signal::Advance(_)
        | Signal::Close(_) => Ok(()),
    }
}

impl<K: StateKey, V: Send + 'static, KF> ExchangeWriter<K, V, KF> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId, key: KF) -> Result<Self> {
        let channels = assembly.writers(edge, Pattern::AllToAll)?;
        let targets =
            channels.into_iter().map(|channel| Target { channel, pending: None }).collect::<Vec<_>>();
        // What all subtasks hold for all others stays in proportion to the parallelism.
        let share = (MOST_PENDING / targets.len().max(1)).max(1);
        Ok(Self { key, batch_size: assembly.attempt.config.batch_size.min(share), targets })
    }
}

impl<T, K, V, KF> Node<Batch<T>> for ExchangeWriter<K, V, KF>
where
    K: StateKey,
    V: Send + 'static,
    KF: FnMut(T) -> (K, V) + Send,
{
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let Self { key, targets, batch_size } = self;
        let mut records = batch.drain();
        if let [target] = targets.as_mut_slice() {
            loop {
                let pending = target.pending();
                let room = batch_size.saturating_sub(pending.len()).max(1);
                let taken = pending.extend(records.by_ref().take(room), &mut *key);
                if pending.len() >= *batch_size {
                    target.send(None)?;
                }
                if taken < room {
                    break;
                }
            }
        } else {
            let parallelism = targets.len() as u32;
            for (record, timestamp) in records {
                let (key, value) = key(record);
                let hash = key.key_hash();
                let target = &mut targets[KeyGroup::of(hash).subtask(parallelism) as usize];
                let pending = target.pending();
                pending.push(key, hash, value, timestamp);
                if pending.len() >= *batch_size {
                    target.send(None)?;
                }
            }
        }
        Ok(())
    }
}

impl<K: StateKey, V: Send + 'static, KF: Send> Stage for ExchangeWriter<K, V, KF> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.targets.iter_mut().try_for_each(|target| target.signal(signal))
    }

    fn work(&mut self) -> Result<Work> {
        self.targets.iter_mut().try_for_each(Target::flush)?;
        Ok(Work::default())
    }
}

/// Hands records with keys to an operator in the same thread.
pub(crate) struct KeyChain<K, V, KF> {
    key: KF,
    batch: KeyedBatch<K, V>,
    next: Box<dyn Node<KeyedBatch<K, V>>>,
}

impl<K: StateKey, V, KF> KeyChain<K, V, KF> {
    pub(crate) fn new(key: KF, next: Box<dyn Node<KeyedBatch<K, V>>>) -> Self {
        Self { key, batch: KeyedBatch::default(), next }
    }
}

impl<T, K, V, KF> Node<Batch<T>> for KeyChain<K, V, KF>
where
    K: StateKey,
    V: Send + 'static,
    KF: FnMut(T) -> (K, V) + Send,
{
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.batch.extend(batch.drain(), &mut self.key);
        self.next.collect(&mut self.batch)
    }
}

impl<K: StateKey, V: Send, KF: Send> Stage for KeyChain<K, V, KF> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.next.work()
    }
}

/// Sends whole batches, as they are, to the subtask of the same number.
pub(crate) struct ForwardWriter<T> {
    channel: ChannelWriter<Batch<T>>,
}

impl<T: Send + 'static> ForwardWriter<T> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId) -> Result<Self> {
        let mut channels = assembly.writers(edge, Pattern::OneToOne)?;
        let channel = channels.pop().ok_or_else(cancelled)?;
        Ok(Self { channel })
    }
}

impl<T: Send + 'static> Node<Batch<T>> for ForwardWriter<T> {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let mut records = self.channel.empty_batch();
        std::mem::swap(&mut *records, batch);
        self.channel.send_batch(records, None)
    }
}

impl<T: Send + 'static> Stage for ForwardWriter<T> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        forward(&self.channel, signal)
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}

/// Sends every record to every subtask.
pub(crate) struct BroadcastWriter<T> {
    channels: Vec<ChannelWriter<Batch<T>>>,
}

impl<T: Send + 'static> BroadcastWriter<T> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId) -> Result<Self> {
        let channels = assembly.writers(edge, Pattern::AllToAll)?;
        Ok(Self { channels })
    }
}

impl<T: Clone + Send + 'static> Node<Batch<T>> for BroadcastWriter<T> {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let Some((last, others)) = self.channels.split_last() else { return Err(cancelled()) };
        for channel in others {
            let mut records = channel.empty_batch();
            copy_records(batch, &mut records);
            channel.send_batch(records, None)?;
        }
        let mut records = last.empty_batch();
        std::mem::swap(&mut *records, batch);
        last.send_batch(records, None)
    }
}

impl<T: Send + 'static> Stage for BroadcastWriter<T> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.channels.iter().try_for_each(|channel| forward(channel, signal))
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
