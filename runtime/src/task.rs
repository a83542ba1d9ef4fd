//! The tasks: what runs in one thread, from its input to the end of its chain.

mod cut;
mod input;
mod mailbox;
mod receive;
mod source;
mod wiring;

use strandline_state_api::Result;

pub(crate) use cut::{Ack, Barrier, Cut};
pub(crate) use input::InputTask;
pub(crate) use mailbox::{Control, Mailbox, TaskEvent};
pub(crate) use receive::Sided;
pub(crate) use source::{POSITIONS, SourceTask};
pub(crate) use wiring::{ChannelReader, ChannelWriter, Message, Pattern, Wiring};

use crate::chain::Closing;

/// One subtask of a vertex, ready to run.
pub(crate) trait Task {
    /// Runs until the job is over, or until something fails.
    fn run(&mut self, mailbox: &Mailbox) -> Result<Closing>;
}
