//! Fallbacks, and numbers and logs that cannot be.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use strandline_checkpoint_storage::{FileKind, RecoverOptions, Storage, slot_path};
use strandline_state_api::{CheckpointId, ErrorKind};

use crate::common::{claim, claim_keeping, manifest_with, open_all};

/// Four checkpoints; the next term restores checkpoint 2 and completes 5.
async fn fallen_back(storage: &Storage) {
    let mut log = claim_keeping(storage, 3).await.log;
    for id in 1..=4 {
        log.commit_alone(&manifest_with(storage, 1, id, &[&id.to_le_bytes()]).await).await.unwrap();
    }
    let mut log = claim_keeping(storage, 3).await.log;
    let mut five = manifest_with(storage, 2, 5, &[b"five"]).await;
    five.restored_from = Some(CheckpointId(2));
    log.commit_alone(&five).await.unwrap();
}

async fn restored(storage: &Storage) -> Option<u64> {
    let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
    recovery.restored.map(|restored| restored.manifest.checkpoint.0)
}

#[tokio::test]
async fn a_lost_manifest_does_not_bring_back_what_was_given_up() {
    for (_dir, storage) in open_all() {
        fallen_back(&storage).await;
        let five = storage.completed().await.unwrap().pop().unwrap();
        storage.blobs().delete(&five.manifest_name().unwrap().path()).await.unwrap();
        assert_eq!(restored(&storage).await, Some(2));
    }
}

#[tokio::test]
async fn a_damaged_slot_does_not_either() {
    for (_dir, storage) in open_all() {
        fallen_back(&storage).await;
        let slot = slot_path(storage.completed().await.unwrap().pop().unwrap().slot);
        storage.claims().delete(&slot).await.unwrap();
        storage.claims().claim(&slot, b"damaged".as_slice().into()).await.unwrap();
        assert_eq!(restored(&storage).await, Some(2));
        // The next coordinator goes on from there.
        let mut claimed = claim_keeping(&storage, 3).await;
        assert_eq!(restored(&storage).await, Some(2));
        let id = claimed.next_checkpoint();
        let mut manifest = manifest_with(&storage, claimed.log.term(), id.0, &[b"six"]).await;
        manifest.restored_from = Some(CheckpointId(2));
        claimed.log.commit_alone(&manifest).await.unwrap();
        assert_eq!(restored(&storage).await, Some(id.0));
    }
}

#[tokio::test]
async fn the_highest_numbers_are_damage_and_no_overflow() {
    for (_dir, storage) in open_all() {
        fallen_back(&storage).await;
        for slot in [u64::MAX, u64::MAX - 1] {
            storage.claims().claim(&slot_path(slot), b"no entry".as_slice().into()).await.unwrap();
        }
        assert_eq!(restored(&storage).await, Some(5));
        let claimed = claim_keeping(&storage, 3).await;
        assert_eq!((claimed.log.term().0, claimed.next_checkpoint().0), (3, 6));
        let swept = storage.sweep().await.unwrap();
        assert_eq!(swept.foreign.len(), 2, "{swept:?}");
    }
}

#[tokio::test]
async fn a_storage_that_is_deleted_under_a_job_is_called_that() {
    for only_log in [false, true] {
        let dir = tempfile::TempDir::new().unwrap();
        let storage = Storage::in_dir(dir.path().join("job")).unwrap();
        let mut log = claim(&storage).await.log;
        for id in 1..=2 {
            log.commit_alone(&manifest_with(&storage, 1, id, &[b"one"]).await).await.unwrap();
        }
        std::fs::remove_dir_all(if only_log { dir.path().join("job/log") } else { dir.path().join("job") })
            .unwrap();
        let three = manifest_with(&storage, 1, 3, &[b"three"]).await;
        for _ in 0..2 {
            let error = log.commit_alone(&three).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains("was deleted while it was in use"), "{error}");
        }
        assert_eq!(log.check().await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// A verification that a job overtakes does not call damage what a sweep has deleted.
#[tokio::test]
async fn what_leaves_the_log_while_it_is_verified_is_not_bad() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        log.commit_alone(&manifest_with(&storage, 1, 1, &[b"one"]).await).await.unwrap();
        let one = storage.completed().await.unwrap().pop().unwrap();
        log.commit_alone(&manifest_with(&storage, 1, 2, &[b"two"]).await).await.unwrap();
        storage.sweep().await.unwrap();
        let report = storage.verify_with(&one, Default::default(), None).await.unwrap();
        assert!(!report.is_good() && report.is_gone, "{report}");
        // What is retained and missing is bad.
        let two = storage.completed().await.unwrap().pop().unwrap();
        for file in storage.blobs().list(FileKind::Segment.dir()).await.unwrap() {
            storage.blobs().delete(&format!("segments/{}", file.name)).await.unwrap();
        }
        let report = storage.verify_with(&two, Default::default(), None).await.unwrap();
        assert!(!report.is_good() && !report.is_gone, "{report}");
    }
}

/// A job that commits and sweeps as fast as it can, and verifications beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifications_beside_a_running_job_find_nothing_bad() {
    let dir = tempfile::TempDir::new().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    let (is_over, gone) = (AtomicBool::new(false), Mutex::new(0));
    let job = async {
        let mut log = claim(&storage).await.log;
        for id in 1..=150 {
            let segments: Vec<_> = (0..8u64).map(|n| (n * 1_000 + id).to_le_bytes()).collect();
            let segments: Vec<_> = segments.iter().map(|segment| &segment[..]).collect();
            log.commit_alone(&manifest_with(&storage, 1, id, &segments).await).await.unwrap();
            storage.sweep().await.unwrap();
        }
        is_over.store(true, SeqCst);
    };
    let verifications = async {
        while !is_over.load(SeqCst) {
            for completed in storage.completed().await.unwrap() {
                let report = storage.verify_with(&completed, Default::default(), None).await.unwrap();
                assert!(report.is_good() || report.is_gone, "{report}");
                *gone.lock().unwrap() += u64::from(report.is_gone);
            }
        }
    };
    tokio::join!(job, verifications);
    println!("{} of the verified checkpoints went meanwhile", gone.lock().unwrap());
}
