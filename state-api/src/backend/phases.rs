//! The two phases of a snapshot.
//!
//! 1. On the processing thread, at the barrier, [`SnapshotSource::prepare`] marks the cut: constant time,
//!    whatever the size of the state. Between the batches that follow, [`SnapshotSource::advance`] hands over
//!    what changed, in steps that the caller bounds, until it yields an owned [`SnapshotSource::Prepared`].
//! 2. Elsewhere, [`SnapshotWriter::commit`] sorts, compresses and uploads this state, and returns a
//!    [`KeyedSnapshot`]: the list of files that hold the state as it was at the barrier. Several commits may be
//!    under way at once.
//!
//! A snapshot that nobody commits is aborted: the next one holds what it should have stored.
//!
//! (Flink: `SnapshotStrategy.syncPrepareResources` and `asyncSnapshot`.)

use async_trait::async_trait;

use crate::snapshot::{KeyedSnapshot, SegmentStore};
use crate::{CheckpointId, Result};

/// Which files a snapshot may share with others (Flink: `SharingFilesStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The snapshot holds only what changed since the previous one, if the backend supports that; otherwise
    /// everything. Later increments build on it.
    Incremental,
    /// The snapshot needs no older file. Once its checkpoint is complete, the host may delete what only older
    /// checkpoints need; so the next increment builds on this snapshot or stores everything.
    Full,
    /// The snapshot needs no older file, and no later one of this backend builds on it: an increment after it
    /// holds what changed since the increment before it. So a host never counts it as the newest complete
    /// checkpoint when it deletes what is superseded. It may delete a savepoint at any time, but a file only
    /// if no checkpoint names it.
    Savepoint,
    /// The snapshot is read at once by the process that took it, and is part of no checkpoint: nothing is
    /// restored from it. As with a savepoint, an increment after it holds what changed since the increment
    /// before it. It may name the files of the newest increment before it; the host keeps those for as long as
    /// somebody reads them. Values that have expired are in it as long as nothing has removed them.
    View,
}

/// The progress of a snapshot after a call of [`SnapshotSource::advance`].
#[derive(Debug)]
pub enum Progress<P> {
    /// No snapshot is under way.
    Idle,
    /// The budget is used up; call again.
    More,
    /// The oldest snapshot under way is complete: this is its checkpoint and its prepared state.
    Ready(CheckpointId, P),
}

/// The half of a backend's snapshots that runs on the processing thread.
pub trait SnapshotSource {
    /// The result of the first phase: owned, and independent of later changes. To drop it without a commit
    /// aborts the snapshot; the next one then holds its changes, too.
    type Prepared: Send + 'static;

    /// The second phase.
    type Writer: SnapshotWriter<Prepared = Self::Prepared>;

    /// Marks the cut: the current state belongs to `checkpoint`, later changes do not. The call does not
    /// block.
    ///
    /// Several snapshots may be under way; they become ready in order.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when `checkpoint` is not above the previous one.
    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()>;

    /// Moves about `budget` changed entries towards the oldest snapshot under way.
    ///
    /// # Errors
    /// Fails when an entry cannot be encoded; the snapshot under way fails, and the state is unharmed.
    fn advance(&mut self, budget: usize) -> Result<Progress<Self::Prepared>>;

    /// Returns the second phase; call this once, after a restore if there is one.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when an earlier call took the writer.
    fn take_writer(&mut self) -> Result<Self::Writer>;
}

/// The half of a backend's snapshots that runs off the processing thread.
#[async_trait]
pub trait SnapshotWriter: Send + Sync + 'static {
    /// The result of the first phase.
    type Prepared: Send + 'static;

    /// Encodes, compresses and stores a prepared snapshot.
    ///
    /// A commit borrows the writer only immutably: start the next one while the upload of an earlier one
    /// hangs. Start commits in the order of their checkpoints, where the first poll of the future counts; they
    /// may end in any order. Share the writer in an [`Arc`](std::sync::Arc) where each commit runs in a task of
    /// its own. `store` must write for the checkpoint of the snapshot, or for a later one.
    ///
    /// A commit that fails, or whose future is dropped at whatever stage, aborts its snapshot and loses
    /// nothing: each snapshot that is handed over later also stores what that one should have stored.
    ///
    /// # For authors of backends
    /// Of two snapshots the older may become part of a complete checkpoint first; then a sweep deletes what
    /// was stored for that checkpoint, or before it, and is no part of it. So a snapshot may name a file that
    /// was stored for an older checkpoint only if each older snapshot whose commit succeeded since names it,
    /// too.
    ///
    /// # Errors
    /// Fails when the store fails.
    async fn commit(&self, prepared: Self::Prepared, store: &dyn SegmentStore) -> Result<KeyedSnapshot>;
}
