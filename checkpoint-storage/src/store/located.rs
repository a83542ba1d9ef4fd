//! Errors of stores with the name of the whole storage.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strandline_state_api::{Error, Result};

use super::{BlobStore, ClaimOutcome, ClaimStore, Listed};

/// A store that adds to its errors where it is.
#[derive(Debug)]
pub(crate) struct Located<S: ?Sized> {
    pub(crate) uri: Arc<str>,
    pub(crate) store: Arc<S>,
}

impl<S: ?Sized> Located<S> {
    fn locate(&self, error: Error) -> Error {
        locate(error, &self.uri)
    }
}

/// Adds the storage to an error that does not name it.
pub(crate) fn locate(error: Error, uri: &str) -> Error {
    if error.context("storage").is_some() { error } else { error.with("storage", uri) }
}

#[async_trait]
impl BlobStore for Located<dyn BlobStore> {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.store.put(path, bytes).await.map_err(|e| self.locate(e))
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.store.len(path).await.map_err(|e| self.locate(e))
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.store.read(path, range).await.map_err(|e| self.locate(e))
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.store.list(dir).await.map_err(|e| self.locate(e))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.store.delete(path).await.map_err(|e| self.locate(e))
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.store.leftover_of(name)
    }

    fn retries(&self) -> u64 {
        self.store.retries()
    }
}

#[async_trait]
impl ClaimStore for Located<dyn ClaimStore> {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        self.store.claim(path, bytes).await.map_err(|e| self.locate(e))
    }

    async fn check(&self) -> Result<()> {
        self.store.check().await.map_err(|e| self.locate(e))
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        self.store.read(path, limit).await.map_err(|e| self.locate(e))
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.store.list(dir).await.map_err(|e| self.locate(e))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.store.delete(path).await.map_err(|e| self.locate(e))
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.store.leftover_of(name)
    }
}
