//! What stands in a slot of the commit log.

use std::fmt;

use serde::{Deserialize, Serialize};
use strandline_state_api::CheckpointId;

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

    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
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
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// The term of the coordinator that completed it.
        term: Term,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its manifest.
        manifest: ManifestRef,
    },
}

impl LogEntry {
    /// The term under which it was written.
    pub fn term(&self) -> Term {
        match self.kind {
            EntryKind::Term { term, .. } | EntryKind::Checkpoint { term, .. } => term,
        }
    }
}
