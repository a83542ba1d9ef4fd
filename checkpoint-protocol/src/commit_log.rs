//! The commit log: a checkpoint exists if, and only if, its entry exists.
//!
//! The log is a row of numbered slots, each filled once by an atomic *create if absent*. That create is the
//! only decision of the whole protocol: segments and manifest are written before it and count for nothing
//! until it succeeds. Each slot is a consensus register in the sense of Herlihy (a compare-and-swap on an
//! empty cell; the role that a decree has in Paxos), so two coordinators cannot both win one.
//!
//! What a store must offer, and all it must offer:
//!
//! * **create** an entry in a slot if there is none, atomically and durably;
//! * **read** a slot, seeing every create that had been answered before;
//! * **tail**: read the entry of the highest slot, seeing every create that had been answered before.
//!
//! Whoever deletes slots keeps to the order described below.
//!
//! # Terms
//! A coordinator starts by reading the log and then creating an entry that claims a *term* above all it saw.
//! If the slot was taken meanwhile, it reads on. Only the entries before its own claim are what it resumes
//! from: whatever an older coordinator still commits would need a slot after the claim, and on the way there
//! it meets the claim and is fenced for ever.
//!
//! # Branches
//! A coordinator may resume from an older checkpoint than the newest: that one is damaged, or somebody wants
//! it so. Its first own checkpoint gives up those between, and its entry names their numbers: its
//! [`Branch`]. Nobody falls back to them any more, as their state is no past of the newest checkpoint, and
//! their outputs go with that first commit.
//!
//! # Order
//! * Numbers rise over the whole log, in the order of slots, but for savepoints that later checkpoints of
//!   their term overtook. Such an entry is marked as *late*.
//! * What a job resumes from is the retained checkpoint with the highest number. No late entry changes that.
//! * A late savepoint belongs to the term that triggered it; nothing of a term comes after the claim of a
//!   higher one.
//! * An entry names the oldest savepoint that may follow it, so that whoever sweeps leaves its files.
//!
//! # Lost answers
//! When it is not known whether a create happened, or when the slot is taken (perhaps by our own, repeated,
//! create), the slot is read back and the tokens are compared. A slot that was tried is never left before it
//! is known who has it.
//!
//! # A log that gets shorter
//! Every entry names where the log begins, its *floor*. A claim [restates](Restated) what is retained, and
//! the next claim's floor is the slot of the one before it: so starts that complete nothing do not make the
//! log longer, and two slots hold all there is. Slots below the floor of the last entry may be deleted: in
//! ascending order, never the two highest, and before slot 0 a mark is set that stays. That reopens a danger:
//! a coordinator that slept through all this may create an entry in a slot that was filled and deleted, a
//! *ghost*, and believe that it won; or it may read a ghost, and take it for the end of the log.
//!
//! So each coordinator has an *anchor*, the last entry of which it knows that it was in the log: its own last
//! one, or the end of the log when it looked for it. As long as the anchor is there, no slot above it was
//! ever deleted, and all that was found there is the log. The anchor is looked at
//!
//! * before an entry is created after others than the anchor: if it is there, the last of them is the new
//!   anchor;
//! * after an entry was created, before it counts: if the anchor is there, the slot was empty for the first
//!   time.
//!
//! If it is gone, somebody has taken over: a coordinator that holds a term is fenced, one that claims begins
//! anew. The slot before one's own entry is one of the two highest until somebody creates the one after, so
//! the rightful holder is not held up. No reader counts a ghost, as it lies below the floor; a reader that
//! the floor overtakes begins again at the new floor.
//!
//! The anchor is known by its token, and each attempt to create has a token of its own: one whose answer was
//! lost, and which happens when its slot was deleted long ago, does not bring an anchor back.

mod branch;
mod client;
mod entry;
#[cfg(test)]
mod tests;
mod view;

pub use self::branch::Branch;
pub use self::client::{Anchor, CreateResult, LogClient, LogOutcome, LogStep, Misuse};
pub use self::entry::{EntryKind, LogEntry, ManifestRef, Restated, Term, Token};
pub use self::view::{Applied, CompletedEntry, LogView, VoidReason, completed};
