//! Several coordinators on one storage: at most one completes checkpoints, and a stale one learns of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_checkpoint_storage::{BlobStore, CommitLog, FileKind, LOG_DIR, Listed, Storage, Term};
use strandline_state_api::{ErrorKind, Result};

use super::StorageSubject;
use super::place::{claim, commit, existing, recover};
use crate::effort::programs;
use crate::wait::wait;

/// What one coordinator completed, the next one resumes from, with its own handle.
pub fn a_checkpoint_is_recovered(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        let mut claimed = claim(&storage, 1).await.unwrap();
        assert!(recover(&storage).await.unwrap().restored.is_none(), "an empty storage is an empty start");
        let id = claimed.next_checkpoint().0;
        let segments = commit(&storage, &mut claimed.log, id, &[]).await.unwrap();
        let later = open();
        let next = claim(&later, 1).await.unwrap();
        assert!(next.log.term() > claimed.log.term());
        assert!(next.next_checkpoint().0 > id);
        let recovery = recover(&later).await.unwrap();
        assert!(recovery.is_clean(), "{recovery:?}");
        let restored = recovery.restored.expect("there is a checkpoint");
        assert_eq!((restored.completed.checkpoint.0, restored.manifest.term), (id, claimed.log.term()));
        assert!(restored.manifest.segments().eq(&segments));
        let entry = &restored.manifest.operators[0].subtasks[0].operator_state[0];
        assert_eq!(entry.elements, [vec![id as u8; 100_000]]);
    });
}

/// Once a higher term is claimed, the older coordinator completes nothing, whatever it had written already.
pub fn a_stale_coordinator_is_fenced(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let (old_storage, new_storage) = (open(), open());
        let mut old = claim(&old_storage, 2).await.unwrap().log;
        let segments = commit(&old_storage, &mut old, 1, &[]).await.unwrap();
        let mut new = claim(&new_storage, 2).await.unwrap().log;
        let error = commit(&old_storage, &mut old, 2, &segments).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        let error = old.check().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert_eq!(existing(&new_storage).await.unwrap(), [1]);
        // The same number is free for the new one, and the old one stays fenced for ever.
        commit(&new_storage, &mut new, 2, &segments).await.unwrap();
        let error = commit(&old_storage, &mut old, 3, &segments).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        old_storage.sweep().await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [1, 2]);
        let newest = recover(&open()).await.unwrap().restored.expect("two checkpoints");
        assert_eq!(newest.manifest.term, new.term());
    });
}

/// Eight coordinators claim at once: eight different terms, and only the holder of the highest can commit.
pub fn coordinators_that_claim_at_once(subject: &StorageSubject) {
    for _ in 0..programs(3) {
        let open = subject.place();
        let claim_one = || {
            let storage = open();
            (wait(claim(&storage, 1)).unwrap().log, storage)
        };
        let mut logs = BTreeMap::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim_one)).collect();
            for thread in threads {
                let (log, storage) = thread.join().expect("no thread fails");
                let twice = logs.insert(log.term(), (log, storage));
                assert!(twice.is_none(), "a term was claimed twice");
            }
        });
        wait(async {
            let highest = *logs.last_key_value().expect("eight terms").0;
            for (term, (log, storage)) in &mut logs {
                let committed = commit(storage, log, 1, &[]).await;
                if *term == highest {
                    committed.unwrap();
                } else {
                    assert_eq!(committed.unwrap_err().kind(), ErrorKind::Fenced, "term {term} of {highest}");
                }
            }
            assert_eq!(existing(&open()).await.unwrap(), [1]);
        });
    }
}

/// A job that fails in each of its starts does not make the log longer, so the next start is not slower.
pub fn starts_that_complete_nothing(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let storage = open();
        let mut log = claim(&storage, 2).await.unwrap().log;
        for id in 1..=3 {
            commit(&storage, &mut log, id, &[]).await.unwrap();
        }
        for _ in 0..programs(40) {
            claim(&open(), 2).await.unwrap();
            let recovery = recover(&open()).await.unwrap();
            assert_eq!(recovery.restored.map(|restored| restored.completed.checkpoint.0), Some(3));
        }
        storage.sweep().await.unwrap();
        let slots = storage.claims().list(LOG_DIR).await.unwrap();
        assert!(slots.len() <= 3, "{} slots are left", slots.len());
        assert_eq!(existing(&open()).await.unwrap(), [2, 3]);
        let mut next = claim(&open(), 2).await.unwrap();
        assert_eq!(next.next_checkpoint().0, 4);
        commit(&storage, &mut next.log, 4, &[]).await.unwrap();
        assert_eq!(existing(&open()).await.unwrap(), [3, 4]);
    });
}

/// A coordinator looks at an empty storage, and while it does, another claims the first term and commits: no
/// damage, and the second term is there to be had.
pub fn the_first_claims_of_a_storage(subject: &StorageSubject) {
    let open = subject.place();
    wait(async {
        let (plain, first) = (open(), Mutex::new(None));
        let blobs = Arc::new(Interrupted { storage: open(), other: open(), first });
        let storage = Storage::from_parts("interrupted", Arc::clone(&blobs) as _, Arc::clone(plain.claims()));
        let mut late = claim(&storage, 1).await.unwrap().log;
        // Unless no manifest was looked for: then nobody came in between.
        let first = blobs.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut first) = first {
            assert!(late.term() > first.term());
            let error = commit(&plain, &mut first, 2, &[]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        }
        commit(&plain, &mut late, 3, &[]).await.unwrap();
    });
}

/// The objects of a storage. Before manifests are first listed, another coordinator claims a term and
/// commits.
#[derive(Debug)]
struct Interrupted {
    storage: Storage,
    other: Storage,
    first: Mutex<Option<CommitLog>>,
}

#[async_trait]
impl BlobStore for Interrupted {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.storage.blobs().put(path, bytes).await
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.storage.blobs().len(path).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.storage.blobs().read(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let wanted = dir == FileKind::Manifest.dir();
        if wanted && self.other.completed().await?.is_empty() {
            let mut log = claim(&self.other, 1).await?.log;
            commit(&self.other, &mut log, 1, &[]).await?;
            *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
        }
        self.storage.blobs().list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.storage.blobs().delete(path).await
    }
}

/// Coordinators take over from each other while the others go on committing: no checkpoint is completed
/// twice, none that was reported is lost or replaced.
pub fn coordinators_that_race(subject: &StorageSubject) {
    for _ in 0..programs(3) {
        let open = subject.place();
        let mut reported: BTreeMap<u64, Term> = BTreeMap::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| wait(takes_over_and_commits(open())))).collect();
            for thread in threads {
                for (checkpoint, term) in thread.join().expect("no thread fails") {
                    let other = reported.insert(checkpoint, term);
                    assert!(
                        other.is_none(),
                        "checkpoint {checkpoint}: terms {term} and {other:?} completed it"
                    );
                }
            }
        });
        wait(async {
            let terms: Vec<Term> = reported.values().copied().collect();
            assert!(terms.is_sorted(), "a lower term completed a later checkpoint: {reported:?}");
            let newest =
                recover(&open()).await.unwrap().restored.map(|r| (r.completed.checkpoint.0, r.manifest.term));
            assert_eq!(newest, reported.last_key_value().map(|(id, term)| (*id, *term)));
        });
    }
}

/// Claims, commits until it is fenced, and again; returns the checkpoints that it completed.
async fn takes_over_and_commits(storage: Storage) -> Vec<(u64, Term)> {
    let mut reported = Vec::new();
    for _ in 0..3 {
        let mut claimed = claim(&storage, 3).await.unwrap();
        let first = claimed.next_checkpoint().0;
        for id in first..first + 3 {
            match commit(&storage, &mut claimed.log, id, &[]).await {
                Ok(_) => reported.push((id, claimed.log.term())),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
    }
    reported
}
