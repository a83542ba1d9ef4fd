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

/// One channel, and what was not sent yet.
struct Target<P> {
    channel: ChannelWriter<P>,
    pending: Box<P>,
}

impl<P: AnyBatch + Default> Target<P> {
    fn send(&mut self, watermark: Option<Timestamp>) -> Result<()> {
        let records = std::mem::replace(&mut self.pending, self.channel.empty_batch());
        self.channel.send_batch(records, watermark)
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.send(None) }
    }

    fn signal(&mut self, signal: &Signal<'_>) -> Result<()> {
        match signal {
            Signal::Watermark(watermark) if self.pending.is_empty() => {
                return self.channel.send_watermark(*watermark);
            }
            Signal::Watermark(watermark) => return self.send(Some(*watermark)),
            Signal::Barrier(_) | Signal::End => self.flush()?,
            Signal::ProcessingTime(_) | Signal::Complete(_) | Signal::Aborted(_) | Signal::Close(_) => {}
        }
        forward(&self.channel, signal)
    }
}

/// Sends a signal over a channel, if it travels over channels.
fn forward<P: AnyBatch + Default>(channel: &ChannelWriter<P>, signal: &Signal<'_>) -> Result<()> {
    match signal {
        Signal::Watermark(watermark) => channel.send_watermark(*watermark),
        Signal::Barrier(passing) => channel.send(Message::Barrier(passing.barrier)),
        Signal::End => channel.send(Message::End),
        Signal::ProcessingTime(_) | Signal::Complete(_) | Signal::Aborted(_) | Signal::Close(_) => Ok(()),
    }
}

impl<K: StateKey, V: Send + 'static, KF> ExchangeWriter<K, V, KF> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId, key: KF) -> Result<Self> {
        let channels = assembly.attempt.wiring.writers(edge, Pattern::AllToAll, assembly.subtask)?;
        let targets =
            channels.into_iter().map(|channel| Target { channel, pending: Box::default() }).collect();
        Ok(Self { key, targets, batch_size: assembly.attempt.config.batch_size })
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
                let room = batch_size.saturating_sub(target.pending.len()).max(1);
                let taken = target.pending.extend(records.by_ref().take(room), &mut *key);
                if target.pending.len() >= *batch_size {
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
                target.pending.push(key, hash, value, timestamp);
                if target.pending.len() >= *batch_size {
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
        let mut channels = assembly.attempt.wiring.writers(edge, Pattern::OneToOne, assembly.subtask)?;
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
        let channels = assembly.attempt.wiring.writers(edge, Pattern::AllToAll, assembly.subtask)?;
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
