//! A keyed operator with a broadcast side.

use strandline_state_api::{BroadcastOperator, CheckpointedBackend, Operator, Output, Result};

use super::KeyedNode;
use crate::batch::{KeyedBatch, Sided};
use crate::chain::{Node, Signal, Work};
use crate::metrics::set;

/// A [`KeyedNode`] that takes batches of both sides.
pub(crate) struct BroadcastNode<O: Operator<B>, B: CheckpointedBackend>(pub(crate) KeyedNode<O, B>);

impl<O, B> BroadcastNode<O, B>
where
    B: CheckpointedBackend + 'static,
    O: BroadcastOperator<B>,
    O::Out: Send + 'static,
{
    fn broadcast(&mut self, batch: &mut Output<O::Broadcast>) -> Result<()> {
        let Self(keyed) = self;
        keyed.processing_time(keyed.attempt.config.clock.now_ms())?;
        for (record, timestamp) in batch.records.drain(..).zip(batch.timestamps.drain(..)) {
            let done = keyed.process.process_broadcast(record, timestamp, &mut keyed.output);
            keyed.locate(done)?;
            if keyed.output.len() >= keyed.attempt.config.batch_size {
                keyed.pass_on()?;
            }
        }
        keyed.pass_on()?;
        set(&keyed.entries, keyed.process.backend_mut().entries());
        keyed.snapshot_step()?;
        Ok(())
    }
}

impl<O, B> Node<Sided<KeyedBatch<B::Key, O::In>, Output<O::Broadcast>>> for BroadcastNode<O, B>
where
    B: CheckpointedBackend + 'static,
    O: BroadcastOperator<B>,
    O::In: Send,
    O::Out: Send + 'static,
{
    fn collect(&mut self, batch: &mut Sided<KeyedBatch<B::Key, O::In>, Output<O::Broadcast>>) -> Result<()> {
        match batch {
            Sided::Keyed(batch) => self.0.collect(batch),
            Sided::Broadcast(batch) => self.broadcast(batch),
        }
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.0.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.0.work()
    }
}
