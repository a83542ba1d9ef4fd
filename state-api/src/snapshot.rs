//! The two phases of a snapshot, and what they leave behind.
//!
//! 1. On the processing thread, at the barrier, [`SnapshotSource::prepare`] marks the cut: constant time, whatever the
//!    size of the state. Between the batches that follow, [`SnapshotSource::advance`] hands over what changed, in
//!    steps that the caller bounds, until it yields an owned [`SnapshotSource::Prepared`].
//! 2. Elsewhere, [`SnapshotWriter::commit`] sorts, compresses and uploads it, and answers with a [`KeyedSnapshot`]: the
//!    list of files that hold the state as it was at the barrier.
//!
//! (Flink: `SnapshotStrategy.syncPrepareResources` and `asyncSnapshot`.)

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::format::StateMeta;
use crate::{CheckpointId, KeyGroupRange, Result};

/// The name of an immutable file of a snapshot, unique within its store. It holds the hash of the bytes.
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
    /// Its name in the store.
    pub name: SegmentName,
    /// Its length in bytes; a file of another length is corrupt.
    pub len: u64,
}

/// How the bytes of a segment are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PartFormat {
    /// The [portable format](crate::format), which every backend reads.
    #[default]
    Portable,
    /// Files of one kind of backend, under the name that it gave to their format, for example `rocksdb-1`. Cheaper to write
    /// than portable ones, and of use to that backend only.
    Native(String),
}

impl PartFormat {
    /// Whether every backend reads it.
    pub fn is_portable(&self) -> bool {
        *self == Self::Portable
    }
}

/// A segment as a part of a snapshot: of its entries only those in `key_groups` belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// The file.
    pub segment: SegmentRef,
    /// What counts of it; after a rescale less than it holds.
    pub key_groups: KeyGroupRange,
    /// How it is to be read.
    #[serde(default, skip_serializing_if = "PartFormat::is_portable")]
    pub format: PartFormat,
}

impl SnapshotPart {
    /// A part in the portable format.
    pub fn portable(segment: SegmentRef, key_groups: KeyGroupRange) -> Self {
        Self { segment, key_groups, format: PartFormat::Portable }
    }
}

/// The keyed state of one subtask at one barrier.
///
/// Portable parts are ordered oldest first: a base, then deltas. Where two parts speak of one entry, the later one holds.
/// What native parts mean together is up to the backend that wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyedSnapshot {
    /// The files, oldest first. Empty when there was no state.
    pub parts: Vec<SnapshotPart>,
    /// Bytes that this snapshot added to the store (the rest was there already).
    pub written_bytes: u64,
    /// The states that it holds, for a restore to be planned without reading any file. Empty in those of versions that did not
    /// tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateMeta>,
}

impl KeyedSnapshot {
    /// Bytes of all its files, whoever wrote them.
    pub fn full_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.segment.len).sum()
    }

    /// The part of it that lies in `range`; parts without any group of it are left out.
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

/// Where segments are written to and read from. Object-safe, so that a backend need not know the storage crate.
#[async_trait]
pub trait SegmentStore: Send + Sync {
    /// Stores `bytes` durably under a new name that holds their hash.
    ///
    /// # Errors
    /// When the store fails for good; transient failures have been retried.
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef>;

    /// Reads `range` of a segment, exactly.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the segment has not the length of its reference,
    /// [`NotFound`](crate::ErrorKind::NotFound) when it is missing.
    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>>;
}

/// What a snapshot must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// Only what changed since the snapshot before, where the backend can; else all.
    Incremental,
    /// One that needs no older file.
    Full,
}

/// How far [`SnapshotSource::advance`] came.
#[derive(Debug)]
pub enum Progress<P> {
    /// No snapshot is under way.
    Idle,
    /// The bound was reached; call again.
    More,
    /// The oldest snapshot that was under way is handed over.
    Ready(CheckpointId, P),
}

/// The half of a backend's snapshots that runs on the processing thread.
pub trait SnapshotSource {
    /// What the first phase hands to the second: owned, independent of later changes.
    type Prepared: Send + 'static;

    /// The second phase.
    type Writer: SnapshotWriter<Prepared = Self::Prepared>;

    /// Marks the cut: what is in the state now belongs to `checkpoint`, later changes do not. Does not block.
    ///
    /// Several snapshots may be under way; they become ready in order.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when `checkpoint` is not above the one before.
    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()>;

    /// Moves about `budget` changed entries towards the oldest snapshot under way.
    ///
    /// # Errors
    /// When an entry cannot be encoded; the snapshot under way fails, the state is unharmed.
    fn advance(&mut self, budget: usize) -> Result<Progress<Self::Prepared>>;

    /// The second phase; taken once, after a restore if there is one.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when it was taken before.
    fn take_writer(&mut self) -> Result<Self::Writer>;
}

/// The half of a backend's snapshots that runs elsewhere.
#[async_trait]
pub trait SnapshotWriter: Send + 'static {
    /// What the first phase handed over.
    type Prepared: Send + 'static;

    /// Encodes, compresses and stores what was prepared. Snapshots come in the order of their checkpoints.
    ///
    /// A failed commit loses nothing: what it should have stored is part of the next one.
    ///
    /// # Errors
    /// When the store fails.
    async fn commit(&mut self, prepared: Self::Prepared, store: &dyn SegmentStore) -> Result<KeyedSnapshot>;
}
