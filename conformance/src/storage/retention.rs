//! Retention and sweeping: what a retained checkpoint needs stays, everything else goes, nothing in use is
//! touched.

use std::collections::BTreeSet;

use strandline_checkpoint_storage::{CheckpointKind, FileKind};
use strandline_state_api::CheckpointId;
use strandline_state_api::snapshot::SegmentRef;

use super::StorageSubject;
use super::place::{claim, commit, existing, files, manifest, segment};
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
