//! The tasks: what runs in one thread, from its input to the end of its chain.

pub(crate) mod input;
pub(crate) mod source;

use std::time::Duration;

use strandline_state_api::{CheckpointId, Result};

use self::input::{InputTask, OpenedInputs};
use self::source::SourceTask;
use crate::chain::assembly::{Assembly, Attempt};
use crate::chain::{Signal, Stage, Work};
use crate::mailbox::Mailbox;
use crate::summary::TaskSummary;

/// One subtask of a vertex, ready to run.
pub(crate) trait Task {
    /// Runs until the job is over, or until something fails.
    fn run(&mut self, mailbox: &Mailbox) -> Result<TaskSummary>;
}

/// A vertex that was built for one subtask, and that nothing runs yet.
pub(crate) enum Head {
    Source(Box<SourceTask>),
    Inputs(Box<OpenedInputs>),
}

impl Head {
    /// The task that reads from the channels of its attempt.
    pub(crate) fn into_task(self, assembly: &Assembly) -> Result<Box<dyn Task>> {
        Ok(match self {
            Self::Source(task) => task,
            Self::Inputs(opened) => Box::new(InputTask::new(assembly, *opened)?),
        })
    }
}

/// When a subtask has something to do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Again,
    /// After so long, or when something comes for it.
    After(Duration),
    /// When something comes for it.
    Resting,
}

/// How long half-filled batches may wait while there is more to read.
const FLUSH_AFTER: Duration = Duration::from_millis(5);

/// The longest sleep of a task while a processing timer is pending: only the clock knows when it jumps.
const DOZE: Duration = Duration::from_millis(100);

/// How long to wait for the earliest processing timer.
fn until_timer(work: Work, attempt: &Attempt) -> Option<Duration> {
    let ahead = work.wake_at?.as_millis().saturating_sub(attempt.config.clock.now().as_millis());
    Some(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)).min(DOZE))
}

/// Collects the summaries of a chain whose job is over.
fn close(chain: &mut dyn Stage) -> Result<TaskSummary> {
    let mut summary = TaskSummary::default();
    chain.signal(&mut Signal::Close(&mut summary))?;
    Ok(summary)
}

/// Commits what belongs to a complete checkpoint.
fn complete(chain: &mut dyn Stage, checkpoint: CheckpointId) -> Result<()> {
    chain.signal(&mut Signal::Complete(checkpoint))
}

/// Sets the processing time of a chain.
fn set_processing_time(chain: &mut dyn Stage, attempt: &Attempt) -> Result<()> {
    chain.signal(&mut Signal::ProcessingTime(attempt.config.clock.now()))
}
