//! Savepoints: those that come late, those that are removed, and lists of them that are damaged.

use strandline_checkpoint_protocol::CommitRight;
use strandline_checkpoint_storage::{
    CheckpointKind, CommitLog, FileKind, Manifest, RecoverFrom, RecoverOptions, Storage,
};
use strandline_state_api::{CheckpointId, ErrorKind};

use crate::common::{claim, claim_keeping, manifest_of, manifest_with, open_all};

async fn savepoint(storage: &Storage, term: u64, id: u64) -> Manifest {
    let mut manifest = manifest_with(storage, term, id, &[format!("savepoint {id}").as_bytes()]).await;
    manifest.kind = CheckpointKind::Savepoint;
    manifest
}

async fn commit(storage: &Storage, log: &mut CommitLog, id: u64, from: Option<u64>) {
    let mut manifest = manifest_with(storage, log.term(), id, &[&id.to_le_bytes()]).await;
    manifest.restored_from = from.map(CheckpointId);
    log.commit_alone(&manifest).await.unwrap();
}

async fn ids(storage: &Storage) -> Vec<u64> {
    let completed = storage.completed().await.unwrap();
    for completed in &completed {
        assert!(storage.verify(completed.checkpoint).await.unwrap().is_good(), "{completed:?}");
    }
    completed.into_iter().map(|completed| completed.checkpoint.0).collect()
}

#[tokio::test]
async fn one_that_others_overtook_is_whole_and_not_the_newest() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        commit(&storage, &mut log, 1, None).await;
        let slow = savepoint(&storage, 1, 2).await;
        for id in 3..=6 {
            let manifest = manifest_with(&storage, 1, id, &[&id.to_le_bytes()]).await;
            let right = CommitRight::of_sole_participant(manifest.checkpoint, manifest.kind);
            let right = right.beside_savepoint(CheckpointId(2));
            log.commit(&right, &manifest).await.into_result().unwrap();
            storage.sweep().await.unwrap();
        }
        log.commit_alone(&slow).await.unwrap();
        storage.sweep().await.unwrap();
        assert_eq!(ids(&storage).await, [2, 6]);
        let recovered = storage.recover(RecoverOptions::default()).await.unwrap().restored.unwrap();
        assert_eq!(recovered.manifest.checkpoint, CheckpointId(6));
        let again = log.commit_alone(&slow).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Invalid, "{again}");
        // What is stored for one that was given up goes with the next checkpoint.
        savepoint(&storage, 1, 7).await;
        commit(&storage, &mut log, 8, None).await;
        storage.sweep().await.unwrap();
        assert_eq!(storage.blobs().list("segments").await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn one_from_which_an_attempt_may_have_started_is_removed_later() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        log.commit_alone(&savepoint(&storage, 1, 1).await).await.unwrap();
        commit(&storage, &mut log, 2, None).await;
        commit(&storage, &mut log, 3, None).await;
        let mut next = claim(&storage).await.log;
        let options = RecoverOptions { from: RecoverFrom::Checkpoint(CheckpointId(1)), ..Default::default() };
        let restored = storage.recover(options).await.unwrap().restored.unwrap().manifest;
        // The attempt reads it, and its first checkpoint will refer to its files.
        storage.remove_savepoint(CheckpointId(1)).await.unwrap();
        assert_eq!(storage.recover(options).await.unwrap_err().kind(), ErrorKind::NotFound);
        storage.sweep().await.unwrap();
        for segment in restored.segments() {
            storage.verify_segment(segment).await.unwrap();
        }
        let mut four = manifest_of(next.term(), 4, restored.segments().cloned());
        four.restored_from = Some(CheckpointId(1));
        next.commit_alone(&four).await.unwrap();
        storage.sweep().await.unwrap();
        assert_eq!(ids(&storage).await, [4]);
        commit(&storage, &mut next, 5, Some(1)).await;
        storage.sweep().await.unwrap();
        assert_eq!(storage.blobs().list("segments").await.unwrap().len(), 1);
        let last = claim(&storage).await.log;
        assert_eq!(last.retained().len(), 1);
    }
}

/// Claims restate the log, so entries that nobody counts any more name a savepoint for some time.
#[tokio::test]
async fn a_removed_one_stays_removed_however_often_the_job_starts() {
    for (_dir, storage) in open_all() {
        let mut log = claim_keeping(&storage, 2).await.log;
        commit(&storage, &mut log, 1, None).await;
        log.commit_alone(&savepoint(&storage, 1, 2).await).await.unwrap();
        commit(&storage, &mut log, 3, None).await;
        storage.remove_savepoint(CheckpointId(2)).await.unwrap();
        for start in 0..6 {
            let claimed = claim_keeping(&storage, 2).await;
            if start > 0 {
                storage.sweep().await.unwrap();
                assert!(storage.blobs().list("removed").await.unwrap().is_empty(), "start {start}");
                assert_eq!(claimed.log.retained().len(), 2, "start {start}");
            }
            assert_eq!(ids(&storage).await, [1, 3], "start {start}");
        }
    }
}

#[tokio::test]
async fn while_a_list_is_damaged_nothing_is_deleted_and_the_job_goes_on() {
    for (_dir, storage) in open_all() {
        let mut log = claim_keeping(&storage, 2).await.log;
        for id in [1, 3] {
            log.commit_alone(&savepoint(&storage, 1, id).await).await.unwrap();
            commit(&storage, &mut log, id + 1, None).await;
        }
        for id in 5..=7 {
            commit(&storage, &mut log, id, None).await;
        }
        storage.sweep().await.unwrap();
        assert_eq!(ids(&storage).await, [1, 3, 6, 7]);
        let lists = storage.blobs().list(FileKind::Savepoints.dir()).await.unwrap();
        let path = format!("{}/{}", FileKind::Savepoints.dir(), lists[0].name);
        let list = storage.blobs().read(&path, 0..lists[0].len).await.unwrap();
        storage.blobs().put(&path, list.slice(1..)).await.unwrap();

        let history = storage.history().await.unwrap();
        assert_eq!((history.completed.len(), history.unreadable_lists.len()), (2, 1));
        assert!(history.unreadable_lists[0].to_string().contains(&path), "{:?}", history.unreadable_lists);
        let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
        assert!(!recovery.is_clean());
        assert_eq!(recovery.restored.unwrap().manifest.checkpoint, CheckpointId(7));
        // The next coordinator keeps what it cannot read, and adds to it.
        let mut next = claim_keeping(&storage, 2).await.log;
        let mut eight = savepoint(&storage, 2, 8).await;
        eight.restored_from = Some(CheckpointId(7));
        next.commit_alone(&eight).await.unwrap();
        for id in 9..=11 {
            commit(&storage, &mut next, id, Some(7)).await;
            let swept = storage.sweep().await.unwrap();
            assert_eq!((swept.deleted.len(), swept.unreadable_lists.len()), (0, 1));
        }
        assert_eq!(ids(&storage).await, [8, 10, 11]);
        // From a copy, it is whole again.
        storage.blobs().put(&path, list).await.unwrap();
        assert_eq!(ids(&storage).await, [1, 3, 8, 10, 11]);
        storage.sweep().await.unwrap();
        assert_eq!(ids(&storage).await, [1, 3, 8, 10, 11]);
        assert_eq!(claim_keeping(&storage, 2).await.log.retained().len(), 5);
    }
}

#[tokio::test]
async fn lists_that_nothing_names_go_beside_a_savepoint_without_its_manifest() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        for id in [1, 3, 5] {
            log.commit_alone(&savepoint(&storage, 1, id).await).await.unwrap();
            commit(&storage, &mut log, id + 1, None).await;
        }
        let shared = manifest_with(&storage, 1, 7, &[b"shared"]).await;
        log.commit_alone(&shared).await.unwrap();
        // It refers to a file of another checkpoint, so a sweep looks for its manifest.
        let mut damaged = manifest_of(1, 8, shared.segments().cloned());
        damaged.kind = CheckpointKind::Savepoint;
        let damaged = log.commit_alone(&damaged).await.unwrap().completed;
        commit(&storage, &mut log, 9, None).await;
        storage.blobs().delete(&damaged.manifest_name().unwrap().path()).await.unwrap();
        claim(&storage).await;
        assert_eq!(storage.sweep().await.unwrap().unreadable_manifests.len(), 1);
        storage.sweep().await.unwrap();
        let lists = storage.blobs().list(FileKind::Savepoints.dir()).await.unwrap();
        let slots = storage.claims().list("log").await.unwrap();
        assert!(lists.len() <= slots.len(), "{lists:?}, {slots:?}");
        assert_eq!(storage.history().await.unwrap().completed.len(), 5);
    }
}

/// More than ever fitted into one entry.
#[tokio::test]
async fn seven_thousand_do_not_end_a_job() {
    let storage = Storage::in_memory().unwrap();
    let mut log = claim(&storage).await.log;
    for id in 1..=7_000 {
        let mut manifest = Manifest::new(CheckpointId(id), 1, "test");
        manifest.kind = match id % 1_000 {
            0 => CheckpointKind::Periodic,
            _ => CheckpointKind::Savepoint,
        };
        log.commit_alone(&manifest).await.unwrap();
    }
    let mut next = claim(&storage).await;
    assert_eq!(next.log.retained().len(), 6_994);
    assert_eq!(next.history.completed.len(), 6_994);
    let mut manifest = Manifest::new(CheckpointId(7_001), 2, "test");
    manifest.restored_from = Some(CheckpointId(7_000));
    next.log.commit_alone(&manifest).await.unwrap();
    storage.sweep().await.unwrap();
    let slots = storage.claims().list("log").await.unwrap();
    assert!(slots.iter().all(|slot| slot.len < 2_000), "{slots:?}");
}
