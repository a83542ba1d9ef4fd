//! One subtask, to be driven by a host.

use std::fmt;
use std::sync::Arc;

use strandline_checkpoint_protocol::TaskId;
use strandline_state_api::{CheckpointId, Result};

use super::attempt::Attempt;
use super::parcel::{Outgoing, Parcel};
use super::plan::PlanVertex;
use super::wire::{Command, Event};
use crate::chain::assembly::Assembly;
use crate::channel::EdgeId;
use crate::channel::outbox::Outbox;
use crate::mailbox::{Events, Mailbox, TaskEvent};
use crate::summary::TaskSummary;
use crate::sync::{guarded, located};
use crate::task::input::hosted::HostedInputs;
use crate::task::source::hosted::HostedSource;
use crate::task::{Head, Turn};
use crate::urgency::Urgency;

/// One subtask of a vertex: a source, operator or sink with all that runs behind it. It waits for nothing but
/// its store while it opens, and what a source or sink waits for.
///
/// It reports its own end, also by an error, and does nothing from then on.
pub struct Subtask {
    id: strandline_state_api::OperatorId,
    body: Option<Body>,
    outbox: Outbox,
    mailbox: Mailbox,
}

enum Body {
    Source(HostedSource),
    Inputs(HostedInputs),
}

impl Subtask {
    /// Opens subtask `number` of `vertex`: makes the operators and restores their state. `report` takes the
    /// events of the subtask, from any thread.
    ///
    /// What goes wrong is an event.
    pub fn open(
        attempt: &Attempt,
        vertex: &PlanVertex,
        number: u32,
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let outbox = Outbox::new(&attempt.used);
        let task = TaskId { vertex: vertex.number, subtask: number, attempt: attempt.life };
        let events = Events::Host(Arc::new(move |event| report(Event(event))));
        let mailbox = Mailbox { task, control: crossbeam_channel::never(), events };
        let mut subtask = Self { id: vertex.id().clone(), body: None, outbox: outbox.clone(), mailbox };
        let mailbox = &subtask.mailbox;
        let opened = guarded(|| {
            let inner = Arc::clone(&attempt.inner);
            let urgency = Arc::new(Urgency::new(inner.threads.now()));
            let assembly = Assembly::new(inner, vertex.id().clone(), number, urgency);
            let mut assembly = assembly.send_to(outbox);
            let head = (vertex.vertex.build)(&mut assembly)?;
            mailbox.send(TaskEvent::Opened);
            Ok(match head {
                Head::Source(task) => Body::Source(HostedSource::start(*task, mailbox)?),
                Head::Inputs(opened) => Body::Inputs(HostedInputs::start(&assembly, *opened, &attempt.used)),
            })
        });
        match opened {
            Ok(body) => subtask.body = Some(body),
            Err(error) => subtask.ended(Err(error)),
        }
        subtask
    }

    /// Whether it has ended, by a command or by an error that it has reported.
    pub fn has_ended(&self) -> bool {
        self.body.is_none()
    }

    /// Whether it is a source that reads.
    pub fn is_reading(&self) -> bool {
        matches!(&self.body, Some(Body::Source(source)) if source.is_reading())
    }

    /// Follows a command of the coordinator.
    pub fn command(&mut self, command: Command) {
        let done = self.guarded(|body, mailbox| match body {
            Body::Source(source) => source.control(command.0, mailbox),
            Body::Inputs(inputs) => inputs.control(command.0),
        });
        if let Some(Some(summary)) = done {
            self.ended(Ok(summary));
        }
    }

    /// Takes what subtask `from` of the vertex at the other end of `edge` has sent.
    pub fn deliver(&mut self, edge: u32, from: u32, parcel: Parcel) {
        self.guarded(|body, mailbox| match body {
            Body::Source(_) => Ok(()),
            Body::Inputs(inputs) => {
                let message = parcel.open(inputs.format(EdgeId(edge)))?;
                inputs.take(EdgeId(edge), from, message, mailbox)
            }
        });
    }

    /// Takes its snapshot for a checkpoint: everything from before its barrier was delivered, and nothing from
    /// behind. Does nothing for a source, which cuts itself.
    pub fn cut(&mut self, checkpoint: CheckpointId) {
        self.guarded(|body, mailbox| match body {
            Body::Source(_) => Ok(()),
            Body::Inputs(inputs) => {
                inputs.cut(checkpoint, mailbox)?;
                inputs.forget_aborted(checkpoint.next());
                Ok(())
            }
        });
    }

    /// Does a bounded piece of work: a source reads a batch if it `may_read`, timers fire, half-filled batches
    /// leave, snapshots go on.
    pub fn turn(&mut self, may_read: bool) -> Turn {
        let turn = self.guarded(|body, mailbox| match body {
            Body::Source(source) => source.turn(may_read, mailbox),
            Body::Inputs(inputs) => inputs.turn(),
        });
        turn.unwrap_or(Turn::Resting)
    }

    /// Takes the oldest message that it has sent and that was not taken.
    pub fn take_output(&mut self) -> Option<Outgoing> {
        self.outbox.pop().map(Outgoing::from)
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut Body, &Mailbox) -> Result<T>) -> Option<T> {
        let Self { body, mailbox, .. } = self;
        let body = body.as_mut()?;
        match guarded(|| work(body, mailbox)) {
            Ok(done) => Some(done),
            Err(error) => {
                self.ended(Err(error));
                None
            }
        }
    }

    fn ended(&mut self, result: Result<TaskSummary>) {
        let task = self.mailbox.task;
        let result = result.map_err(|error| located(error, &self.id, task.subtask));
        // Sent before it is dropped, which may take a while when a snapshot is being written.
        self.mailbox.send(TaskEvent::Exited(task, result));
        self.body = None;
    }
}

impl fmt::Debug for Subtask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subtask({}-{})", self.id, self.mailbox.task.subtask)
    }
}
