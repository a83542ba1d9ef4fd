//! Retention and sweeping: what a retained checkpoint needs stays, everything else goes, nothing in use is
//! touched.

use std::collections::BTreeSet;

use strandline_checkpoint_storage::{
    CheckpointKind, CompletedCheckpoint, FileKind, LOG_DIR, RecoverFrom, RecoverOptions,
};
use strandline_state_api::snapshot::SegmentRef;
use strandline_state_api::{CheckpointId, ErrorKind};

use super::StorageSubject;
use super::place::{claim, commit, existing, files, manifest, recover, segment};
use crate::effort::programs;
use crate::wait::wait;

fn path(segment: &SegmentRef) -> String {
    format!("{}/{}", FileKind::Segment.dir(), segment.name)
}

/// As many checkpoints are kept as were asked for, with every file that they share with older ones.
pub fn the_retained_count_is_kept(subject: &StorageSubject) {
    for retain in 1..=3 {
        let open = subject.place();
        wait(async {
            let storage = open();
            let mut log = claim(&storage, retain).await.unwrap().log;
            let mut segments = Vec::new();
            for id in 1..=8u64 {
                // From 5 on, the first three segments are needed no more: they were folded.
                let older = if id == 5 { &segments[segments.len() - 1..] } else { &segments[..] };
                segments = commit(&storage, &mut log, id, older).await.unwrap();
                storage.sweep().await.unwrap();
                let kept: Vec<u64> =
                    (id.saturating_sub(retain as u64) + 1..=id).filter(|id| *id > 0).collect();
                assert_eq!(existing(&open()).await.unwrap(), kept);
            }
            let left = files(&storage).await.unwrap();
            let segments_left = left.iter().filter(|path| path.starts_with(FileKind::Segment.dir())).count();
            assert_eq!(segments_left, segments.len(), "{left:?}");
            assert_eq!(left.len(), segments.len() + 2 * retain);
        });
    }
}

/// Savepoints stay, outside of the count, with what they need.
pub fn savepoints_stay(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        let mut log = claim(&storage, 1).await.unwrap().log;
        let segments = commit(&storage, &mut log, 1, &[]).await.unwrap();
        let mut savepoint = manifest(log.term(), 2, &segments);
        savepoint.kind = CheckpointKind::Savepoint;
        log.commit_alone(&savepoint).await.unwrap();
        for id in 3..=6 {
            commit(&storage, &mut log, id, &[]).await.unwrap();
            storage.sweep().await.unwrap();
        }
        assert_eq!(existing(&open()).await.unwrap(), [2, 6]);
    });
}

/// A job that goes on from an older checkpoint gives up those between. From then on no recovery falls back to
/// them, and a sweep takes what only they need; a savepoint among them stays for who names it.
pub fn a_fallback_gives_up_what_it_passes_over(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        let mut log = claim(&storage, 3).await.unwrap().log;
        for id in 1..=5 {
            let segments = [segment(&storage, log.term(), id, &id.to_le_bytes()).await.unwrap()];
            let mut manifest = manifest(log.term(), id, &segments);
            if id == 4 {
                manifest.kind = CheckpointKind::Savepoint;
            }
            log.commit_alone(&manifest).await.unwrap();
        }
        // Until the new branch has a checkpoint, everything is there.
        let mut log = claim(&open(), 3).await.unwrap().log;
        storage.sweep().await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [2, 3, 4, 5]);
        let mut six = manifest(log.term(), 6, &[]);
        six.restored_from = Some(CheckpointId(2));
        log.commit_alone(&six).await.unwrap();
        let history = storage.history().await.unwrap();
        let ids = |found: &[CompletedCheckpoint]| found.iter().map(|c| c.checkpoint.0).collect::<Vec<_>>();
        assert_eq!((ids(&history.completed), ids(&history.given_up)), (vec![2, 4, 6], vec![3, 5]));
        let on_branch: Vec<_> = history.completed.iter().map(|c| history.is_on_branch(c)).collect();
        assert_eq!(on_branch, [true, false, true]);
        storage.sweep().await.unwrap();
        let left = files(&open()).await.unwrap();
        let of = |id: u64| left.iter().filter(|path| path.contains(&format!("-{id:020}-"))).count();
        assert_eq!([2, 3, 4, 5].map(of), [3, 0, 3, 0], "{left:?}");
        // The newest is damaged: the one that it grew from is restored, and not a newer one of the past that
        // was given up.
        let newest = history.latest().unwrap().manifest_name().unwrap().path();
        storage.blobs().delete(&newest).await.unwrap();
        let recovery = recover(&open()).await.unwrap();
        assert_eq!(recovery.restored.map(|restored| restored.completed.checkpoint.0), Some(2));
        let from = RecoverOptions { from: RecoverFrom::Checkpoint(CheckpointId(4)), ..Default::default() };
        let by_name = open().recover(from).await.unwrap().restored.unwrap();
        assert_eq!(by_name.completed.checkpoint.0, 4);
    });
}

/// However many savepoints there are, entries of the log stay small; and savepoints can be removed, with
/// their files, beside a job that goes on.
pub fn savepoints_are_many_and_can_be_removed(subject: &StorageSubject) {
    let open = subject.place();
    let many = programs(150);
    wait(async {
        let storage = open();
        let mut log = claim(&storage, 1).await.unwrap().log;
        for id in 1..=many {
            let segments = [segment(&storage, log.term(), id, &id.to_le_bytes()).await.unwrap()];
            let mut manifest = manifest(log.term(), id, &segments);
            if id % 3 != 0 {
                manifest.kind = CheckpointKind::Savepoint;
            }
            log.commit_alone(&manifest).await.unwrap();
        }
        let slots = storage.claims().list(LOG_DIR).await.unwrap();
        let longest = slots.iter().map(|slot| slot.len).max().unwrap();
        assert!(longest < 1_500, "an entry of the log has {longest} bytes");
        let savepoints: Vec<u64> = (1..many).filter(|id| id % 3 != 0).collect();
        let mut kept = savepoints.clone();
        kept.push(many);
        assert_eq!(existing(&open()).await.unwrap(), kept);

        let refused = storage.remove_savepoint(CheckpointId(many)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "the newest checkpoint: {refused}");
        let missing = storage.remove_savepoint(CheckpointId(3)).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
        let other = open();
        for id in &savepoints[1..] {
            other.remove_savepoint(CheckpointId(*id)).await.unwrap();
            other.remove_savepoint(CheckpointId(*id)).await.unwrap();
        }
        assert_eq!(existing(&open()).await.unwrap(), [1, many]);
        other.sweep().await.unwrap();
        commit(&storage, &mut log, many + 1, &[]).await.unwrap();
        commit(&storage, &mut log, many + 2, &[]).await.unwrap();
        // Two checkpoints of three files each, and the list.
        other.sweep().await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [1, many + 2]);
        let left = files(&open()).await.unwrap();
        assert_eq!(left.len(), 7, "{left:?}");
        let next = claim(&open(), 1).await.unwrap();
        assert_eq!(next.log.retained().len(), 2);
        assert_eq!(existing(&open()).await.unwrap(), [1, many + 2]);
    });
}

/// What a checkpoint under way has written stays, also when it builds on one that was aborted; what a fenced
/// coordinator wrote goes.
pub fn files_of_running_checkpoints_stay(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        let mut log = claim(&storage, 1).await.unwrap().log;
        let base = commit(&storage, &mut log, 1, &[]).await.unwrap();
        let aborted = segment(&storage, log.term(), 2, b"written for 2, which is aborted").await.unwrap();
        let running = segment(&storage, log.term(), 3, b"written for 3, which is under way").await.unwrap();
        storage.sweep().await.unwrap();
        let left = files(&open()).await.unwrap();
        for needed in base.iter().chain([&aborted, &running]) {
            assert!(left.contains(&path(needed)), "{} is in use, and was swept", needed.name);
        }
        let all = [&base[..], &[aborted.clone(), running.clone()]].concat();
        log.commit_alone(&manifest(log.term(), 3, &all)).await.unwrap();
        storage.sweep().await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [3]);
        // A new coordinator: what the old one leaves behind is dead, what its checkpoint needs is not.
        let garbage = segment(&storage, log.term(), 4, b"written for 4, which will never be").await.unwrap();
        let mut next = claim(&open(), 1).await.unwrap().log;
        storage.sweep().await.unwrap();
        assert!(!files(&open()).await.unwrap().contains(&path(&garbage)), "a dead file is left");
        assert_eq!(existing(&open()).await.unwrap(), [3]);
        commit(&open(), &mut next, 4, &[running]).await.unwrap();
        storage.sweep().await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [4]);
    });
}

/// Random histories: after every sweep each retained checkpoint verifies, and at the end nothing else is
/// there.
pub fn random_histories(subject: &StorageSubject) {
    for seed in 0..programs(12) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let open = subject.place();
        wait(async {
            let mut retain = rng.usize(1..4);
            let mut claimed = claim(&open(), retain).await.unwrap();
            let mut chain: Vec<SegmentRef> = Vec::new();
            let mut completed: Vec<SegmentRef> = Vec::new();
            let mut id = 0;
            for _ in 0..25 {
                let (storage, term) = (open(), claimed.log.term());
                id += 1;
                match rng.u8(..10) {
                    0 => {
                        retain = rng.usize(1..4);
                        claimed = claim(&open(), retain).await.unwrap();
                        id = claimed.next_checkpoint().0;
                        chain.clone_from(&completed);
                    }
                    // Aborted: written, part of the chain of the backend, never completed.
                    1 | 2 => {
                        chain.push(segment(&storage, term, id, &rng.u64(..).to_le_bytes()).await.unwrap());
                    }
                    // Folded: the chain is one new file.
                    3 => chain = vec![segment(&storage, term, id, &rng.u64(..).to_le_bytes()).await.unwrap()],
                    _ => {
                        chain = commit(&storage, &mut claimed.log, id, &chain).await.unwrap();
                        completed.clone_from(&chain);
                    }
                }
                if rng.bool() {
                    open().sweep().await.unwrap();
                }
                existing(&storage).await.unwrap_or_else(|e| panic!("seed {seed}, checkpoint {id}: {e}"));
            }
            let storage = open();
            // A term claimed at the end makes all that is not retained garbage.
            claim(&storage, retain).await.unwrap();
            storage.sweep().await.unwrap();
            let mut needed = BTreeSet::new();
            for checkpoint in existing(&storage).await.unwrap() {
                let history = storage.history().await.unwrap();
                let found = history.find(CheckpointId(checkpoint)).cloned().expect("it exists");
                let its = storage.read_manifest(&found).await.unwrap();
                needed.extend(its.segments().map(path));
            }
            let left = files(&storage).await.unwrap();
            let left: BTreeSet<_> =
                left.into_iter().filter(|path| path.starts_with(FileKind::Segment.dir())).collect();
            assert_eq!(left, needed, "seed {seed}");
        });
    }
}
