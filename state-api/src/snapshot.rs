//! The result of a snapshot, and the store of its files.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::schema::StateMeta;
use crate::{KeyGroupRange, Result};

/// The name of an immutable file of a snapshot, unique within its store. The name holds the hash of the
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentName(pub String);

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A segment and its length in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SegmentRef {
    /// The name in the store.
    pub name: SegmentName,
    /// The length in bytes; a file of another length is corrupt.
    pub len: u64,
}

/// The format of the bytes of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PartFormat {
    /// The portable format (crate `strandline-snapshot-format`), which every backend reads.
    #[default]
    Portable,
    /// Files of one kind of backend, under the name that the backend gives to their format, for example
    /// `rocksdb-1`. They are cheaper to write than portable ones, and only that backend reads them.
    Native(String),
}

impl PartFormat {
    /// Returns whether every backend reads the format.
    pub fn is_portable(&self) -> bool {
        *self == Self::Portable
    }
}

/// A segment as part of a snapshot; only its entries in `key_groups` belong to the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// The file.
    pub segment: SegmentRef,
    /// The key groups that count; after a rescale fewer than the segment holds.
    pub key_groups: KeyGroupRange,
    /// The format of the segment.
    #[serde(default, skip_serializing_if = "PartFormat::is_portable")]
    pub format: PartFormat,
}

impl SnapshotPart {
    /// Creates a part in the portable format.
    pub fn portable(segment: SegmentRef, key_groups: KeyGroupRange) -> Self {
        Self { segment, key_groups, format: PartFormat::Portable }
    }
}

/// The keyed state of one subtask at one barrier.
///
/// Portable parts are ordered oldest first: a base, then deltas. Where two parts have the same entry, the
/// later part counts. Only the backend that wrote native parts can combine them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyedSnapshot {
    /// The files, oldest first. Empty when there was no state.
    pub parts: Vec<SnapshotPart>,
    /// The number of bytes that this snapshot added to the store; earlier snapshots wrote the rest.
    pub written_bytes: u64,
    /// The states of the snapshot, from which a restore is planned without reading any file: each in the form
    /// that the program writes, and in every other form that a file may have. Snapshots of older versions,
    /// which did not store them, have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateMeta>,
}

impl KeyedSnapshot {
    /// Returns the number of bytes of all files, including those that earlier snapshots wrote.
    pub fn full_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.segment.len).sum()
    }

    /// Clips the snapshot to `range`; the result leaves out parts without a key group of `range`.
    #[must_use]
    pub fn clip(&self, range: KeyGroupRange) -> Self {
        let clip = |part: &SnapshotPart| {
            let key_groups = part.key_groups.intersect(range);
            (!key_groups.is_empty()).then(|| SnapshotPart { key_groups, ..part.clone() })
        };
        let parts = self.parts.iter().filter_map(clip).collect();
        Self { parts, written_bytes: 0, states: self.states.clone() }
    }
}

/// Writes and reads segments. The trait is object-safe, so that a backend does not depend on the storage
/// crate.
#[async_trait]
pub trait SegmentStore: Send + Sync {
    /// Stores `bytes` durably under a new name that holds their hash.
    ///
    /// # Errors
    /// Fails when the store fails for good; the store retries transient failures itself.
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef>;

    /// Reads exactly `range` of a segment.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the length of the segment is not that of its reference,
    /// [`NotFound`](crate::ErrorKind::NotFound) when the segment is missing.
    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>>;
}
