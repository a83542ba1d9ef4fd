//! Nothing is trusted on the way back in: recovery falls back past what is damaged, and never to nothing.

use strandline_checkpoint_storage::{FileKind, LOG_DIR, Storage};
use strandline_state_api::ErrorKind;

use super::StorageSubject;
use super::place::{claim, commit, files, recover};
use crate::wait::wait;

/// Three checkpoints without a file in common.
async fn three_checkpoints(storage: &Storage) {
    let mut log = claim(storage, 3).await.unwrap().log;
    for id in 1..=3 {
        commit(storage, &mut log, id, &[]).await.unwrap();
    }
}

/// Files of one checkpoint; its number is in their names.
async fn files_of(storage: &Storage, checkpoint: u64) -> Vec<String> {
    let part = format!("-{checkpoint:020}-");
    files(storage).await.unwrap().into_iter().filter(|path| path.contains(&part)).collect()
}

/// Any file of the newest checkpoint is deleted, cut, or changed in one bit: the one before is restored, and
/// the report names what is wrong with the newest.
pub fn recovery_falls_back(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        three_checkpoints(&storage).await;
        let newest = files_of(&storage, 3).await;
        assert_eq!(newest.len(), 3, "a segment, operator state, a manifest: {newest:?}");
        for path in &newest {
            let len = storage.blobs().len(path).await.unwrap().expect("a file of the checkpoint");
            let good = storage.blobs().read(path, 0..len).await.unwrap();
            let mut flipped = good.to_vec();
            flipped[good.len() / 2] ^= 1;
            let longer = [&good[..], &[0]].concat();
            let bad =
                [None, Some(vec![]), Some(good[..good.len() - 1].to_vec()), Some(flipped), Some(longer)];
            for content in bad {
                storage.blobs().delete(path).await.unwrap();
                if let Some(content) = content {
                    storage.blobs().put(path, content.into()).await.unwrap();
                }
                let recovery = recover(&open()).await.unwrap_or_else(|e| panic!("{path}: {e}"));
                assert_eq!(recovery.restored.map(|r| r.completed.checkpoint.0), Some(2), "{path}");
                assert_eq!(recovery.skipped.len(), 1, "{path}");
                let report = recovery.skipped[0].to_string();
                assert!(report.contains(path.as_str()), "the report does not name {path}: {report}");
            }
            storage.blobs().delete(path).await.unwrap();
            storage.blobs().put(path, good).await.unwrap();
            assert!(recover(&open()).await.unwrap().is_clean(), "{path} is whole again");
        }
    });
}

/// When every checkpoint is damaged, or the log is, that is an error and never an empty start.
pub fn an_empty_start_is_never_silent(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        three_checkpoints(&storage).await;
        for path in files(&storage).await.unwrap() {
            if path.starts_with(FileKind::Segment.dir()) {
                storage.blobs().put(&path, vec![0; 10].into()).await.unwrap();
            }
        }
        let error = recover(&open()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    });
}

/// A damaged slot of the log is passed over with a word, and the next coordinator goes on behind it.
pub fn a_damaged_slot_is_passed_over(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        three_checkpoints(&storage).await;
        let mut slots = storage.claims().list(LOG_DIR).await.unwrap();
        slots.sort();
        let newest = format!("{LOG_DIR}/{}", slots.last().expect("a log").name);
        storage.claims().delete(&newest).await.unwrap();
        storage.claims().claim(&newest, b"not what was written".as_slice().into()).await.unwrap();
        let recovery = recover(&open()).await.unwrap();
        assert!(!recovery.is_clean());
        assert_eq!(recovery.unreadable.len(), 1, "{recovery:?}");
        assert_eq!(recovery.restored.map(|r| r.completed.checkpoint.0), Some(2));
        let mut next = claim(&storage, 3).await.unwrap();
        let id = next.next_checkpoint().0;
        assert!(id > 3, "the damaged slot may hold checkpoint 3");
        commit(&storage, &mut next.log, id, &[]).await.unwrap();
        let restored = recover(&open()).await.unwrap().restored.expect("a new checkpoint");
        assert_eq!(restored.completed.checkpoint.0, id);
    });
}
