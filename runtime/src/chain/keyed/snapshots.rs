//! The snapshots of one keyed operator: from the barrier to the writer thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_storage::SubtaskSnapshot;
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyedBackend, OperatorId, Progress, Result, SnapshotSource,
    SnapshotWriter,
};

use crate::chain::assembly::Attempt;
use crate::cut::{Ack, Cut};
use crate::metrics::micros;
use crate::sync::cancelled;

/// What was prepared, and what is to be said once it is stored.
struct Job<P> {
    prepared: P,
    open: OpenSnapshot,
}

/// A snapshot whose barrier has passed.
struct OpenSnapshot {
    checkpoint: CheckpointId,
    ack: Arc<Ack>,
    operator: OperatorId,
    snapshot: SubtaskSnapshot,
}

/// Snapshots under way. Bound to the processing thread; a thread of its own writes what is ready, in order.
pub(crate) struct Snapshots<P> {
    open: VecDeque<OpenSnapshot>,
    /// `None` without checkpoints.
    jobs: Option<Sender<Job<P>>>,
    thread: Option<JoinHandle<()>>,
}

impl<P: Send + 'static> Snapshots<P> {
    pub(crate) fn start<W: SnapshotWriter<Prepared = P>>(
        attempt: &Arc<Attempt>,
        operator: &OperatorId,
        subtask: u32,
        writer: Option<W>,
    ) -> Result<Self> {
        let Some(writer) = writer else {
            return Ok(Self { open: VecDeque::new(), jobs: None, thread: None });
        };
        let (jobs, queue) = unbounded();
        let attempt = Arc::clone(attempt);
        let thread = std::thread::Builder::new()
            .name(format!("{operator}-{subtask}-snapshots"))
            .spawn(move || write(&attempt, writer, &queue))
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "no thread for the snapshots of an operator")
                    .with("operator", operator)
                    .caused_by(error)
            })?;
        Ok(Self { open: VecDeque::new(), jobs: Some(jobs), thread: Some(thread) })
    }

    /// The barrier is here.
    pub(crate) fn prepare<B: SnapshotSource<Prepared = P>>(
        &mut self,
        backend: &mut B,
        cut: &mut Cut,
        operator: &OperatorId,
        mut snapshot: SubtaskSnapshot,
        start: Instant,
    ) {
        let checkpoint = cut.barrier.checkpoint;
        if self.jobs.is_none() {
            cut.add(operator, snapshot, start.elapsed());
            return;
        }
        match backend.prepare(checkpoint, cut.barrier.kind) {
            Ok(()) => {
                let pause = start.elapsed();
                snapshot.trace.pause_us = micros(pause);
                let (operator, ack) = (operator.clone(), cut.owed());
                self.open.push_back(OpenSnapshot { checkpoint, ack, operator, snapshot });
            }
            Err(error) => cut.fail(error.with("operator", operator)),
        }
    }

    /// Moves about `budget` entries on; says whether there is more to do now.
    pub(crate) fn step<B>(&mut self, backend: &mut B, budget: usize) -> Result<bool>
    where
        B: KeyedBackend + SnapshotSource<Prepared = P>,
    {
        if self.open.is_empty() {
            return Ok(false);
        }
        match backend.advance(budget) {
            Ok(Progress::More) => Ok(true),
            Ok(Progress::Ready(checkpoint, prepared)) => {
                let open = self.open.pop_front().filter(|open| open.checkpoint == checkpoint);
                let mut open = open.ok_or_else(|| out_of_order(checkpoint))?;
                let statistics = backend.statistics();
                open.snapshot.statistics = statistics.into_iter().map(|(name, n)| (name.into(), n)).collect();
                let Some(jobs) = &self.jobs else { return Err(writer_gone()) };
                jobs.send(Job { prepared, open }).map_err(|_| writer_gone())?;
                Ok(!self.open.is_empty())
            }
            Ok(Progress::Idle) => {
                let error =
                    Error::new(ErrorKind::Internal, "the backend forgot a snapshot that was prepared");
                self.fail_oldest(&error);
                Err(error)
            }
            Err(error) => {
                self.fail_oldest(&error);
                Ok(!self.open.is_empty())
            }
        }
    }

    fn fail_oldest(&mut self, error: &Error) {
        if let Some(open) = self.open.pop_front() {
            open.ack.fail(Error::new(error.kind(), error.to_string()).with("operator", &open.operator));
        }
    }
}

impl<P> Drop for Snapshots<P> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was turned into a failed snapshot already.
            let _ = thread.join();
        }
    }
}

/// Stores what is ready until nothing more can come.
fn write<W: SnapshotWriter>(attempt: &Attempt, mut writer: W, queue: &Receiver<Job<W::Prepared>>) {
    let Some(store) = attempt.store.clone() else { return };
    while let Ok(Job { prepared, open }) = queue.recv() {
        let OpenSnapshot { checkpoint, ack, operator, mut snapshot } = open;
        let start = Instant::now();
        let store = store.at(checkpoint);
        let mut stop = attempt.cancelled.clone();
        let stored = attempt.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = stop.wait_for(|cancelled| *cancelled) => Err(cancelled()),
                stored = writer.commit(prepared, store.as_ref()) => stored,
            }
        });
        match stored {
            Ok(keyed) => {
                snapshot.trace.write_us = micros(start.elapsed());
                snapshot.trace.bytes_written = keyed.written_bytes;
                snapshot.trace.full_bytes = keyed.full_bytes();
                snapshot.keyed = keyed;
                ack.complete(&operator, snapshot);
            }
            Err(error) => {
                ack.fail(error.with("operator", &operator).with("subtask", snapshot.subtask));
            }
        }
    }
}

fn writer_gone() -> Error {
    Error::new(ErrorKind::Internal, "the thread that writes snapshots has died")
}

fn out_of_order(checkpoint: CheckpointId) -> Error {
    Error::new(ErrorKind::Internal, "the backend handed over a snapshot out of order")
        .with("checkpoint", checkpoint)
}
