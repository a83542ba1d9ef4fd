//! A keyed operator with a broadcast side.

use strandline_state_api::backend::CheckpointedBackend;
use strandline_state_api::{Batch, BroadcastOperator, Operator, Result};

use super::{KeyedNode, TypedSubtask};
use crate::batch::{AnyBatch, Side, downcast};
use crate::chain::{Inlet, Node, Signal, Stage, Work};

/// A [`KeyedNode`] that takes batches of both sides.
pub(crate) struct BroadcastNode<O: Operator, B>(pub(crate) KeyedNode<O, B>);

impl<O, B> TypedSubtask<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: BroadcastOperator,
{
    fn broadcast_records(&mut self, batch: &mut Batch<O::Broadcast>) -> Result<()> {
        for (record, timestamp) in batch.drain() {
            self.process.process_broadcast(record, timestamp, &mut self.output)?;
            if self.output.len() >= self.batch_size {
                self.next.collect(&mut self.output)?;
            }
        }
        self.pass_on()
    }
}

impl<O, B> Stage for BroadcastNode<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: Operator,
    O::Out: Send,
{
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.0.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.0.work()
    }
}

impl<O, B> Inlet for BroadcastNode<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: BroadcastOperator,
    O::In: Send + 'static,
    O::Out: Send,
    O::Broadcast: Send + 'static,
{
    fn collect_any(&mut self, side: Side, batch: &mut dyn AnyBatch) -> Result<()> {
        if side == Side::Main {
            return self.0.collect(downcast(batch)?);
        }
        let KeyedNode { sequencer, subtask } = &mut self.0;
        sequencer.before_batch(subtask, &[])?;
        let worked = subtask.broadcast_records(downcast(batch)?);
        sequencer.locate(worked)?;
        sequencer.after_broadcast(subtask)
    }
}
