//! The stores around a store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strandline_state_api::Result;

use super::{Fault, Faults, Operation, injected};
use crate::{BlobStore, ClaimOutcome, ClaimStore, Listed};

#[derive(Debug)]
pub(super) struct FaultyBlobs {
    pub(super) faults: Faults,
    pub(super) inner: Arc<dyn BlobStore>,
}

#[derive(Debug)]
pub(super) struct FaultyClaims {
    pub(super) faults: Faults,
    pub(super) inner: Arc<dyn ClaimStore>,
}

impl Faults {
    /// An operation that changes nothing.
    async fn read(&self, operation: Operation, path: &str) -> Result<()> {
        self.meet(operation, path).await.map_or(Ok(()), |_| Err(injected(path)))
    }
}

fn half(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() / 2)
}

#[async_trait]
impl BlobStore for FaultyBlobs {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        match self.faults.meet(Operation::Put, path).await {
            None => return self.inner.put(path, bytes).await,
            Some(Fault::NotDone | Fault::Hangs | Fault::Held) => {}
            Some(Fault::AnswerLost) => self.inner.put(path, bytes).await?,
            Some(Fault::Torn) => self.inner.put(path, half(&bytes)).await?,
        }
        Err(injected(path))
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.faults.read(Operation::Len, path).await?;
        self.inner.len(path).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.faults.read(Operation::Read, path).await?;
        self.inner.read(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.faults.read(Operation::List, dir).await?;
        self.inner.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.faults.meet(Operation::Delete, path).await {
            None => return self.inner.delete(path).await,
            Some(Fault::NotDone | Fault::Torn | Fault::Hangs | Fault::Held) => {}
            Some(Fault::AnswerLost) => self.inner.delete(path).await?,
        }
        Err(injected(path))
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.inner.leftover_of(name)
    }

    fn retries(&self) -> u64 {
        self.inner.retries()
    }
}

#[async_trait]
impl ClaimStore for FaultyClaims {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        match self.faults.meet(Operation::Claim, path).await {
            None => return self.inner.claim(path, bytes).await,
            Some(Fault::NotDone | Fault::Hangs | Fault::Held) => {}
            Some(Fault::AnswerLost) => drop(self.inner.claim(path, bytes).await?),
            Some(Fault::Torn) => drop(self.inner.claim(path, half(&bytes)).await?),
        }
        Err(injected(path))
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        self.faults.read(Operation::Read, path).await?;
        self.inner.read(path, limit).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.faults.read(Operation::List, dir).await?;
        self.inner.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.faults.meet(Operation::Delete, path).await {
            None => return self.inner.delete(path).await,
            Some(Fault::NotDone | Fault::Torn | Fault::Hangs | Fault::Held) => {}
            Some(Fault::AnswerLost) => self.inner.delete(path).await?,
        }
        Err(injected(path))
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.inner.leftover_of(name)
    }
}
