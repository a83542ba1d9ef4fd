//! Storages as every released version of the formats wrote them. They must be readable for ever, and the same
//! input must give the same bytes; later versions are refused. See `tests/golden/README.md` for what they
//! hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use strandline_checkpoint_storage::{
    CheckpointKind, CommitLog, CommitLogOptions, CompletedCheckpoint, FileKind, FileName, RecoverOptions,
    Storage,
};
use strandline_state_api::snapshot::PartFormat;
use strandline_state_api::{CheckpointId, Error, ErrorKind};
use xxhash_rust::xxh3::xxh3_64;

use crate::common::{claim, manifest_with};
use crate::samples::{
    SAMPLES, directory, in_flight_manifest, manifest, native_manifest, source_manifest, types_manifest, write,
};

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

#[tokio::test]
async fn what_is_written_today_is_what_was_written() {
    for sample in SAMPLES {
        let dir = tempfile::TempDir::new().unwrap();
        write(sample, &Storage::in_dir(dir.path()).unwrap()).await.unwrap();
        let (golden, today) = (files(&directory(sample)), files(dir.path()));
        assert_eq!(golden.keys().collect::<Vec<_>>(), today.keys().collect::<Vec<_>>(), "{sample}");
        assert!(golden == today, "what is written is not what {sample} holds");
    }
}

#[tokio::test]
async fn every_version_is_read() {
    for sample in ["v1", "v2", "v3"] {
        let old = Storage::in_dir(directory(sample)).unwrap();
        let recovery = old.recover(RecoverOptions::default()).await.unwrap();
        assert!(recovery.is_clean());
        let scratch = Storage::in_memory().unwrap();
        assert_eq!(recovery.restored.unwrap().manifest, manifest(&scratch, 3).await, "{sample}");
        assert!(old.verify(CheckpointId(1)).await.unwrap().is_good());
        assert_eq!(old.completed().await.unwrap()[0].kind, CheckpointKind::Savepoint);
    }
}

#[tokio::test]
async fn every_version_with_native_parts_is_read() {
    for sample in ["v1-native", "v2-native", "v3-native"] {
        let old = Storage::in_dir(directory(sample)).unwrap();
        let recovery = old.recover(RecoverOptions::default()).await.unwrap();
        assert!(recovery.is_clean());
        let read = recovery.restored.unwrap().manifest;
        assert_eq!(read, native_manifest(&Storage::in_memory().unwrap()).await, "{sample}");
        let parts = &read.operators[0].subtasks[0].keyed.parts;
        assert!(parts.iter().all(|part| part.format == PartFormat::Native("rocksdb-1".into())));
    }
}

#[tokio::test]
async fn positions_committables_and_assigners_are_read_beside_a_users_list_of_the_same_name() {
    for sample in ["v2-source", "v3-source"] {
        let storage = Storage::in_dir(directory(sample)).unwrap();
        let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
        assert_eq!(recovery.restored.unwrap().manifest, source_manifest().unwrap(), "{sample}");
    }
}

#[tokio::test]
async fn types_are_read_and_no_plan_depends_on_them() {
    let storage = Storage::in_dir(directory("v3-types")).unwrap();
    let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
    let read = recovery.restored.unwrap().manifest;
    assert_eq!(read, types_manifest().unwrap());
    let mut without = read.clone();
    without.operators[0].types = Default::default();
    assert_eq!(read.stored_operators(), without.stored_operators());
}

#[tokio::test]
async fn records_in_flight_are_read() {
    let storage = Storage::in_dir(directory("v3-in-flight")).unwrap();
    let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
    assert_eq!(recovery.restored.unwrap().manifest, in_flight_manifest().unwrap());
}

/// A log of the first version goes on in the current one: its savepoint, which each entry carried, goes to a
/// list, and stays through sweeps and starts.
#[tokio::test]
async fn a_log_of_the_first_version_goes_on() {
    for sample in ["v1", "v2"] {
        let dir = tempfile::TempDir::new().unwrap();
        copy(sample, dir.path());
        let storage = Storage::in_dir(dir.path()).unwrap();
        let ids = |completed: Vec<CompletedCheckpoint>| {
            completed.into_iter().map(|completed| completed.checkpoint.0).collect::<Vec<_>>()
        };
        for term in 2..5 {
            let mut claimed = claim(&storage).await;
            assert_eq!((claimed.log.term().0, claimed.next_checkpoint().0), (term, term + 2));
            let newest = claimed.history.latest().unwrap().checkpoint;
            assert_eq!(newest.0, term + 1);
            assert_eq!(ids(claimed.log.retained()), [1, newest.0], "{sample}");
            let mut manifest = manifest_with(&storage, term, term + 2, &[b"later"]).await;
            manifest.restored_from = Some(newest);
            let committed = claimed.log.commit_alone(&manifest).await.unwrap();
            assert_eq!(ids(committed.retained), [1, term + 2]);
            storage.sweep().await.unwrap();
            assert_eq!(ids(storage.completed().await.unwrap()), [1, term + 2]);
            assert!(storage.verify(CheckpointId(1)).await.unwrap().is_good());
        }
    }
}

/// The same file of another version, whole as far as its checksum goes.
fn with_version(file: &[u8], version: u32) -> Bytes {
    let mut file = file.to_vec();
    file[8..12].copy_from_slice(&version.to_le_bytes());
    sealed(file)
}

fn sealed(mut file: Vec<u8>) -> Bytes {
    let body = file.len() - 8;
    let checksum = xxh3_64(&file[..body]);
    file[body..].copy_from_slice(&checksum.to_le_bytes());
    file.into()
}

/// Checks that `error` refuses a file of version 0, or of one above all known.
fn check(error: &Error, version: u32, what: &str) {
    let newest = match what {
        "file of operator state" => 1,
        "manifest" => 3,
        _ => 2,
    };
    let (kind, texts) = match version {
        0 => (ErrorKind::Corrupt, vec!["there is no version 0".to_owned()]),
        _ => (
            ErrorKind::Incompatible,
            vec![
                format!("format version {version}"),
                format!("up to version {newest}"),
                "use a newer one".to_owned(),
            ],
        ),
    };
    let texts = texts.iter().map(String::as_str);
    assert_eq!(error.kind(), kind, "{error}");
    for text in texts.chain([what]) {
        assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
    }
    assert!(error.context("file").is_some(), "{error}");
}

/// Copies a storage to a directory of its own.
fn copy(sample: &str, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = files(&directory(sample));
    for (name, bytes) in &files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    files
}

#[tokio::test]
async fn a_log_entry_of_another_version_is_refused() {
    for version in [3, 0] {
        let dir = tempfile::TempDir::new().unwrap();
        let files = copy("v3", dir.path());
        let newest = files.keys().rfind(|name| name.starts_with("log/")).unwrap();
        std::fs::write(dir.path().join(newest), with_version(&files[newest], version)).unwrap();
        let storage = Storage::in_dir(dir.path()).unwrap();
        if version == 0 {
            // Damage: recovery reports it and passes it over.
            let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
            check(&recovery.unreadable[0].error, version, "log entry");
            continue;
        }
        check(&storage.recover(RecoverOptions::default()).await.unwrap_err(), version, "log entry");
        let claimed =
            CommitLog::claim(&storage, CommitLogOptions::new("old"), CommitLog::random_tokens()).await;
        check(&claimed.unwrap_err(), version, "log entry");
    }
}

/// Puts a file under the name that its bytes have, as a program of another version would.
fn put(dir: &Path, kind: FileKind, bytes: &[u8]) -> String {
    let name = FileName::of(kind, 1, CheckpointId(3), bytes);
    std::fs::write(dir.join(name.path()), bytes).unwrap();
    name.to_string()
}

#[tokio::test]
async fn a_manifest_and_operator_state_of_another_version_are_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let files = copy("v3", dir.path());
    let storage = Storage::in_dir(dir.path()).unwrap();
    let newest = storage.completed().await.unwrap().pop().unwrap();
    let manifest = &files[&newest.manifest_name().unwrap().path()];
    let state = files.keys().rfind(|name| name.starts_with("operator/")).unwrap();
    for version in [4, 0] {
        let with_manifest = |bytes: &[u8]| CompletedCheckpoint {
            manifest: put(dir.path(), FileKind::Manifest, bytes),
            ..newest.clone()
        };
        let error =
            storage.read_manifest(&with_manifest(&with_version(manifest, version))).await.unwrap_err();
        check(&error, version, "manifest");

        // A manifest of the current version that names operator state of another version.
        let other = put(dir.path(), FileKind::OperatorState, &with_version(&files[state], version));
        let old_name = state.strip_prefix("operator/").unwrap();
        let at = manifest.windows(old_name.len()).position(|text| text == old_name.as_bytes()).unwrap();
        let mut renamed = manifest.clone();
        renamed[at..at + old_name.len()].copy_from_slice(other.as_bytes());
        let error = storage.read_manifest(&with_manifest(&sealed(renamed))).await.unwrap_err();
        check(&error, version, "file of operator state");
    }
}
