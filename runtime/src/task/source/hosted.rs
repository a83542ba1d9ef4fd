//! A source in the hands of a host, which calls it when it has time.

use std::time::{Duration, Instant};

use strandline_state_api::Result;

use super::{IDLE_MAX, IDLE_MIN, ReadProgress, SourceTask};
use crate::mailbox::{Control, Mailbox};
use crate::source::SourceStatus;
use crate::summary::TaskSummary;
use crate::task::{FLUSH_AFTER, Turn, close, set_processing_time, until_timer};

/// One subtask of a source without a thread.
pub(crate) struct HostedSource {
    task: SourceTask,
    idle: Duration,
    flushed: Instant,
}

impl HostedSource {
    /// Takes over a source that was built.
    pub(crate) fn start(mut task: SourceTask, mailbox: &Mailbox) -> Result<Self> {
        if task.progress == ReadProgress::EndedBefore {
            task.end(SourceStatus::End, mailbox)?;
        }
        let flushed = task.attempt.threads.now();
        Ok(Self { task, idle: IDLE_MIN, flushed })
    }

    /// Whether it would read, were it called.
    pub(crate) fn is_reading(&self) -> bool {
        self.task.progress == ReadProgress::Reading
    }

    /// Follows a command of the coordinator; returns the summaries of its sinks when the job is over.
    pub(crate) fn control(&mut self, control: Control, mailbox: &Mailbox) -> Result<Option<TaskSummary>> {
        match self.task.handle_control(control, mailbox)? {
            true => close(self.task.reader.next()).map(Some),
            false => Ok(None),
        }
    }

    /// Reads a batch if it `may_read`, and does what waits beside records.
    pub(crate) fn turn(&mut self, may_read: bool, mailbox: &Mailbox) -> Result<Turn> {
        let threads = self.task.attempt.threads.clone();
        if self.is_reading() && may_read {
            match self.task.read(mailbox)? {
                SourceStatus::More => {
                    self.idle = IDLE_MIN;
                    if threads.since(self.flushed) >= FLUSH_AFTER {
                        self.task.reader.next().work()?;
                        self.flushed = threads.now();
                    }
                    return Ok(Turn::Again);
                }
                SourceStatus::Idle => self.idle = (self.idle * 2).min(IDLE_MAX),
                SourceStatus::End | SourceStatus::EndOfRun => {}
            }
        }
        set_processing_time(self.task.reader.next(), &self.task.attempt)?;
        let work = self.task.reader.next().work()?;
        self.flushed = threads.now();
        if work.more {
            return Ok(Turn::Again);
        }
        let timer = until_timer(work, &self.task.attempt);
        let wait = if self.is_reading() {
            Some(timer.map_or(self.idle, |timer| timer.min(self.idle)))
        } else {
            None
        };
        Ok(wait.map_or(Turn::Resting, Turn::After))
    }
}
