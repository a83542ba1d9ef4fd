//! What the cases for storages share: coordinators and their checkpoints.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use strandline_checkpoint_storage::{
    Claimed, CommitLog, CommitLogOptions, CompletedCheckpoint, FileKind, Manifest, OperatorSnapshot,
    RecoverOptions, Recovery, Storage, SubtaskSnapshot, Term,
};
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, Error, KeyGroupRange, OperatorId, Result};

pub(super) async fn claim(storage: &Storage, retain: usize) -> Result<Claimed> {
    let retain = NonZeroUsize::new(retain).unwrap_or(NonZeroUsize::MIN);
    let options = CommitLogOptions::new("conformance").retain(retain);
    CommitLog::claim(storage, options, CommitLog::random_tokens()).await
}

pub(super) async fn recover(storage: &Storage) -> Result<Recovery> {
    storage.recover(RecoverOptions::default()).await
}

/// A segment with `content`, written for a checkpoint.
pub(super) async fn segment(
    storage: &Storage,
    term: impl Into<Term>,
    checkpoint: u64,
    content: &[u8],
) -> Result<SegmentRef> {
    storage.segments(term, CheckpointId(checkpoint)).put(content.to_vec()).await
}

/// The manifest of a checkpoint whose one operator has these segments, and operator state in a file of its
/// own.
pub(super) fn manifest(term: impl Into<Term>, checkpoint: u64, segments: &[SegmentRef]) -> Manifest {
    let part = |segment: &SegmentRef| SnapshotPart::portable(segment.clone(), KeyGroupRange::ALL);
    let mut subtask = SubtaskSnapshot::new(0, KeyGroupRange::ALL);
    subtask.keyed = KeyedSnapshot { parts: segments.iter().map(part).collect(), ..KeyedSnapshot::default() };
    subtask.operator_state.push(OperatorStateEntry {
        name: "positions".into(),
        redistribution: Redistribution::Split,
        codec: "bytes".into(),
        schema_version: 1,
        elements: vec![vec![checkpoint as u8; 100_000]],
    });
    let mut manifest = Manifest::new(CheckpointId(checkpoint), term, "conformance");
    let id = OperatorId::new("count").unwrap();
    manifest.operators.push(OperatorSnapshot {
        id,
        parallelism: 1,
        subtasks: vec![subtask],
        types: Default::default(),
    });
    manifest
}

/// Commits a checkpoint with one new segment, and with `older` ones, of a job that resumed from the newest.
pub(super) async fn commit(
    storage: &Storage,
    log: &mut CommitLog,
    checkpoint: u64,
    older: &[SegmentRef],
) -> Result<Vec<SegmentRef>> {
    let content = format!("what checkpoint {checkpoint} of term {} added", log.term());
    let mut segments = older.to_vec();
    segments.push(segment(storage, log.term(), checkpoint, content.as_bytes()).await?);
    let mut manifest = manifest(log.term(), checkpoint, &segments);
    let earlier = |known: &CompletedCheckpoint| known.term < log.term();
    manifest.restored_from = log.retained().into_iter().rfind(earlier).map(|known| known.checkpoint);
    log.commit_alone(&manifest).await?;
    Ok(segments)
}

/// The numbers of the checkpoints that exist. Each must verify.
pub(super) async fn existing(storage: &Storage) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    for completed in storage.completed().await? {
        let report = storage.verify(completed.checkpoint).await?;
        if !report.is_good() {
            return Err(Error::corrupt(report.to_string()));
        }
        ids.push(completed.checkpoint.0);
    }
    Ok(ids)
}

/// The paths of all immutable files.
pub(super) async fn files(storage: &Storage) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for kind in FileKind::ALL {
        let listed = storage.blobs().list(kind.dir()).await?;
        paths.extend(listed.into_iter().map(|file| format!("{}/{}", kind.dir(), file.name)));
    }
    Ok(paths)
}
