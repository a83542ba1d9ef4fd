//! The task of a source and the chain behind it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use strandline_state_api::{KeyGroupRange, OperatorId, OperatorStateEntry, Output, Redistribution, Result};

use super::Task;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::slot::Slot;
use crate::chain::{Collector, Signal, Work};
use crate::channel::Barrier;
use crate::cut::Cut;
use crate::mailbox::{Closing, Control, Mailbox, TaskEvent};
use crate::metrics::add;
use crate::reserved::POSITIONS;
use crate::source::{Source, SourceContext, SourceFactory, SourceStatus};
use crate::sync::cancelled;

/// How long half-filled batches may wait while there is more to read.
pub(crate) const FLUSH_AFTER: Duration = Duration::from_millis(5);
const IDLE_MIN: Duration = Duration::from_micros(500);
const IDLE_MAX: Duration = Duration::from_millis(10);

/// One subtask of a source.
pub(crate) struct SourceTask<S: Source> {
    id: OperatorId,
    subtask: u32,
    source: S,
    output: Output<S::Out>,
    next: Collector<S::Out>,
    phase: Phase,
    read: Arc<AtomicU64>,
    attempt: Arc<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Behind the barrier of a graceful stop.
    Stopped,
    /// Everything was read.
    Ended,
}

impl<S: Source + 'static> SourceTask<S> {
    pub(crate) fn build<F: SourceFactory<Source = S>>(
        assembly: &mut Assembly,
        id: &OperatorId,
        factory: &F,
        next: &Slot<S::Out>,
    ) -> Result<Box<dyn Task>> {
        let subtask = assembly.subtask;
        let restored = assembly.restored(id).map(|restored| restored.elements(POSITIONS));
        let context = SourceContext { subtask, parallelism: assembly.parallelism(), restored };
        let source =
            factory.open(context).map_err(|error| error.with("operator", id).with("subtask", subtask))?;
        let next = next.build(assembly)?;
        let attempt = Arc::clone(&assembly.attempt);
        let read = attempt.metrics.read(id);
        let (id, output, phase) = (id.clone(), Output::new(), Phase::Reading);
        Ok(Box::new(Self { id, subtask, source, output, next, phase, read, attempt }))
    }

    /// Reads a batch and passes it on; says what to do next.
    fn read(&mut self, mailbox: &Mailbox) -> Result<SourceStatus> {
        let status = self.source.poll(self.attempt.config.batch_size, &mut self.output);
        let status = self.locate(status)?;
        if !self.output.is_empty() {
            add(&self.read, self.output.len());
            self.next.collect(&mut self.output)?;
        }
        if status == SourceStatus::End {
            self.phase = Phase::Ended;
            self.next.signal(&mut Signal::Watermark(i64::MAX))?;
            self.next.signal(&mut Signal::End)?;
            mailbox.tell(TaskEvent::Drained(mailbox.task));
        }
        Ok(status)
    }

    /// Does what the coordinator says; `true` when the job is over.
    fn obey(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Trigger(barrier) => self.inject(barrier, mailbox)?,
            Control::Complete(checkpoint) => self.next.signal(&mut Signal::Complete(checkpoint))?,
            Control::Aborted(_) => {}
            Control::Finish => return Ok(true),
        }
        Ok(false)
    }

    fn inject(&mut self, barrier: Barrier, mailbox: &Mailbox) -> Result<()> {
        let start = Instant::now();
        if barrier.stop && self.phase == Phase::Reading {
            self.phase = Phase::Stopped;
        }
        let mut cut = Cut::new(barrier, start, mailbox.task, mailbox.events.clone());
        let positions = self.source.positions();
        let elements =
            self.locate(positions.map_err(|error| error.with("checkpoint", barrier.checkpoint)))?;
        let mut snapshot = cut.snapshot(self.subtask, KeyGroupRange::EMPTY);
        snapshot.finished = self.phase == Phase::Ended;
        snapshot.operator_state.push(OperatorStateEntry {
            name: POSITIONS.to_owned(),
            redistribution: Redistribution::Union,
            codec: "bytes".to_owned(),
            schema_version: 1,
            elements,
        });
        cut.add(&self.id, snapshot, start.elapsed());
        self.next.signal(&mut Signal::Barrier(&mut cut))?;
        cut.close();
        Ok(())
    }

    /// Waits for the coordinator, at most `wait`.
    fn wait(&mut self, wait: Option<Duration>, mailbox: &Mailbox) -> Result<bool> {
        let control = match wait {
            None => mailbox.control.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => mailbox.control.recv_timeout(wait),
        };
        match control {
            Ok(control) => self.obey(control, mailbox),
            Err(RecvTimeoutError::Timeout) => {
                let now = self.attempt.config.clock.now_ms();
                self.next.signal(&mut Signal::ProcessingTime(now))?;
                Ok(false)
            }
            Err(RecvTimeoutError::Disconnected) => Err(cancelled()),
        }
    }

    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with("operator", &self.id).with("subtask", self.subtask))
    }

    fn close(&mut self) -> Result<Closing> {
        let mut closing = Closing::default();
        self.next.signal(&mut Signal::Close(&mut closing))?;
        Ok(closing)
    }
}

impl<S: Source + 'static> Task for SourceTask<S> {
    fn run(&mut self, mailbox: &Mailbox) -> Result<Closing> {
        let mut idle = IDLE_MIN;
        let mut flushed = Instant::now();
        loop {
            match mailbox.control.try_recv() {
                Ok(control) => {
                    if self.obey(control, mailbox)? {
                        return self.close();
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return Err(cancelled()),
                Err(TryRecvError::Empty) => {}
            }
            if self.phase == Phase::Reading {
                match self.read(mailbox)? {
                    SourceStatus::More => {
                        idle = IDLE_MIN;
                        if flushed.elapsed() >= FLUSH_AFTER {
                            self.next.work()?;
                            flushed = Instant::now();
                        }
                        continue;
                    }
                    SourceStatus::Idle => idle = (idle * 2).min(IDLE_MAX),
                    SourceStatus::End => {}
                }
            }
            let work = self.next.work()?;
            flushed = Instant::now();
            if work.more {
                continue;
            }
            let wait = match self.phase {
                Phase::Reading => Some(until(work, &self.attempt).map_or(idle, |timer| timer.min(idle))),
                // Nothing may happen behind the barrier of a stop, and nothing can behind the end.
                Phase::Stopped | Phase::Ended => None,
            };
            if self.wait(wait, mailbox)? {
                return self.close();
            }
        }
    }
}

/// How long a task may sleep while a processing timer is pending: the clock may jump, and only it knows.
const DOZE: Duration = Duration::from_millis(100);

/// How long to wait for the earliest processing timer.
pub(crate) fn until(work: Work, attempt: &Attempt) -> Option<Duration> {
    let ahead = work.wake_at?.saturating_sub(attempt.config.clock.now_ms());
    Some(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)).min(DOZE))
}
