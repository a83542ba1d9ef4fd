//! What stands in a slot of the commit log.

use std::fmt;

use serde::{Deserialize, Serialize};
use strandline_state_api::CheckpointId;

use super::{Branch, CompletedEntry};
use crate::CheckpointKind;

/// The reign of one coordinator: higher than that of every one before it (Raft calls it so too; elsewhere
/// epoch, or fencing token).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// Below all terms: that of a job without a commit log, and of a log that nobody has claimed.
    pub const NONE: Self = Self(0);
    /// The term of the first coordinator of a job.
    pub const FIRST: Self = Self(1);

    /// The term after this one; `None` where no number is left. No entry of the highest number counts.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).filter(|next| *next < u64::MAX).map(Self)
    }
}

impl From<u64> for Term {
    fn from(term: u64) -> Self {
        Self(term)
    }
}

impl PartialEq<u64> for Term {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that no other entry has: random, handed in by the driver, fresh for each claim and each commit.
/// A create that is tried again gets the next number, so numbers that are not random must leave room.
///
/// It identifies the owner of an entry in a slot after the answer to a create was lost. Serialized as 32
/// hexadecimal digits, since many readers of JSON cannot hold a number of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(pub u128);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.to_string()
    }
}

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| format!("{text:?} is no token: expected 32 hexadecimal digits"))
    }
}

/// Where the manifest of a checkpoint is and how to know that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManifestRef {
    /// Its name in the store.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// The hash of its bytes, as the storage writes it.
    pub hash: String,
}

/// One entry of the commit log, immutable once created.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogEntry {
    /// The slot that it stands in.
    pub slot: u64,
    /// Where the log begins: slots below this one may have been deleted, and count no more if they are found.
    /// Never decreases from one entry to the next, never above `slot`.
    pub floor: u64,
    /// Checkpoints in slots below this one are not retained. Below `floor` where a claim [restates](Restated)
    /// what it found; never decreases, never above `slot`.
    #[serde(default)]
    pub oldest: u64,
    /// Whose entry it is.
    pub token: Token,
    /// What happened.
    pub kind: EntryKind,
}

/// What a log entry records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A coordinator has taken over.
    Term {
        /// Its term.
        term: Term,
        /// Who claims, for people: for example a host and process.
        holder: String,
        /// The log before this entry, so that the next claim can let go of the slots before; `None` where a
        /// part of it could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restated: Option<Restated>,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// The term of the coordinator that completed it.
        term: Term,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its manifest.
        manifest: ManifestRef,
        /// Why it was taken.
        #[serde(default = "periodic")]
        kind: CheckpointKind,
        /// What it did not grow from.
        #[serde(default, skip_serializing_if = "Branch::is_whole")]
        branch: Branch,
        /// Whether it is a savepoint that later checkpoints of its term overtook.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        late: bool,
        /// The oldest savepoint that is under way still and may follow, late: what was stored for it, or for
        /// anything after it, stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        open_savepoint: Option<CheckpointId>,
    },
    /// There is something, and nobody can read it: never written, but what a driver hands in for a damaged
    /// slot. It may have been the claim of a term above all before, and so it counts as one; or a checkpoint.
    #[serde(skip)]
    Unreadable {
        /// The term for which it counts: above all before.
        term: Term,
    },
}

/// What a claim found in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Restated {
    /// The highest number of a checkpoint.
    pub last: Option<CheckpointId>,
    /// The retained checkpoints, in the order of their slots: ordinary ones, the newest of any kind, and the
    /// savepoints from the floor of the claim on.
    pub completed: Vec<CompletedEntry>,
}

impl LogEntry {
    /// The term under which it was written.
    pub fn term(&self) -> Term {
        match self.kind {
            EntryKind::Term { term, .. }
            | EntryKind::Checkpoint { term, .. }
            | EntryKind::Unreadable { term } => term,
        }
    }

    /// Whether one of its numbers is the highest there is, so that none could follow. No log comes near it.
    pub(super) fn is_out_of_range(&self) -> bool {
        let checkpoint = match &self.kind {
            EntryKind::Checkpoint { checkpoint, .. } => Some(*checkpoint),
            EntryKind::Term { restated, .. } => restated.as_ref().and_then(|restated| restated.last),
            EntryKind::Unreadable { .. } => None,
        };
        self.slot == u64::MAX || self.term().0 == u64::MAX || checkpoint == Some(CheckpointId(u64::MAX))
    }
}

/// The kind of a checkpoint whose entry names none, as those of the first version of the log.
fn periodic() -> CheckpointKind {
    CheckpointKind::Periodic
}
