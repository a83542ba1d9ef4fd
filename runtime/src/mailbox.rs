//! What the coordinator and the tasks exchange.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender};
use strandline_checkpoint_protocol::{DeclineReason, TaskId};
use strandline_checkpoint_storage::SubtaskSnapshot;
use strandline_state_api::{CheckpointId, Error, OperatorId, Result};

use crate::channel::Barrier;

/// To a task. The coordinator closes the channel where the task has to give up at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// Inject this barrier; to sources only.
    Trigger(Barrier),
    /// The checkpoint is complete.
    Complete(CheckpointId),
    /// The checkpoint will never be complete.
    Aborted(CheckpointId),
    /// The job is over.
    Finish,
}

/// From a task.
#[derive(Debug)]
pub(crate) enum TaskEvent {
    /// It has restored its state and begins.
    Opened,
    /// Its part of a checkpoint is stored.
    Ack { task: TaskId, checkpoint: CheckpointId, parts: Vec<(OperatorId, SubtaskSnapshot)> },
    /// It cannot take part in a checkpoint.
    Decline { task: TaskId, checkpoint: CheckpointId, reason: DeclineReason, error: Option<Error> },
    /// Its input has ended, and all that follows from it was emitted.
    Drained(TaskId),
    /// Its thread ends.
    Exited(TaskId, Result<Closing>),
}

/// What a task hands in when its job is over.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// By sink.
    pub(crate) summaries: Vec<(String, BTreeMap<String, String>)>,
}

/// A task's side of both channels.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) task: TaskId,
    pub(crate) control: Receiver<Control>,
    pub(crate) events: Sender<TaskEvent>,
}

impl Mailbox {
    /// Tells the coordinator something. After the end of an attempt nobody listens; then the control channel is closed too,
    /// which ends the task.
    pub(crate) fn tell(&self, event: TaskEvent) {
        let _ = self.events.send(event);
    }

    /// Declines a checkpoint that a newer one overtook.
    pub(crate) fn superseded(&self, checkpoint: Option<CheckpointId>) {
        if let Some(checkpoint) = checkpoint {
            let (task, reason) = (self.task, DeclineReason::Superseded);
            self.tell(TaskEvent::Decline { task, checkpoint, reason, error: None });
        }
    }
}
