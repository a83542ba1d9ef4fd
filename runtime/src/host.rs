//! What another host needs to run a [`Pipeline`](crate::Pipeline): its plan, its subtasks without threads, and
//! what the coordinator and they exchange.
//!
//! [`run_on`](crate::run_on) claims the storage, chooses the checkpoint, takes checkpoints, commits them and
//! restarts, as [`run`](crate::run) does. In place of threads and channels it calls a [`Host`], once for each
//! attempt. For every vertex of the [`Plan`] and every number below the parallelism the host opens one
//! [`Subtask`], on whatever thread and in whatever process, and keeps five rules:
//!
//! * **Order.** The messages from one subtask to another over one edge arrive in the order in which they were
//!   sent. So do commands to one subtask.
//! * **Cut.** For every checkpoint, in the order of their numbers and without a gap, the host calls
//!   [`Subtask::cut`] on a subtask with inputs when it has delivered all that was sent to it before the barrier
//!   of that checkpoint, and nothing that was sent behind. A source cuts itself, at the command that
//!   [triggers](Command::triggers) a checkpoint. What is [taken](Subtask::take_output) from a subtask before it
//!   returns from that call or command was sent before the barrier, and the barrier itself with it.
//! * **Events.** What a subtask reports reaches the coordinator, and what the coordinator commands reaches its
//!   subtask, until the [`Commands`] end.
//! * **End.** When the commands end, the attempt is over, whatever its subtasks do: the host drops them. So it
//!   does when [`Host::start`] returned a value that is dropped.
//! * **Failure.** What keeps the host from going on, it reports ([`Attempt::fail`]).
//!
//! What crosses processes becomes bytes: records by the codec of their stream
//! ([`KeyedStream::codec`](crate::KeyedStream::codec), [`Stream::codec`](crate::Stream::codec)), commands, events
//! and the description of an attempt by [serde].

mod attempt;
mod parcel;
mod plan;
mod subtask;
mod wire;

use strandline_state_api::Result;

pub(crate) use self::attempt::AttemptParts;
pub use self::attempt::{Attempt, Commands, Description, Directed};
pub use self::parcel::{EdgeCodec, Outgoing, Parcel};
pub use self::plan::{Plan, PlanEdge, PlanVertex, Routing};
pub use self::subtask::Subtask;
pub use self::wire::{Command, Counts, Event};
pub use crate::task::Turn;

/// Runs the subtasks of attempts.
pub trait Host: Send {
    /// Returns how many subtasks each vertex has: in place of
    /// [`JobConfig::parallelism`](crate::JobConfig#structfield.parallelism).
    fn parallelism(&self) -> u32;

    /// Refuses a job that cannot run here, before anything is claimed.
    ///
    /// # Errors
    /// `Unsupported` with what is in the way, and what to do.
    fn check(&self, plan: &Plan) -> Result<()>;

    /// Starts all subtasks of an attempt. The value that it returns is dropped when the attempt is over, and
    /// that drop returns once no subtask is left.
    ///
    /// # Errors
    /// When they cannot be started: the attempt fails.
    fn start(&mut self, attempt: Attempt) -> Result<Box<dyn Send>>;
}
