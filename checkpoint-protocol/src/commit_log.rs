//! The commit log: a checkpoint exists if, and only if, its entry exists.
//!
//! The log is a row of numbered slots, each filled once by an atomic *create if absent*. That create is the only
//! decision of the whole protocol: segments and manifest are written before it and count for nothing until it
//! succeeds. Each slot is a consensus register in the sense of Herlihy (a compare-and-swap on an empty cell; the role that a
//! decree has in Paxos), so two coordinators cannot both win one.
//!
//! What a store must offer, and all it must offer:
//!
//! * **create** an entry in a slot if there is none, atomically and durably;
//! * **read** a slot, seeing every create that had been answered before;
//! * **tail**: read the entry of the highest slot, seeing every create that had been answered before.
//!
//! # Terms
//! A coordinator starts by reading the log and then creating an entry that claims a *term* above all it saw. If the
//! slot was taken meanwhile, it reads on. Only the entries before its own claim are what it resumes from: whatever an older
//! coordinator still commits would need a slot after the claim, and on the way there it meets the claim and is fenced for ever.
//!
//! # Lost answers
//! When it is not known whether a create happened, or when the slot is taken (perhaps by our own, repeated, create), the
//! slot is read back and the tokens are compared. A slot that was tried is never left before it is known who has it.
//!
//! # A log that gets shorter
//! Every entry says where the log begins, its *floor*. Slots below the floor of the last entry may be deleted, in any
//! order, never others. That reopens a danger: a coordinator that slept through all this may create an entry in a
//! slot that was filled and deleted, and believe that it won. So a create is confirmed before it counts: the tail is read
//! once more, and if its floor lies above the slot, the entry is a ghost that no reader counts; a
//! reader that the floor overtakes begins again at the new floor.

mod client;
mod entry;
#[cfg(test)]
mod tests;
mod view;

pub use self::client::{CreateResult, LogClient, LogOutcome, LogStep, Misuse};
pub use self::entry::{EntryKind, LogEntry, ManifestRef, Term, Token};
pub use self::view::{Applied, CompletedEntry, LogView, VoidReason, completed};
