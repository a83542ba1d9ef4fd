//! The end of a chain: where records leave for other threads, by key or as they are.

use strandline_state_api::{KeyGroup, Output, Result, StateKey, subtask_of};

use super::assembly::Assembly;
use super::{Node, Signal, Work};
use crate::batch::KeyedBatch;
use crate::channel::{ChannelWriter, EdgeId, Message, Pattern};
use crate::sync::cancelled;

/// Sends records to the subtask that owns their key. The hash is taken here, once, and travels with the record.
pub(crate) struct ExchangeWriter<K, V, KF> {
    key: KF,
    targets: Vec<Target<KeyedBatch<K, V>>>,
    batch_size: usize,
}

/// One channel, and what was not sent yet.
struct Target<P> {
    channel: ChannelWriter<P>,
    pending: P,
}

impl<K: StateKey, V: Send + 'static> Target<KeyedBatch<K, V>> {
    fn send(&mut self, watermark: Option<i64>) -> Result<()> {
        let empty = self.channel.recycled().unwrap_or_default();
        let records = std::mem::replace(&mut self.pending, empty);
        self.channel.send(Message::Batch { records, watermark })
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.send(None) }
    }
}

impl<K: StateKey, V: Send + 'static, KF> ExchangeWriter<K, V, KF> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId, key: KF) -> Result<Self> {
        let channels = assembly.attempt.wiring.writers(edge, Pattern::AllToAll, assembly.subtask)?;
        let targets =
            channels.into_iter().map(|channel| Target { channel, pending: KeyedBatch::default() }).collect();
        Ok(Self { key, targets, batch_size: assembly.attempt.config.batch_size })
    }
}

impl<T, K, V, KF> Node<Output<T>> for ExchangeWriter<K, V, KF>
where
    K: StateKey,
    V: Send + 'static,
    KF: FnMut(T) -> (K, V) + Send,
{
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        let Self { key, targets, batch_size } = self;
        let mut timestamps = batch.timestamps.iter().copied();
        let mut records = batch.records.drain(..);
        if let [target] = targets.as_mut_slice() {
            loop {
                let room = batch_size.saturating_sub(target.pending.len()).max(1);
                let taken =
                    target.pending.extend(records.by_ref().zip(timestamps.by_ref()).take(room), &mut *key);
                if target.pending.len() >= *batch_size {
                    target.send(None)?;
                }
                if taken < room {
                    break;
                }
            }
        } else {
            let parallelism = targets.len() as u32;
            for (record, timestamp) in records.by_ref().zip(timestamps) {
                let (key, value) = key(record);
                let hash = key.key_hash();
                let target = &mut targets[subtask_of(KeyGroup::of(hash), parallelism) as usize];
                target.pending.push(key, hash, value, timestamp);
                if target.pending.len() >= *batch_size {
                    target.send(None)?;
                }
            }
        }
        drop(records);
        batch.clear();
        Ok(())
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        for target in &mut self.targets {
            match signal {
                Signal::Watermark(watermark) => target.send(Some(*watermark))?,
                Signal::Barrier(cut) => {
                    target.flush()?;
                    target.channel.send(Message::Barrier(cut.barrier))?;
                }
                Signal::End => {
                    target.flush()?;
                    target.channel.send(Message::End)?;
                }
                Signal::ProcessingTime(_) | Signal::Complete(_) | Signal::Close(_) => {}
            }
        }
        Ok(())
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

impl<T, K, V, KF> Node<Output<T>> for KeyChain<K, V, KF>
where
    K: StateKey,
    V: Send + 'static,
    KF: FnMut(T) -> (K, V) + Send,
{
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        let records = batch.records.drain(..).zip(batch.timestamps.iter().copied());
        self.batch.extend(records, &mut self.key);
        batch.clear();
        self.next.collect(&mut self.batch)
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.next.work()
    }
}

/// Sends whole batches, as they are, to the subtask of the same number.
pub(crate) struct ForwardWriter<T> {
    channel: ChannelWriter<Output<T>>,
}

impl<T: Send + 'static> ForwardWriter<T> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId) -> Result<Self> {
        let mut channels = assembly.attempt.wiring.writers(edge, Pattern::OneToOne, assembly.subtask)?;
        let channel = channels.pop().ok_or_else(cancelled)?;
        Ok(Self { channel })
    }

    fn send(&mut self, records: Output<T>, watermark: Option<i64>) -> Result<()> {
        self.channel.send(Message::Batch { records, watermark })
    }
}

impl<T: Send + 'static> Node<Output<T>> for ForwardWriter<T> {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        let empty = self.channel.recycled().unwrap_or_default();
        let records = std::mem::replace(batch, empty);
        self.send(records, None)
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            Signal::Watermark(watermark) => self.send(Output::new(), Some(*watermark)),
            Signal::Barrier(cut) => self.channel.send(Message::Barrier(cut.barrier)),
            Signal::End => self.channel.send(Message::End),
            Signal::ProcessingTime(_) | Signal::Complete(_) | Signal::Close(_) => Ok(()),
        }
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}

/// Sends every record to every subtask.
pub(crate) struct BroadcastWriter<T> {
    channels: Vec<ChannelWriter<Output<T>>>,
}

impl<T: Send + 'static> BroadcastWriter<T> {
    pub(crate) fn new(assembly: &Assembly, edge: EdgeId) -> Result<Self> {
        let channels = assembly.attempt.wiring.writers(edge, Pattern::AllToAll, assembly.subtask)?;
        Ok(Self { channels })
    }
}

impl<T: Clone + Send + 'static> Node<Output<T>> for BroadcastWriter<T> {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        let Some((last, others)) = self.channels.split_last() else { return Err(cancelled()) };
        for channel in others {
            let mut records = channel.recycled().unwrap_or_default();
            records.records.extend_from_slice(&batch.records);
            records.timestamps.extend_from_slice(&batch.timestamps);
            channel.send(Message::Batch { records, watermark: None })?;
        }
        let empty = last.recycled().unwrap_or_default();
        let records = std::mem::replace(batch, empty);
        last.send(Message::Batch { records, watermark: None })
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        for channel in &self.channels {
            match signal {
                Signal::Watermark(watermark) => {
                    let (records, watermark) = (Output::new(), Some(*watermark));
                    channel.send(Message::Batch { records, watermark })?;
                }
                Signal::Barrier(cut) => channel.send(Message::Barrier(cut.barrier))?,
                Signal::End => channel.send(Message::End)?,
                Signal::ProcessingTime(_) | Signal::Complete(_) | Signal::Close(_) => {}
            }
        }
        Ok(())
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
