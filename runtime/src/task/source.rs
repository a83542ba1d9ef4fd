//! The task of a source and the chain behind it.

pub(crate) mod hosted;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use strandline_checkpoint_storage::{OperatorAssignment, OperatorTypes, encode_each};
use strandline_state_api::{Batch, Error, ErrorKind, KeyGroupRange, OperatorId, Result, Timestamp};

use super::{FLUSH_AFTER, Head, Task, close, complete, set_processing_time, until_timer};
use crate::barrier::Barrier;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::slot::Slot;
use crate::chain::{Collector, Signal, Stage};
use crate::mailbox::{Control, Mailbox, TaskEvent};
use crate::metrics::{SourceGauge, Tally};
use crate::passing::PassingBarrier;
use crate::source::{Extent, Source, SourceContext, SourceFactory, SourceStatus, SourceTime};
use crate::summary::TaskSummary;
use crate::sync::cancelled;
use crate::urgency::Urgency;

const IDLE_MIN: Duration = Duration::from_micros(500);
const IDLE_MAX: Duration = Duration::from_millis(10);

/// One subtask of a source.
pub(crate) struct SourceTask {
    id: OperatorId,
    subtask: u32,
    reader: Box<dyn Reader>,
    /// The type of its positions.
    types: Arc<OperatorTypes>,
    progress: ReadProgress,
    /// What the coordinator knows of it.
    backlog: bool,
    /// What it announced last.
    announced: SourceTime,
    read: Tally,
    gauge: Arc<SourceGauge>,
    /// Records that this attempt passed on.
    passed_on: u64,
    urgency: Arc<Urgency>,
    attempt: Arc<Attempt>,
}

/// A source with the chain behind it, without the type of its records.
trait Reader: Send {
    /// Reads a batch; returns how many records it has.
    fn poll(&mut self, max: usize) -> Result<(SourceStatus, usize)>;

    /// Passes the batch on.
    fn pass_on(&mut self) -> Result<()>;

    /// As [`Source::has_backlog`].
    fn has_backlog(&self) -> bool;

    /// As [`Source::time`].
    fn time(&mut self) -> Option<SourceTime>;

    /// As [`Source::extent`].
    fn extent(&self) -> Option<Extent>;

    /// The encoded positions of the source.
    fn positions(&self) -> Result<Vec<Vec<u8>>>;

    /// What lies behind the source.
    fn next(&mut self) -> &mut dyn Stage;
}

struct SourceReader<S: Source> {
    source: S,
    output: Batch<S::Out>,
    next: Collector<S::Out>,
}

impl<S: Source> Reader for SourceReader<S> {
    fn poll(&mut self, max: usize) -> Result<(SourceStatus, usize)> {
        let status = self.source.poll(max, &mut self.output)?;
        Ok((status, self.output.len()))
    }

    fn pass_on(&mut self) -> Result<()> {
        self.next.collect(&mut self.output)
    }

    fn has_backlog(&self) -> bool {
        self.source.has_backlog()
    }

    fn time(&mut self) -> Option<SourceTime> {
        self.source.time()
    }

    fn extent(&self) -> Option<Extent> {
        self.source.extent()
    }

    fn positions(&self) -> Result<Vec<Vec<u8>>> {
        encode_each(&self.source.positions()?)
    }

    fn next(&mut self) -> &mut dyn Stage {
        &mut *self.next
    }
}

/// How far a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadProgress {
    Reading,
    /// Behind the barrier of a graceful stop.
    Stopped,
    /// At the end of the input.
    Ended,
    /// As [`Ended`](Self::Ended), since before the restored checkpoint: what lies behind has not been
    /// notified in this attempt. Nothing is read, even where the input has grown since: a source that reads
    /// on has been reopened.
    EndedBefore,
}

impl SourceTask {
    pub(crate) fn build<F: SourceFactory>(
        assembly: &mut Assembly,
        id: &OperatorId,
        factory: &F,
        next: &Slot<<F::Source as Source>::Out>,
    ) -> Result<Head>
    where
        F::Source: 'static,
    {
        let (subtask, parallelism) = (assembly.subtask, assembly.parallelism());
        let restored = assembly.restored(id).map(OperatorAssignment::positions_as).transpose();
        let source =
            restored.and_then(|restored| factory.open(SourceContext { subtask, parallelism, restored }));
        let source = source.map_err(|error| error.with("operator", id).with("subtask", subtask))?;
        let reader = SourceReader { source, output: Batch::new(), next: next.build(assembly)? };
        let described = <F::Source as Source>::describe_positions();
        let types = described.map_or_else(
            OperatorTypes::of_positions::<<F::Source as Source>::Position>,
            OperatorTypes::with_positions,
        );
        Ok(Head::Source(Box::new(Self::new(assembly, id, Box::new(reader), types))))
    }

    fn new(assembly: &Assembly, id: &OperatorId, reader: Box<dyn Reader>, types: OperatorTypes) -> Self {
        let attempt = Arc::clone(&assembly.attempt);
        let read = attempt.metrics.read(id);
        let ended = assembly.restored_here(id).is_some_and(|restored| restored.finished);
        let progress = if ended { ReadProgress::EndedBefore } else { ReadProgress::Reading };
        let (id, subtask) = (id.clone(), assembly.subtask);
        let (announced, urgency) = (SourceTime::default(), Arc::clone(&assembly.urgency));
        let gauge = attempt.metrics.source(&id, subtask);
        gauge.set_extent(reader.extent());
        let (backlog, passed_on, types) = (false, 0, Arc::new(types));
        Self {
            id,
            subtask,
            reader,
            types,
            progress,
            backlog,
            announced,
            read,
            gauge,
            passed_on,
            urgency,
            attempt,
        }
    }

    /// Reads a batch and passes it on; returns whether there is more.
    fn read(&mut self, mailbox: &Mailbox) -> Result<SourceStatus> {
        let polled = self.reader.poll(self.attempt.config.batch_size);
        let (status, records) = self.locate(polled)?;
        let ends = matches!(status, SourceStatus::End | SourceStatus::EndOfRun);
        let backlog = !ends && self.reader.has_backlog();
        if backlog != self.backlog {
            self.backlog = backlog;
            mailbox.send(TaskEvent::Backlog(mailbox.task, backlog));
        }
        if records > 0 {
            self.read.add(records);
            self.reader.pass_on().map_err(|error| self.at_records(error, records))?;
            self.passed_on += records as u64;
        }
        self.gauge.set_extent(self.reader.extent());
        self.announce()?;
        if ends {
            self.end(status, mailbox)?;
        }
        Ok(status)
    }

    /// Passes on that the input has ended.
    fn end(&mut self, status: SourceStatus, mailbox: &Mailbox) -> Result<()> {
        self.progress = ReadProgress::Ended;
        // Nobody waits for it any more.
        self.gauge.set_time(self.announced.watermark, true);
        if status == SourceStatus::End {
            self.reader.next().signal(&mut Signal::Watermark(Timestamp::MAX))?;
        }
        self.reader.next().signal(&mut Signal::End)?;
        mailbox.send(TaskEvent::Drained(mailbox.task));
        Ok(())
    }

    /// Announces how far event time is, where the source knows it.
    fn announce(&mut self) -> Result<()> {
        let Some(SourceTime { watermark, idle }) = self.reader.time() else { return Ok(()) };
        let before = self.announced;
        let watermark = watermark.max(before.watermark);
        self.announced = SourceTime { watermark, idle };
        self.gauge.set_time(watermark, idle);
        // A watermark that does not rise shows that the subtask is not idle any more.
        if watermark > before.watermark || (before.idle && !idle) {
            let watermark = watermark.unwrap_or(Timestamp::MIN);
            self.reader.next().signal(&mut Signal::Watermark(watermark))?;
        }
        if idle && !before.idle {
            self.reader.next().signal(&mut Signal::Idle)?;
        }
        Ok(())
    }

    /// Follows a command of the coordinator; returns whether the job is over.
    fn handle_control(&mut self, control: Control, mailbox: &Mailbox) -> Result<bool> {
        match control {
            Control::Trigger(barrier) => self.inject(barrier, mailbox)?,
            Control::Complete(checkpoint) => complete(self.reader.next(), checkpoint)?,
            Control::Aborted(aborted) => self.reader.next().signal(&mut Signal::Aborted(&aborted))?,
            Control::DropLive(checkpoint) => {
                self.reader.next().signal(&mut Signal::DropLive(checkpoint))?;
            }
            Control::LookUp(look_up) => self.reader.next().signal(&mut Signal::LookUp(&look_up))?,
            Control::Finish => return Ok(true),
        }
        Ok(false)
    }

    fn inject(&mut self, barrier: Barrier, mailbox: &Mailbox) -> Result<()> {
        let threads = self.attempt.threads.clone();
        let start = threads.now();
        if barrier.stop && self.progress == ReadProgress::Reading {
            self.progress = ReadProgress::Stopped;
        }
        let events = mailbox.events.clone();
        let checkpoint = barrier.checkpoint;
        let mut passing = PassingBarrier::new(barrier, start, Duration::ZERO, mailbox.task, events);
        let positions = self.reader.positions().map_err(|error| error.with("checkpoint", checkpoint));
        let mut snapshot = passing.snapshot(self.subtask, KeyGroupRange::EMPTY);
        snapshot.positions = self.locate(positions)?;
        snapshot.finished = self.progress == ReadProgress::Ended;
        snapshot.types = Arc::clone(&self.types);
        passing.cut(&self.read);
        passing.add(&self.id, snapshot, threads.since(start));
        self.reader.next().signal(&mut Signal::Barrier(&mut passing))?;
        passing.close();
        Ok(())
    }

    /// Waits for the coordinator, at most `wait`; returns whether the job is over.
    fn wait(&mut self, wait: Option<Duration>, mailbox: &Mailbox) -> Result<bool> {
        match self.attempt.threads.recv_within(&mailbox.control, wait) {
            Ok(control) => self.handle_control(control, mailbox),
            Err(RecvTimeoutError::Timeout) => {
                set_processing_time(self.reader.next(), &self.attempt)?;
                Ok(false)
            }
            Err(RecvTimeoutError::Disconnected) => Err(cancelled()),
        }
    }

    /// Adds which records an error of the user's code is about, unless it names its record itself.
    #[cold]
    fn at_records(&self, error: Error, records: usize) -> Error {
        if error.kind() != ErrorKind::User || error.context("key").is_some() {
            return error;
        }
        let (first, last) = (self.passed_on + 1, self.passed_on + records as u64);
        let error = error.with("records", format!("{first} to {last} of {}-{}", self.id, self.subtask));
        match &self.attempt.restored {
            Some(restored) => error.with("since checkpoint", restored.checkpoint),
            None => error,
        }
    }

    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with("operator", &self.id).with("subtask", self.subtask))
    }
}

impl Task for SourceTask {
    fn run(&mut self, mailbox: &Mailbox) -> Result<TaskSummary> {
        let mut idle = IDLE_MIN;
        let threads = self.attempt.threads.clone();
        let mut flushed = threads.now();
        if self.progress == ReadProgress::EndedBefore {
            self.end(SourceStatus::End, mailbox)?;
        }
        loop {
            threads.pass();
            self.urgency.calm();
            match mailbox.control.try_recv() {
                Ok(control) => {
                    if self.handle_control(control, mailbox)? {
                        return close(self.reader.next());
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return Err(cancelled()),
                Err(TryRecvError::Empty) => {}
            }
            if self.progress == ReadProgress::Reading {
                match self.read(mailbox)? {
                    SourceStatus::More => {
                        idle = IDLE_MIN;
                        if threads.since(flushed) >= FLUSH_AFTER {
                            self.reader.next().work()?;
                            flushed = threads.now();
                        }
                        continue;
                    }
                    SourceStatus::Idle => idle = (idle * 2).min(IDLE_MAX),
                    SourceStatus::End | SourceStatus::EndOfRun => {}
                }
            }
            let work = self.reader.next().work()?;
            flushed = threads.now();
            if work.more {
                continue;
            }
            let wait = match self.progress {
                ReadProgress::Reading => {
                    Some(until_timer(work, &self.attempt).map_or(idle, |timer| timer.min(idle)))
                }
                // Nothing may happen behind the barrier of a stop, and nothing can behind the end.
                ReadProgress::Stopped | ReadProgress::Ended | ReadProgress::EndedBefore => None,
            };
            if self.wait(wait, mailbox)? {
                return close(self.reader.next());
            }
        }
    }
}
