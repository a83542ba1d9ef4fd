//! What the tests share.

use std::num::NonZeroUsize;

use strandline_checkpoint_storage::{
    Claimed, CommitLog, CommitLogOptions, Manifest, OperatorSnapshot, Storage, SubtaskSnapshot, Term,
};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, KeyGroupRange, OperatorId};
use tempfile::TempDir;

/// A new storage on disk and one in memory; the directory goes when it is dropped. And one on S3, when
/// `STRANDLINE_TEST_S3` holds a URI in which `{}` is to be replaced by a new prefix.
pub(crate) fn open_all() -> Vec<(Option<TempDir>, Storage)> {
    let dir = TempDir::new().unwrap();
    let local = Storage::in_dir(dir.path().join("job")).unwrap();
    let mut all = vec![(Some(dir), local), (None, Storage::in_memory().unwrap())];
    if let Ok(uri) = std::env::var("STRANDLINE_TEST_S3") {
        let prefix = format!("{:032x}", fastrand::u128(..));
        all.push((None, Storage::open(&uri.replace("{}", &prefix)).unwrap()));
    }
    all
}

pub(crate) async fn claim(storage: &Storage) -> Claimed {
    claim_keeping(storage, 1).await
}

pub(crate) async fn claim_keeping(storage: &Storage, retain: usize) -> Claimed {
    let options = CommitLogOptions::new("test").retain(NonZeroUsize::new(retain).unwrap());
    CommitLog::claim(storage, options, CommitLog::random_tokens()).await.unwrap()
}

/// A manifest of one operator with new segments of these contents.
pub(crate) async fn manifest_with(
    storage: &Storage,
    term: impl Into<Term>,
    id: u64,
    contents: &[&[u8]],
) -> Manifest {
    let term = term.into();
    let mut segments = Vec::new();
    for content in contents {
        segments.push(storage.segments(term, CheckpointId(id)).put(content.to_vec()).await.unwrap());
    }
    manifest_of(term, id, segments)
}

/// A manifest of one operator that refers to these segments.
pub(crate) fn manifest_of(
    term: impl Into<Term>,
    id: u64,
    segments: impl IntoIterator<Item = SegmentRef>,
) -> Manifest {
    let part = |segment| SnapshotPart::portable(segment, KeyGroupRange::ALL);
    let mut subtask = SubtaskSnapshot::new(0, KeyGroupRange::ALL);
    subtask.keyed =
        KeyedSnapshot { parts: segments.into_iter().map(part).collect(), ..KeyedSnapshot::default() };
    let mut manifest = Manifest::new(CheckpointId(id), term, "test");
    let id = OperatorId::new("count").unwrap();
    manifest.operators.push(OperatorSnapshot {
        id,
        parallelism: 1,
        subtasks: vec![subtask],
        types: Default::default(),
    });
    manifest
}

/// How many rounds of a randomised test: `default`, times `STRANDLINE_CASES` if that is set.
pub(crate) fn cases(default: u64) -> u64 {
    default * std::env::var("STRANDLINE_CASES").map_or(1, |times| times.parse().unwrap())
}
