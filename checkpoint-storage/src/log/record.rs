//! One slot of the commit log as it lies in the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_checkpoint_protocol::{CheckpointKind, CompletedEntry, EntryKind, LogEntry, Term};
use strandline_state_api::{CheckpointId, Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::envelope::Envelope;
use crate::name::{FileKind, FileName};

const ENTRY: Envelope = Envelope { what: "log entry", magic: *b"STRLCLOG", version: 1, limit: 1024 * 1024 };

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
}

impl CompletedCheckpoint {
    pub(super) fn new(entry: &CompletedEntry, kind: CheckpointKind) -> Self {
        Self {
            checkpoint: entry.checkpoint,
            term: entry.term,
            slot: entry.slot,
            kind,
            manifest: entry.manifest.name.clone(),
            manifest_len: entry.manifest.len,
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

    /// Whether no sweep ever deletes it.
    pub fn is_savepoint(&self) -> bool {
        self.kind == CheckpointKind::Savepoint
    }
}

/// The content of a slot: the entry of the protocol, and what only the storage needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) entry: LogEntry,
    /// Why the checkpoint was taken, if it is the entry of one.
    pub(crate) kind: Option<CheckpointKind>,
    /// The checksum of the slot before, as the writer read it; `None` when there was none.
    pub(crate) previous: Option<u64>,
    /// The savepoints whose slots lie below the floor, oldest first: so the log can be cut and still name
    /// them.
    pub(crate) carried: Vec<CompletedCheckpoint>,
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
        let json = ENTRY.open(file, path)?;
        let corrupt = |why: &str| Error::corrupt(why).with("slot", slot).with("file", path);
        let record: Self = serde_json::from_slice(json)
            .map_err(|e| corrupt("this is no log entry, although its checksum is right").caused_by(e))?;
        if record.entry.slot != slot {
            return Err(corrupt("the log entry is of another slot than its name"));
        }
        if record.entry.floor > slot {
            return Err(corrupt("the log entry says that it does not count itself"));
        }
        Ok(record)
    }

    /// The checkpoint that it names.
    pub(crate) fn completed(&self) -> Option<CompletedCheckpoint> {
        let EntryKind::Checkpoint { term, checkpoint, manifest } = &self.entry.kind else { return None };
        Some(CompletedCheckpoint {
            checkpoint: *checkpoint,
            term: *term,
            slot: self.entry.slot,
            kind: self.kind.unwrap_or(CheckpointKind::Periodic),
            manifest: manifest.name.clone(),
            manifest_len: manifest.len,
        })
    }
}

/// What the next entry remembers of this one.
pub(crate) fn chain(file: &[u8]) -> u64 {
    xxh3_64(file)
}
