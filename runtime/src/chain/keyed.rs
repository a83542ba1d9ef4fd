//! A keyed operator in its place in the chain.
//!
//! Its code comes in two halves. [`TypedSubtask`] knows the types of operator, backend and records, and is
//! compiled for each combination: it holds the loops over records and timers. [`Sequencer`] knows none of
//! them and is compiled once: it decides what happens when, and calls the other half through [`Subtask`],
//! once for each batch, signal or step.

pub(crate) mod broadcast;
mod sequencer;
mod snapshots;

use std::fmt::Debug;
use std::sync::Arc;

use strandline_checkpoint_storage::OperatorTypes;
use strandline_state_api::backend::{BackendFactory, BackendScope, CheckpointedBackend, RestoreSnapshot};
use strandline_state_api::host::{KeyedProcess, OperatorStateStore, Steps};
use strandline_state_api::{
    AbortNotice, Batch, CheckpointId, Error, Keyed, Open, Operator, OperatorId, Result, Timestamp,
};

use self::sequencer::{Sequencer, Subtask, TIMERS};
use self::snapshots::{AnyWriter, SnapshotBackend};
use super::assembly::{Assembly, Attempt};
use super::slot::Slot;
use super::{Collector, Node, Signal, Stage, Work};
use crate::batch::KeyedBatch;
use crate::sync::located;

/// How many characters of a key an error shows.
const LONGEST_KEY: usize = 200;

/// Adds which record an error is about.
#[cold]
fn at_record(error: Error, key: &dyn Debug, time: Option<Timestamp>) -> Error {
    if error.context("key").is_some() {
        return error;
    }
    let key: String = format!("{key:?}").chars().take(LONGEST_KEY).collect();
    let error = error.with("key", key);
    match time {
        Some(time) => error.with("event time", time),
        None => error,
    }
}

/// One subtask of a keyed operator, with its backend.
pub(crate) struct KeyedNode<O: Operator, B> {
    sequencer: Sequencer,
    subtask: TypedSubtask<O, B>,
}

/// The half of a [`KeyedNode`] that depends on the types of operator, backend and records.
struct TypedSubtask<O: Operator, B> {
    process: KeyedProcess<O, B>,
    output: Batch<O::Out>,
    next: Collector<O::Out>,
    batch_size: usize,
}

impl<O, B> KeyedNode<O, B>
where
    B: CheckpointedBackend<Key = O::Key> + 'static,
    O: Operator,
    O::Out: Send + 'static,
{
    /// Makes the operator, restores its state, and builds what lies behind it.
    pub(crate) fn open<F>(
        assembly: &mut Assembly,
        id: &OperatorId,
        first: bool,
        factory: &F,
        open: &impl Fn(&mut Open<'_, B, O::Namespace>) -> Result<O>,
        next: &Slot<O::Out>,
    ) -> Result<Self>
    where
        F: BackendFactory<Backend<O::Key> = B>,
    {
        let scope = BackendScope::new(id.clone(), assembly.subtask, assembly.parallelism());
        let locate = |error| scope.locate(error);
        let operator_state = assembly.restored_here(id).map(|restored| restored.operator_state.clone());
        let backend = factory.create::<O::Key>(scope.clone()).map_err(locate)?;
        let mut process =
            KeyedProcess::open(open, backend, operator_state.unwrap_or_default()).map_err(locate)?;
        restore(assembly, &scope, process.backend_mut())?;
        let watermark = assembly.restored_here(id).and_then(|restored| restored.watermark);
        process.restore_watermark(watermark);
        let writer: Option<Arc<dyn AnyWriter>> = match &assembly.attempt.config.checkpointing {
            Some(_) => Some(Arc::new(process.backend_mut().take_writer().map_err(locate)?)),
            None => None,
        };
        let operator_state = process.operator_state().types();
        let types = OperatorTypes::of_states(&process.backend_mut().schemas(), operator_state);
        let sequencer = Sequencer::start(assembly, scope, first, writer, types)?;
        let next = assembly.behind(id, |assembly| next.build(assembly))?;
        let batch_size = assembly.attempt.config.batch_size.max(1);
        Ok(Self { sequencer, subtask: TypedSubtask { process, output: Batch::new(), next, batch_size } })
    }
}

/// Restores the keyed state of a subtask.
fn restore(assembly: &Assembly, scope: &BackendScope, backend: &mut dyn RestoreSnapshot) -> Result<()> {
    let Attempt { restored, threads, .. } = &*assembly.attempt;
    let Some(assignment) = restored else { return Ok(()) };
    let Some(store) = assembly.attempt.segments(assignment.checkpoint) else { return Ok(()) };
    let keyed = assembly.restored_here(&scope.operator).map_or(&[][..], |restored| &restored.keyed);
    if keyed.is_empty() {
        return Ok(());
    }
    let found = threads
        .block_on(backend.restore(keyed, store.as_ref()))
        .map_err(|error| located(error, &scope.operator, scope.subtask))
        .map_err(|error| error.with("checkpoint", assignment.checkpoint))?;
    let BackendScope { operator, subtask, .. } = scope;
    for state in &found.orphans {
        tracing::warn!(%operator, subtask, %state, "restored state that no operator registers; it is kept");
    }
    Ok(())
}

impl<O, B> TypedSubtask<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: Operator,
{
    /// Passes results on.
    fn pass_on(&mut self) -> Result<()> {
        if self.output.is_empty() { Ok(()) } else { self.next.collect(&mut self.output) }
    }

    /// Works on the records of `batch`, and announces the keys of those that come next.
    fn records(&mut self, batch: &mut KeyedBatch<O::Key, O::In>) -> Result<()> {
        let KeyedBatch { keys, hashes, values, timestamps } = batch;
        let (total, chunk) = (keys.len(), B::PREFETCH.max(1));
        let announce = |process: &mut KeyedProcess<O, B>, from: usize| {
            let range = from.min(total)..(from + chunk).min(total);
            process.prefetch(&keys[range.clone()], &hashes[range])
        };
        announce(&mut self.process, 0)?;
        let mut values = values.drain(..);
        for start in (0..total).step_by(chunk) {
            announce(&mut self.process, start + chunk)?;
            let end = (start + chunk).min(total);
            let records = keys[start..end].iter().zip(&hashes[start..end]).zip(start..);
            for (((key, hash), index), value) in records.zip(values.by_ref()) {
                let timestamp = timestamps.of(index);
                let keyed = Keyed::with_hash(key, *hash);
                let processed = self.process.process(keyed, value, timestamp, &mut self.output);
                processed.map_err(|error| at_record(error, key, timestamp))?;
            }
            if self.output.len() >= self.batch_size {
                self.next.collect(&mut self.output)?;
            }
        }
        drop(values);
        batch.clear();
        self.pass_on()
    }
}

impl<O, B> Subtask for TypedSubtask<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: Operator,
{
    fn fire_event_timers(&mut self, watermark: Timestamp) -> Result<Steps> {
        let steps = self.process.advance_watermark(watermark, TIMERS, &mut self.output)?;
        self.pass_on()?;
        Ok(steps)
    }

    fn fire_processing_timers(&mut self, now: Timestamp) -> Result<Steps> {
        let steps = self.process.advance_processing_time(now, TIMERS, &mut self.output)?;
        self.pass_on()?;
        Ok(steps)
    }

    fn end(&mut self) -> Result<()> {
        let mut last = Batch::new();
        self.process.end(&mut last)?;
        // All results come at once; they leave in batches of the usual size.
        let mut records = last.drain();
        loop {
            self.output.extend(records.by_ref().take(self.batch_size));
            if self.output.is_empty() {
                return Ok(());
            }
            self.next.collect(&mut self.output)?;
        }
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.process.checkpoint_complete(checkpoint)
    }

    fn checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()> {
        self.process.checkpoint_aborted(aborted)
    }

    fn next_processing_timer(&mut self) -> Result<Option<Timestamp>> {
        self.process.next_processing_timer()
    }

    fn watermark(&self) -> Option<Timestamp> {
        self.process.watermark()
    }

    fn output_watermark(&self) -> Option<Timestamp> {
        self.process.output_watermark()
    }

    fn take_too_late(&mut self) -> u64 {
        self.process.take_too_late()
    }

    fn operator_state(&self) -> &OperatorStateStore {
        self.process.operator_state()
    }

    fn backend(&mut self) -> &mut dyn SnapshotBackend {
        self.process.backend_mut()
    }

    fn next(&mut self) -> &mut dyn Stage {
        &mut *self.next
    }
}

impl<O, B> Node<KeyedBatch<B::Key, O::In>> for KeyedNode<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: Operator,
    O::In: Send,
    O::Out: Send,
{
    fn collect(&mut self, batch: &mut KeyedBatch<B::Key, O::In>) -> Result<()> {
        let Self { sequencer, subtask } = self;
        let records = batch.len();
        sequencer.before_batch(subtask, batch.timestamps.column())?;
        let worked = subtask.records(batch);
        sequencer.locate(worked)?;
        sequencer.after_batch(subtask, records)
    }
}

impl<O, B> Stage for KeyedNode<O, B>
where
    B: CheckpointedBackend<Key = O::Key>,
    O: Operator,
    O::Out: Send,
{
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        self.sequencer.signal(&mut self.subtask, signal)
    }

    fn work(&mut self) -> Result<Work> {
        self.sequencer.work(&mut self.subtask)
    }
}
