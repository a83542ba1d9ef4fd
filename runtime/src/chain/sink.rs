//! A sink at the end of its chain.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use strandline_state_api::{KeyGroupRange, OperatorId, OperatorStateEntry, Output, Redistribution, Result};

use super::assembly::Assembly;
use super::{Node, Signal, Work};
use crate::metrics::{Metrics, add};
use crate::reserved::PENDING;
use crate::sink::{Sink, SinkContext, SinkFactory};

/// One subtask of a sink.
pub(crate) struct SinkNode<S> {
    id: OperatorId,
    subtask: u32,
    sink: S,
    ended: bool,
    taken: Arc<AtomicU64>,
    /// Set where the sink says how much is done.
    done: Option<Arc<Metrics>>,
}

impl<S: Sink> SinkNode<S> {
    pub(crate) fn open<F: SinkFactory<Sink = S>>(
        assembly: &Assembly,
        id: &OperatorId,
        first: bool,
        factory: &F,
    ) -> Result<Self> {
        let subtask = assembly.subtask;
        let restored = assembly.restored(id).map(|restored| restored.elements(PENDING)).unwrap_or_default();
        let context = SinkContext {
            subtask,
            parallelism: assembly.parallelism(),
            attempt: assembly.attempt.label.clone(),
            restored,
        };
        let sink =
            factory.open(context).map_err(|error| error.with("operator", id).with("subtask", subtask))?;
        let metrics = &assembly.attempt.metrics;
        let done = (first && !assembly.attempt.is_keyed).then(|| Arc::clone(metrics));
        Ok(Self { id: id.clone(), subtask, sink, ended: false, taken: metrics.emitted(id), done })
    }

    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with("operator", &self.id).with("subtask", self.subtask))
    }
}

impl<T, S: Sink<In = T>> Node<Output<T>> for SinkNode<S> {
    fn collect(&mut self, batch: &mut Output<T>) -> Result<()> {
        let records = batch.len();
        let written = self.sink.write(batch);
        self.locate(written)?;
        batch.clear();
        add(&self.taken, records);
        if let Some(metrics) = &self.done {
            metrics.done(records);
        }
        Ok(())
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            Signal::Barrier(cut) => {
                let start = Instant::now();
                let checkpoint = cut.barrier.checkpoint;
                let elements = self.sink.pre_commit(checkpoint);
                let elements = self.locate(elements.map_err(|error| error.with("checkpoint", checkpoint)))?;
                let mut snapshot = cut.snapshot(self.subtask, KeyGroupRange::EMPTY);
                snapshot.finished = self.ended;
                snapshot.operator_state.push(OperatorStateEntry {
                    name: PENDING.to_owned(),
                    redistribution: Redistribution::Union,
                    codec: "bytes".to_owned(),
                    schema_version: 1,
                    elements,
                });
                cut.add(&self.id, snapshot, start.elapsed());
            }
            Signal::Complete(checkpoint) => {
                let committed = self.sink.commit(*checkpoint);
                self.locate(committed.map_err(|error| error.with("checkpoint", *checkpoint)))?;
            }
            Signal::End => self.ended = true,
            Signal::Close(closing) => {
                closing.summaries.push((self.id.to_string(), self.sink.summary()));
            }
            Signal::Watermark(_) | Signal::ProcessingTime(_) => {}
        }
        Ok(())
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
