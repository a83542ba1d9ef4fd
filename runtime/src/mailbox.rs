//! What the coordinator and the tasks exchange.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use strandline_checkpoint_protocol::{DeclineReason, TaskId};
use strandline_state_api::{AbortNotice, CheckpointId, Error, Result};

use crate::barrier::{Barrier, OperatorPart};
use crate::look_up::LookUp;
use crate::summary::TaskSummary;

/// A command to a task. The coordinator closes the channel where the task has to give up at once.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// Inject this barrier; to sources only.
    Trigger(Barrier),
    /// The checkpoint is complete.
    Complete(CheckpointId),
    /// The checkpoint will never be complete.
    Aborted(Arc<AbortNotice>),
    /// This barrier belongs to no checkpoint, and nobody waits for it any more.
    DropLive(CheckpointId),
    /// Somebody looks up a key.
    LookUp(Arc<LookUp>),
    /// The job is over.
    Finish,
}

/// An event of a task.
#[derive(Debug)]
pub(crate) enum TaskEvent {
    /// It has restored its state and starts.
    Opened,
    /// The snapshots of its operators are stored.
    Ack { task: TaskId, checkpoint: CheckpointId, parts: Vec<OperatorPart> },
    /// It cannot take part in a checkpoint.
    Decline { task: TaskId, checkpoint: CheckpointId, reason: DeclineReason, error: Option<Error> },
    /// It has a backlog from now on, or has none any more; from sources only.
    Backlog(TaskId, bool),
    /// Its input has ended, and all that follows from it was emitted.
    Drained(TaskId),
    /// Its thread ends.
    Exited(TaskId, Result<TaskSummary>),
    /// What runs the tasks cannot go on; from a host only.
    Failed(Error),
}

/// Where the events of a task go: to the coordinator, or to a host that brings them there.
#[derive(Clone)]
pub(crate) enum Events {
    Coordinator(Sender<TaskEvent>),
    Host(Arc<dyn Fn(TaskEvent) + Send + Sync>),
}

impl Events {
    /// Sends an event. After the end of an attempt nothing receives it.
    pub(crate) fn send(&self, event: TaskEvent) {
        match self {
            Self::Coordinator(events) => drop(events.send(event)),
            Self::Host(take) => take(event),
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// A task's side of both channels.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) task: TaskId,
    pub(crate) control: Receiver<Control>,
    pub(crate) events: Events,
}

impl Mailbox {
    /// Sends an event to the coordinator. After the end of an attempt nothing receives it; then the control
    /// channel is closed too, which ends the task.
    pub(crate) fn send(&self, event: TaskEvent) {
        self.events.send(event);
    }

    /// Declines a checkpoint that a newer one overtook.
    pub(crate) fn superseded(&self, checkpoint: Option<CheckpointId>) {
        if let Some(checkpoint) = checkpoint {
            let (task, reason) = (self.task, DeclineReason::Superseded);
            self.send(TaskEvent::Decline { task, checkpoint, reason, error: None });
        }
    }
}
