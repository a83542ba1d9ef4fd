//! The tasks: what runs in one thread, from its input to the end of its chain.

pub(crate) mod input;
mod receive;
pub(crate) mod source;

use strandline_state_api::Result;

use crate::mailbox::{Closing, Mailbox};

/// One subtask of a vertex, ready to run.
pub(crate) trait Task {
    /// Runs until the job is over, or until something fails.
    fn run(&mut self, mailbox: &Mailbox) -> Result<Closing>;
}
