//! A coordinator that falls asleep at the worst instant: after it has looked, before it creates.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_checkpoint_protocol::{CommitResult, CommitRight};
use strandline_checkpoint_storage::faults::{Fault, Faults, Target};
use strandline_checkpoint_storage::{ClaimOutcome, ClaimStore, Listed, Storage, Term};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::common::{claim, manifest_with, open_all};

/// Another coordinator lives its whole life before the first claim is done.
#[derive(Debug)]
struct Sleepy {
    storage: Storage,
    meanwhile: Mutex<Option<u64>>,
    /// Whether listings miss all but the lowest slot, as one may that was made while slots came and went.
    torn: bool,
    /// Whether the answers to claims get lost.
    lossy: bool,
}

#[async_trait]
impl ClaimStore for Sleepy {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        let checkpoints = self.meanwhile.lock().unwrap().take();
        if let Some(checkpoints) = checkpoints {
            let mut other = claim(&self.storage).await.log;
            for id in 1..=checkpoints {
                other.commit_alone(&manifest_with(&self.storage, 1, id, &[b"other"]).await).await?;
                self.storage.sweep().await?;
            }
        }
        let outcome = self.storage.claims().claim(path, bytes).await?;
        if self.lossy && outcome == ClaimOutcome::Created {
            return Err(Error::new(ErrorKind::Unavailable, "the answer got lost"));
        }
        Ok(outcome)
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        self.storage.claims().read(path, limit).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let mut files = self.storage.claims().list(dir).await?;
        if self.torn {
            files.sort();
            files.truncate(1);
        }
        Ok(files)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.storage.claims().delete(path).await
    }
}

#[tokio::test]
async fn who_sleeps_before_the_first_slot_does_not_begin_a_second_log() {
    for checkpoints in [0, 1, 2, 9] {
        for (_dir, storage) in open_all() {
            let meanwhile = Mutex::new(Some(checkpoints));
            let sleepy = Sleepy { storage: storage.clone(), meanwhile, torn: false, lossy: false };
            let asleep = Storage::from_parts("sleepy", Arc::clone(storage.blobs()), Arc::new(sleepy));
            let mut claimed = claim(&asleep).await;
            assert_eq!((claimed.log.term(), claimed.next_checkpoint().0), (Term(2), checkpoints + 1));
            assert_eq!(claimed.history.latest().map_or(0, |latest| latest.checkpoint.0), checkpoints);
            let manifest = manifest_with(&storage, 2, checkpoints + 1, &[]).await;
            claimed.log.commit_alone(&manifest).await.unwrap();
            let history = storage.history().await.unwrap();
            assert!(history.unreadable.is_empty(), "{history:?}");
            assert_eq!(history.latest().unwrap().checkpoint, CheckpointId(checkpoints + 1));
        }
    }
}

#[tokio::test]
async fn who_sleeps_before_a_commit_does_not_need_a_listing_to_know() {
    for lossy in [false, true] {
        for (_dir, storage) in open_all() {
            let sleepy = Sleepy { storage: storage.clone(), meanwhile: Mutex::new(None), torn: true, lossy };
            let asleep = Storage::from_parts("sleepy", Arc::clone(storage.blobs()), Arc::new(sleepy));
            let mut log = claim(&asleep).await.log;
            log.commit_alone(&manifest_with(&storage, 1, 1, &[]).await).await.unwrap();
            let mut other = claim(&storage).await.log;
            for id in 2..9 {
                other.commit_alone(&manifest_with(&storage, 2, id, &[]).await).await.unwrap();
                storage.sweep().await.unwrap();
            }
            let error = log.commit_alone(&manifest_with(&storage, 1, 2, &[]).await).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        }
    }
}

/// It creates its entry in a slot that was deleted long ago, and then the store fails twice: before it has
/// looked whether the slot counts, and when it looks again.
#[tokio::test]
async fn what_a_sleeper_could_not_confirm_is_no_checkpoint() {
    let mut fenced = 0;
    for (first, second) in (0..12).flat_map(|first| (first + 1..14).map(move |second| (first, second))) {
        let (storage, faults) = (Storage::in_memory().unwrap(), Faults::never());
        let mut log = claim(&faults.wrap(&storage)).await.log;
        let mut other = claim(&storage).await.log;
        for id in 1..9 {
            other.commit_alone(&manifest_with(&storage, 2, id, &[]).await).await.unwrap();
            storage.sweep().await.unwrap();
        }
        let manifest = manifest_with(&storage, 1, 1, &[]).await;
        faults.add(Target::any().nth(first), Fault::NotDone);
        faults.add(Target::any().nth(second), Fault::AnswerLost);
        let right = CommitRight::of_sole_participant(manifest.checkpoint, manifest.kind);
        let outcome = log.commit(&right, &manifest).await;
        assert_ne!(outcome.result(), CommitResult::Committed, "{first} and {second} fail: {outcome:?}");
        assert!(log.retained().iter().all(|known| known.term > log.term()), "{:?}", log.retained());
        fenced += u32::from(outcome.result() == CommitResult::Fenced);
        other.commit_alone(&manifest_with(&storage, 2, 9, &[]).await).await.unwrap();
    }
    assert!(fenced > 0, "some find out");
}

/// The request that created its last entry is carried out once more, when the entry was deleted long ago.
#[tokio::test]
async fn an_entry_that_comes_back_does_not_deceive_the_sleeper_that_created_it() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        for id in 1..4 {
            log.commit_alone(&manifest_with(&storage, 1, id, &[]).await).await.unwrap();
        }
        let newest = log.retained().last().unwrap().slot;
        let path = format!("log/{newest:020}");
        let entry = storage.claims().read(&path, 1 << 20).await.unwrap().unwrap();
        let mut other = claim(&storage).await.log;
        for id in 4..9 {
            other.commit_alone(&manifest_with(&storage, 2, id, &[]).await).await.unwrap();
            storage.sweep().await.unwrap();
        }
        assert_eq!(storage.claims().claim(&path, entry).await.unwrap(), ClaimOutcome::Created, "it was gone");
        let error = log.commit_alone(&manifest_with(&storage, 1, 4, &[]).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        other.commit_alone(&manifest_with(&storage, 2, 9, &[]).await).await.unwrap();
    }
}
