//! A sink at the end of its chain.

use std::sync::Arc;

use strandline_checkpoint_storage::{OperatorTypes, decode_each, encode_each};
use strandline_state_api::{Batch, KeyGroupRange, OperatorId, Result};

use super::assembly::Assembly;
use super::{Node, Signal, Stage, Work};
use crate::metrics::{Metrics, Tally};
use crate::passing::PassingBarrier;
use crate::sink::{Sink, SinkContext, SinkFactory};
use crate::threads::Threads;

/// One subtask of a sink.
pub(crate) struct SinkNode<S> {
    id: OperatorId,
    subtask: u32,
    sink: S,
    ended: bool,
    types: Arc<OperatorTypes>,
    taken: Tally,
    threads: Threads,
    /// Set where the sink counts how much is done.
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
        let restored = assembly.restored(id).map_or(&[][..], |restored| &restored.committables);
        let sink = decode_each(restored).and_then(|restored| {
            let (parallelism, attempt) = (assembly.parallelism(), assembly.attempt.label.clone());
            let term = assembly.attempt.term;
            factory.open(SinkContext { subtask, parallelism, term, attempt, restored })
        });
        let sink = sink.map_err(|error| error.with("operator", id).with("subtask", subtask))?;
        let metrics = &assembly.attempt.metrics;
        let done = (first && !assembly.attempt.is_keyed).then(|| Arc::clone(metrics));
        let (taken, threads) = (metrics.emitted(id), assembly.attempt.threads.clone());
        let types = Arc::new(OperatorTypes::of_committables::<S::Committable>());
        Ok(Self { id: id.clone(), subtask, sink, ended: false, types, taken, threads, done })
    }

    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with("operator", &self.id).with("subtask", self.subtask))
    }

    fn barrier(&mut self, passing: &mut PassingBarrier) -> Result<()> {
        let start = self.threads.now();
        let checkpoint = passing.barrier.checkpoint;
        let committables = match passing.barrier.live {
            // There is no checkpoint to commit with.
            Some(_) => Ok(Vec::new()),
            None => self.sink.pre_commit(checkpoint).and_then(|pending| encode_each(&pending)),
        };
        let mut snapshot = passing.snapshot(self.subtask, KeyGroupRange::EMPTY);
        snapshot.committables =
            self.locate(committables.map_err(|error| error.with("checkpoint", checkpoint)))?;
        snapshot.finished = self.ended;
        snapshot.types = Arc::clone(&self.types);
        passing.cut(&self.taken);
        passing.add(&self.id, snapshot, self.threads.since(start));
        Ok(())
    }
}

impl<T, S: Sink<In = T>> Node<Batch<T>> for SinkNode<S> {
    fn collect(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let records = batch.len();
        let written = self.sink.write(batch);
        self.locate(written)?;
        batch.clear();
        self.taken.add(records);
        if let Some(metrics) = &self.done {
            metrics.done(records);
        }
        Ok(())
    }
}

impl<S: Sink> Stage for SinkNode<S> {
    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            Signal::Barrier(passing) => self.barrier(passing)?,
            Signal::Complete(checkpoint) => {
                let committed = self.sink.commit(*checkpoint);
                self.locate(committed.map_err(|error| error.with("checkpoint", *checkpoint)))?;
            }
            Signal::End => self.ended = true,
            Signal::Close(task) => task.add(&self.id, self.sink.summary()),
            Signal::Aborted(aborted) => {
                let heard = self.sink.checkpoint_aborted(aborted);
                self.locate(heard.map_err(|error| error.with("checkpoint", aborted.checkpoint)))?;
            }
            Signal::Watermark(_)
            | Signal::Idle
            | Signal::ProcessingTime(_)
            | Signal::DropLive(_)
            | Signal::LookUp(_)
            | Signal::Advance(_) => {}
        }
        Ok(())
    }

    fn work(&mut self) -> Result<Work> {
        Ok(Work::default())
    }
}
