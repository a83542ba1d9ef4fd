//! One slot of the commit log as it lies in the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_checkpoint_protocol::{Branch, CheckpointKind, CompletedEntry, EntryKind, LogEntry, Term};
use strandline_state_api::{CheckpointId, Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::envelope::Envelope;
use crate::name::{FileKind, FileName, NUMBERS};

/// Version 1 had neither branches nor lists of savepoints: each entry carried all savepoints below the floor,
/// and grew from the entry before.
const ENTRY: Envelope = Envelope { what: "log entry", magic: *b"STRLCLOG", version: 2, limit: 1024 * 1024 };

/// Where a list of savepoints is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ListRef {
    pub(super) name: String,
    pub(super) len: u64,
}

impl ListRef {
    pub(crate) fn file_name(&self) -> Result<FileName> {
        crate::storage::parse_name(FileKind::Savepoints, &self.name)
    }
}

/// A checkpoint that the log names, and that therefore exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The term of the coordinator that completed it.
    pub term: Term,
    /// The slot of the log that decided it.
    pub slot: u64,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// The name of its manifest.
    pub manifest: String,
    /// The length of its manifest in bytes.
    pub manifest_len: u64,
    /// Which checkpoints before it it did not grow from.
    #[serde(default, skip_serializing_if = "Branch::is_whole")]
    pub branch: Branch,
    /// Whether all its files are known to have been written for it and for no other checkpoint, so that a
    /// sweep need not read its manifest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_alone: bool,
}

impl CompletedCheckpoint {
    pub(super) fn new(entry: &CompletedEntry, stands_alone: bool) -> Self {
        Self {
            checkpoint: entry.checkpoint,
            term: entry.term,
            slot: entry.slot,
            kind: entry.kind,
            manifest: entry.manifest.name.clone(),
            manifest_len: entry.manifest.len,
            branch: entry.branch.clone(),
            stands_alone,
        }
    }

    /// The name of its manifest, taken apart.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when it is none, or that of another checkpoint.
    pub fn manifest_name(&self) -> Result<FileName> {
        let name = crate::storage::parse_name(FileKind::Manifest, &self.manifest)
            .map_err(|e| e.with("checkpoint", self.checkpoint))?;
        if (name.term, name.checkpoint) != (self.term, self.checkpoint) {
            return Err(Error::corrupt("the log entry names the manifest of another checkpoint")
                .with("checkpoint", self.checkpoint)
                .with("file", name.path()));
        }
        Ok(name)
    }

    /// What distinguishes it from every other checkpoint of the storage.
    pub(crate) fn identity(&self) -> (Term, CheckpointId) {
        (self.term, self.checkpoint)
    }

    /// Whether it stays until somebody [removes](crate::Storage::remove_savepoint) it.
    pub fn is_savepoint(&self) -> bool {
        self.kind == CheckpointKind::Savepoint
    }
}

/// The content of a slot: the entry of the protocol, and what only the storage needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) entry: LogEntry,
    /// The checksum of the slot before, as the writer read it; `None` when there was none.
    pub(crate) previous: Option<u64>,
    /// The list of the savepoints whose slots lie below the floor: so the log can be cut and still name them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) savepoints: Option<ListRef>,
    /// Of the entry of a checkpoint: [`CompletedCheckpoint::stands_alone`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stands_alone: bool,
    /// These savepoints themselves, in an entry of version 1.
    #[serde(skip)]
    pub(crate) carried: Vec<CompletedCheckpoint>,
}

/// A record of version 1.
#[derive(Deserialize)]
struct Version1 {
    entry: LogEntry,
    kind: Option<CheckpointKind>,
    previous: Option<u64>,
    carried: Vec<CompletedCheckpoint>,
}

impl From<Version1> for Record {
    fn from(old: Version1) -> Self {
        let Version1 { mut entry, kind: taken, previous, carried } = old;
        entry.oldest = entry.floor;
        if let (EntryKind::Checkpoint { kind, .. }, Some(taken)) = (&mut entry.kind, taken) {
            *kind = taken;
        }
        Self { entry, previous, savepoints: None, stands_alone: false, carried }
    }
}

impl Record {
    /// No file that is longer is a log entry.
    pub(crate) const LIMIT: u64 = ENTRY.limit;

    pub(crate) fn encode(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::invalid("the log entry cannot be written as JSON").caused_by(e))?;
        ENTRY.seal(&json)
    }

    pub(crate) fn decode(slot: u64, file: &[u8], path: &str) -> Result<Self> {
        let (version, json) = ENTRY.open_version(file, path)?;
        let corrupt = |why: &str| Error::corrupt(why).with("slot", slot).with("file", path);
        let record = match version {
            1 => serde_json::from_slice::<Version1>(json).map(Self::from),
            _ => serde_json::from_slice(json),
        };
        let record = record
            .map_err(|e| corrupt("this is no log entry, although its checksum is right").caused_by(e))?;
        if record.entry.slot != slot {
            return Err(corrupt("the log entry is of another slot than its name"));
        }
        if record.entry.floor > slot || record.entry.oldest > slot {
            return Err(corrupt("the log entry says that it does not count itself"));
        }
        let checkpoint = match &record.entry.kind {
            EntryKind::Checkpoint { checkpoint, .. } => Some(*checkpoint),
            EntryKind::Term { restated, .. } => restated.as_ref().and_then(|restated| restated.last),
            EntryKind::Unreadable { .. } => None,
        };
        if record.entry.term().0 > NUMBERS || checkpoint > Some(CheckpointId(NUMBERS)) {
            return Err(corrupt("no log comes to a term or a checkpoint of such a number"));
        }
        Ok(record)
    }

    /// The checkpoint that it names.
    pub(crate) fn completed(&self) -> Option<CompletedCheckpoint> {
        let EntryKind::Checkpoint { term, checkpoint, manifest, kind, branch, .. } = &self.entry.kind else {
            return None;
        };
        Some(CompletedCheckpoint {
            checkpoint: *checkpoint,
            term: *term,
            slot: self.entry.slot,
            kind: *kind,
            manifest: manifest.name.clone(),
            manifest_len: manifest.len,
            branch: branch.clone(),
            stands_alone: self.stands_alone,
        })
    }

    /// The checkpoints that a claim restates.
    pub(crate) fn restated(&self) -> impl Iterator<Item = CompletedCheckpoint> {
        let restated = match &self.entry.kind {
            EntryKind::Term { restated: Some(restated), .. } => &restated.completed[..],
            _ => &[],
        };
        restated.iter().map(|entry| CompletedCheckpoint::new(entry, false))
    }
}

/// What the next entry remembers of this one.
pub(crate) fn chain(file: &[u8]) -> u64 {
    xxh3_64(file)
}

#[cfg(test)]
mod tests {
    use strandline_checkpoint_protocol::{Term, Token};
    use strandline_state_api::ErrorKind;

    use super::*;

    #[test]
    fn numbers_that_leave_no_room_are_damage() {
        let record = |term| {
            let kind = EntryKind::Term { term: Term(term), holder: "test".into(), restated: None };
            let entry = LogEntry { slot: 3, floor: 1, oldest: 1, token: Token(1), kind };
            Record { entry, previous: None, savepoints: None, stands_alone: false, carried: Vec::new() }
        };
        let read = |term| Record::decode(3, &record(term).encode().unwrap(), "log/3");
        assert_eq!(read(NUMBERS).unwrap(), record(NUMBERS));
        assert_eq!(read(u64::MAX).unwrap_err().kind(), ErrorKind::Corrupt);
        let read = Record::decode(2, &record(1).encode().unwrap(), "log/2");
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "of another slot");
    }
}
