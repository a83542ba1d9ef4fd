//! A keyed operator in its place in the chain.

pub(crate) mod broadcast;
mod snapshots;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use strandline_state_api::{
    BackendFactory, BackendScope, CheckpointedBackend, KeyGroupRange, KeyedProcess, NO_TIMESTAMP, Open,
    Operator, OperatorId, Output, Result, SnapshotSource, Steps,
};

use self::snapshots::Snapshots;
use super::assembly::{Assembly, Attempt};
use super::slot::Slot;
use super::{Collector, Node, Signal, Work};
use crate::batch::KeyedBatch;
use crate::metrics::{Metrics, add, set};
use crate::sync::cancelled;

/// How many records ahead of the current one their state is asked for.
const CHUNK: usize = 64;
/// How many timers fire before results leave and a snapshot moves on.
const TIMERS: usize = 256;
/// How many entries a snapshot moves on after a batch.
const SNAPSHOT_STEP: usize = 2048;

/// One subtask of a keyed operator, with its backend.
pub(crate) struct KeyedNode<O: Operator<B>, B: CheckpointedBackend> {
    id: OperatorId,
    subtask: u32,
    key_groups: KeyGroupRange,
    process: KeyedProcess<O, B, O::Namespace>,
    snapshots: Snapshots<<B as SnapshotSource>::Prepared>,
    output: Output<O::Out>,
    next: Collector<O::Out>,
    /// A watermark whose timers have not all fired. It is passed on when they have; until then only barriers are let through.
    firing: Option<i64>,
    /// The input has ended and the operator was told so, here or before the checkpoint that was restored.
    ended: bool,
    attempt: Arc<Attempt>,
    entries: Arc<AtomicU64>,
    /// Set where the operator says how much is done.
    done: Option<Arc<Metrics>>,
}

impl<O, B> KeyedNode<O, B>
where
    B: CheckpointedBackend + 'static,
    O: Operator<B>,
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
        F: BackendFactory<Backend<B::Key> = B>,
    {
        let subtask = assembly.subtask;
        let located =
            |error: strandline_state_api::Error| error.with("operator", id).with("subtask", subtask);
        let key_groups = KeyGroupRange::of_subtask(subtask, assembly.parallelism());
        let attempt = Arc::clone(&assembly.attempt);
        let restored = assembly.restored_here(id).cloned().unwrap_or_default();
        let backend = factory
            .create::<B::Key>(BackendScope { operator: id.clone(), subtask, key_groups })
            .map_err(located)?;
        let mut process = KeyedProcess::open(open, backend, restored.operator_state).map_err(located)?;
        if !restored.keyed.is_empty()
            && let (Some(store), Some(plan)) = (&attempt.store, &attempt.restored)
        {
            let store = store.at(plan.checkpoint);
            let restore = process.backend_mut().restore(&restored.keyed, store.as_ref());
            let found = attempt
                .runtime
                .block_on(restore)
                .map_err(|error| located(error).with("checkpoint", plan.checkpoint))?;
            for state in &found.unclaimed {
                tracing::warn!(operator = %id, subtask, %state, "restored state that nobody uses; it is kept");
            }
        }
        if let Some(watermark) = restored.watermark {
            process.restore_watermark(watermark);
        }
        let writer = match &attempt.store {
            Some(_) => Some(process.backend_mut().take_writer().map_err(located)?),
            None => None,
        };
        let snapshots = Snapshots::start(&attempt, id, subtask, writer)?;
        let next = assembly.behind(id, |assembly| next.build(assembly))?;
        let entries = attempt.metrics.entries(id, subtask);
        let done = first.then(|| Arc::clone(&attempt.metrics));
        let ended = restored.finished;
        let output = Output::new();
        let id = id.clone();
        // A barrier may have come between timers that were due.
        let firing = restored.watermark.filter(|_| !ended);
        Ok(Self {
            id,
            subtask,
            key_groups,
            process,
            snapshots,
            output,
            next,
            firing,
            ended,
            attempt,
            entries,
            done,
        })
    }

    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with("operator", &self.id).with("subtask", self.subtask))
    }

    /// Passes results on.
    fn pass_on(&mut self) -> Result<()> {
        if self.output.is_empty() { Ok(()) } else { self.next.collect(&mut self.output) }
    }

    /// Works on the records of `batch`, asking for the state of those that come next.
    fn records(&mut self, batch: &mut KeyedBatch<B::Key, O::In>) -> Result<()> {
        let KeyedBatch { keys, hashes, values, timestamps } = batch;
        let total = keys.len();
        let ahead = |from: usize| {
            let range = from.min(total)..(from + CHUNK).min(total);
            hashes[range.clone()].iter().copied().zip(&keys[range])
        };
        self.process.prefetch(ahead(0))?;
        let mut values = values.drain(..);
        for start in (0..total).step_by(CHUNK) {
            self.process.prefetch(ahead(start + CHUNK))?;
            let end = (start + CHUNK).min(total);
            let records = keys[start..end].iter().zip(&hashes[start..end]).zip(&timestamps[start..end]);
            for (((key, hash), timestamp), value) in records.zip(values.by_ref()) {
                let key = strandline_state_api::Keyed::with_hash(key, *hash);
                self.process.process(key, value, *timestamp, &mut self.output)?;
            }
            if self.output.len() >= self.attempt.config.batch_size {
                self.next.collect(&mut self.output)?;
            }
        }
        Ok(())
    }

    /// Fires some of the timers of the watermark at hand, and passes it on when that was all; says whether it was.
    fn fire_some(&mut self) -> Result<bool> {
        let Some(watermark) = self.firing else { return Ok(true) };
        let steps = self.process.advance_watermark(watermark, TIMERS, &mut self.output);
        let steps = self.locate(steps)?;
        self.pass_on()?;
        if steps == Steps::More {
            return Ok(false);
        }
        self.firing = None;
        self.next.signal(&mut Signal::Watermark(watermark))?;
        Ok(true)
    }

    /// Fires all of them: before anything that comes behind the watermark.
    fn fire_all(&mut self) -> Result<()> {
        while !self.fire_some()? {
            if self.attempt.is_cancelled() {
                return Err(cancelled());
            }
            self.snapshot_step()?;
        }
        Ok(())
    }

    /// Tells the time, and fires what is due, passing on results and moving snapshots on in between.
    fn processing_time(&mut self, now: i64) -> Result<()> {
        self.fire_all()?;
        loop {
            let steps = self.process.advance_processing_time(now, TIMERS, &mut self.output);
            let steps = self.locate(steps)?;
            self.pass_on()?;
            if steps == Steps::Done {
                return Ok(());
            }
            if self.attempt.is_cancelled() {
                return Err(cancelled());
            }
            self.snapshot_step()?;
        }
    }

    fn snapshot_step(&mut self) -> Result<bool> {
        let more = self.snapshots.step(self.process.backend_mut(), SNAPSHOT_STEP);
        self.locate(more)
    }

    /// Tells the operator that nothing follows, and passes on what it has to say in batches of the usual size.
    fn end(&mut self) -> Result<()> {
        let mut last = Output::new();
        let ended = self.process.end(&mut last);
        self.locate(ended)?;
        let Output { mut records, mut timestamps } = last;
        let size = self.attempt.config.batch_size.max(1);
        let mut pairs = records.drain(..).zip(timestamps.drain(..)).peekable();
        while pairs.peek().is_some() {
            for (record, timestamp) in pairs.by_ref().take(size) {
                self.output.push(record, timestamp);
            }
            self.next.collect(&mut self.output)?;
        }
        Ok(())
    }
}

impl<O, B> Node<KeyedBatch<B::Key, O::In>> for KeyedNode<O, B>
where
    B: CheckpointedBackend + 'static,
    O: Operator<B>,
    O::In: Send,
    O::Out: Send + 'static,
{
    fn collect(&mut self, batch: &mut KeyedBatch<B::Key, O::In>) -> Result<()> {
        let records = batch.keys.len();
        let watermark = self.process.watermark();
        if watermark > i64::MIN {
            let late = |time: &&i64| **time <= watermark && **time != NO_TIMESTAMP;
            add(&self.attempt.metrics.late, batch.timestamps.iter().filter(late).count());
        }
        self.processing_time(self.attempt.config.clock.now_ms())?;
        let worked = self.records(batch);
        self.locate(worked)?;
        batch.clear();
        self.pass_on()?;
        if let Some(metrics) = &self.done {
            metrics.done(records);
        }
        set(&self.entries, self.process.backend_mut().entries());
        self.snapshot_step()?;
        Ok(())
    }

    fn signal(&mut self, signal: &mut Signal<'_>) -> Result<()> {
        match signal {
            // What ended before the checkpoint that was restored has been told everything.
            Signal::Watermark(_) | Signal::ProcessingTime(_) if self.ended => {}
            Signal::Watermark(watermark) => {
                self.fire_all()?;
                // It is passed on when its timers have fired, in steps: a barrier may come next.
                self.firing = Some(*watermark);
                return self.fire_some().map(drop);
            }
            Signal::ProcessingTime(now) => self.processing_time(*now)?,
            Signal::End if !self.ended => {
                self.fire_all()?;
                self.end()?;
                self.ended = true;
            }
            Signal::Barrier(cut) => {
                let start = Instant::now();
                let mut snapshot = cut.snapshot(self.subtask, self.key_groups);
                snapshot.watermark = Some(self.process.watermark()).filter(|time| *time > i64::MIN);
                snapshot.finished = self.ended;
                match self.process.operator_state().snapshot() {
                    Ok(entries) => snapshot.operator_state.extend(entries),
                    Err(error) => cut.fail(error.with("operator", &self.id).with("subtask", self.subtask)),
                }
                self.snapshots.prepare(self.process.backend_mut(), cut, &self.id, snapshot, start);
            }
            Signal::Close(_) => set(&self.entries, self.process.backend_mut().entries()),
            Signal::End | Signal::Complete(_) => {}
        }
        self.next.signal(signal)
    }

    fn work(&mut self) -> Result<Work> {
        let more = !self.fire_some()? | self.snapshot_step()?;
        let wake_at = self.process.next_processing_timer();
        let wake_at = self.locate(wake_at)?;
        Ok(Work { more, wake_at }.and(self.next.work()?))
    }
}
