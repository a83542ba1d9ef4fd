//! A storage as version 1 of the formats wrote it. It must be readable for ever, and the same input must give the same bytes.
//!
//! `STRANDLINE_BLESS=1` writes it anew: only for a new version of a format, into a new directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strandline_checkpoint_storage::{
    CheckpointKind, CheckpointTrace, CommitLog, CommitLogOptions, Manifest, RecoverOptions, Storage,
    SubtaskTrace,
};
use strandline_state_api::{CheckpointId, KeyGroupRange, OperatorStateEntry, Redistribution};

use crate::common::manifest_with;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for path in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
        let within = |dir| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        let found: Vec<PathBuf> = if path.is_dir() { within(&path) } else { vec![path] };
        for file in found {
            let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.insert(name, std::fs::read(&file).unwrap());
        }
    }
    files
}

/// One of everything.
async fn manifest(storage: &Storage, id: u64) -> Manifest {
    let mut manifest = manifest_with(storage, 1, id, &[b"not a real segment", b"nor is this"]).await;
    manifest.created_unix_ms = 1_700_000_000_000;
    manifest.restored_from = None;
    manifest.trace = CheckpointTrace {
        duration_us: 1,
        commit_us: 2,
        bytes: 3,
        full_bytes: 4,
        objects: 5,
        retries: 6,
        trigger_unix_ms: 7,
    };
    let subtask = &mut manifest.operators[0].subtasks[0];
    subtask.watermark = Some(-5);
    subtask.key_groups = KeyGroupRange::new(0, 16_384);
    subtask.trace = SubtaskTrace {
        start_delay_us: 1,
        alignment_us: 2,
        pause_us: 3,
        write_us: 4,
        bytes_written: 5,
        full_bytes: 6,
        objects: 7,
    };
    let state = |name: &str, redistribution, elements| OperatorStateEntry {
        name: name.into(),
        redistribution,
        codec: "bytes".into(),
        schema_version: 1,
        elements,
    };
    subtask.operator_state = vec![
        state("positions", Redistribution::Split, vec![b"file-1:17".to_vec(), vec![]]),
        state("files", Redistribution::Union, vec![vec![7; 40_000], vec![8; 40_000]]),
    ];
    manifest
}

/// A savepoint, then a checkpoint; one is kept, so the savepoint is carried.
async fn write(storage: &Storage) {
    let mut token = 0;
    let tokens = move || {
        token += 1;
        token
    };
    let mut log = CommitLog::claim(storage, CommitLogOptions::new("golden"), tokens).await.unwrap().log;
    for id in 1..=3 {
        let mut manifest = manifest(storage, id).await;
        if id == 1 {
            manifest.kind = CheckpointKind::Savepoint;
        }
        log.commit_alone(&manifest).await.unwrap();
    }
    storage.sweep().await.unwrap();
}

#[tokio::test]
async fn version_1_is_read_and_written_as_ever() {
    let dir = tempfile::TempDir::new().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    write(&storage).await;
    if std::env::var_os("STRANDLINE_BLESS").is_some() {
        for (name, bytes) in files(dir.path()) {
            let path = golden().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let golden_files = files(&golden());
    assert_eq!(golden_files.keys().collect::<Vec<_>>(), files(dir.path()).keys().collect::<Vec<_>>());
    assert!(golden_files == files(dir.path()), "what is written is not what version 1 wrote");

    let old = Storage::in_dir(golden()).unwrap();
    let recovery = old.recover(RecoverOptions::default()).await.unwrap();
    assert!(recovery.is_clean());
    assert_eq!(recovery.restored.unwrap().manifest, manifest(&storage, 3).await);
    assert!(old.verify(CheckpointId(1)).await.unwrap().is_good());
    assert_eq!(old.completed().await.unwrap()[0].kind, CheckpointKind::Savepoint);
}
