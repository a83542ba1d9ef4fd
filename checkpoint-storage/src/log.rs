//! The commit log: what makes a checkpoint exist.

mod commit;
mod drive;
mod history;
mod outcome;
mod read;
mod record;
mod savepoints;
mod solo;

pub use commit::{Claimed, CommitLog, CommitLogOptions, Committed};
pub use history::{History, UnreadableSlot};
pub use outcome::CommitOutcome;
pub(crate) use read::changes_too_fast;
pub use record::CompletedCheckpoint;
pub(crate) use record::ListRef;
