//! The store as nobody in a simulation sees it: at once, and without faults. Who judges reads here.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_checkpoint_storage::{BlobStore, ClaimOutcome, ClaimStore, Listed, Storage, Term};
use strandline_state_api::{CheckpointId, Result};

use crate::store::{Disk, list, missing, slice};

struct DirectStore(Disk);

/// The storage of the job without a network.
pub(crate) fn storage(disk: &Disk) -> Storage {
    let store = Arc::new(DirectStore(disk.clone()));
    Storage::from_parts("simulation://", Arc::clone(&store) as _, store)
}

/// Runs a future that waits for nothing but itself.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let (mut context, mut future) = (Context::from_waker(Waker::noop()), pin!(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// The checkpoints that the log names, also those that its newest one gave up.
pub(crate) fn in_log(disk: &Disk) -> Result<Vec<(Term, CheckpointId)>> {
    let history = now(storage(disk).history())?;
    let known = history.completed.iter().chain(&history.given_up).chain(&history.removed);
    Ok(known.map(|known| (known.term, known.checkpoint)).collect())
}

impl fmt::Debug for DirectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectStore")
    }
}

#[async_trait]
impl BlobStore for DirectStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.0.with(|files| drop(files.insert(path.to_owned(), bytes)));
        Ok(())
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.0.with(|files| files.get(path).map(|bytes| bytes.len() as u64)))
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.0.with(|files| files.get(path).cloned()).ok_or_else(|| missing(path))?;
        slice(&bytes, range, path)
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let names = self.0.with(|files| list(files, dir));
        Ok(names.into_iter().map(|(name, len)| Listed { name, len }).collect())
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.0.with(|files| drop(files.remove(path)));
        Ok(())
    }
}

#[async_trait]
impl ClaimStore for DirectStore {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        Ok(self.0.with(|files| {
            if files.contains_key(path) {
                return ClaimOutcome::Exists;
            }
            files.insert(path.to_owned(), bytes);
            ClaimOutcome::Created
        }))
    }

    async fn read(&self, path: &str, _limit: u64) -> Result<Option<Bytes>> {
        Ok(self.0.with(|files| files.get(path).cloned()))
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        BlobStore::list(self, dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        BlobStore::delete(self, path).await
    }
}
