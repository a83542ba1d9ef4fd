//! Anything that OpenDAL reaches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opendal::layers::{RetryEvent, RetryInterceptor, RetryLayer, TimeoutLayer};
use opendal::options::WriteOptions;
use opendal::{EntryMode, Operator};
use strandline_state_api::{Error, ErrorKind, Result};

use super::{BlobStore, ClaimOutcome, ClaimStore, Listed};

const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: usize = 5;

/// A store behind an OpenDAL [`Operator`], with a timeout of 30 s for each request and five retries.
///
/// Conditional creates are the exception: they are sent once, because a retry would take its own success for
/// that of another.
#[derive(Clone, Debug)]
pub struct ObjectStore {
    retrying: Operator,
    once: Operator,
    retries: Arc<AtomicU64>,
}

struct Count(Arc<AtomicU64>);

impl RetryInterceptor for Count {
    fn intercept(&self, event: RetryEvent<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(error = %event.err, attempt = event.attempt, "storage operation is retried");
    }
}

impl ObjectStore {
    /// Takes an operator without layers of its own for retry.
    pub fn new(operator: Operator) -> Self {
        let retries = Arc::new(AtomicU64::new(0));
        // The timeout is inside the retry: outside, it would drop a retry in the middle.
        let once = operator.layer(TimeoutLayer::new().with_timeout(TIMEOUT).with_io_timeout(TIMEOUT));
        let retry = RetryLayer::new().with_max_times(RETRIES).with_jitter();
        let retrying = once.clone().layer(retry.with_notify(Count(Arc::clone(&retries))));
        Self { retrying, once, retries }
    }

    /// A new store in memory that only this value and its clones can reach.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when OpenDAL refuses.
    pub fn in_memory() -> Result<Self> {
        let operator = Operator::new(opendal::services::Memory::default());
        Ok(Self::new(operator.map_err(|e| translate(e, "open", "memory://"))?))
    }

    /// Whether the store creates an object only if it does not exist, in one step, as a [`ClaimStore`] must.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when it cannot.
    pub fn check_can_claim(&self) -> Result<()> {
        let info = self.once.info();
        // Its check and its rename are two steps: measured, it answers both of two writers that they won.
        let torn = info.scheme() == "fs";
        if info.capability().write_with_if_not_exists && !torn {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "this store cannot create an object atomically only if it does not exist, so two coordinators could \
             both complete a checkpoint; use a local directory, S3 with conditional writes, or give a claim store",
        )
        .with("store", info.scheme()))
    }

    pub(super) async fn list_dir(&self, dir: &str) -> Result<Vec<Listed>> {
        let entries = self.retrying.list(&format!("{dir}/")).await;
        let entries = match entries {
            Ok(entries) => entries,
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(translate(e, "list", dir)),
        };
        let file = |entry: opendal::Entry| {
            let name = entry.name().to_owned();
            (entry.metadata().mode() != EntryMode::DIR && !name.is_empty())
                .then(|| Listed { name, len: entry.metadata().content_length() })
        };
        Ok(entries.into_iter().filter_map(file).collect())
    }

    pub(super) async fn len_of(&self, path: &str) -> Result<Option<u64>> {
        match self.retrying.stat(path).await {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.content_length())),
            Ok(_) => Err(Error::corrupt("a directory stands where a file belongs").with("file", path)),
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(translate(e, "look up", path)),
        }
    }

    pub(super) async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let want = range.end.saturating_sub(range.start);
        if want == 0 {
            return match self.len_of(path).await? {
                Some(len) if len >= range.end => Ok(Bytes::new()),
                Some(_) => Err(too_short(path)),
                None => Err(missing(path)),
            };
        }
        let read = self.retrying.read_with(path).range(range).await;
        let bytes = match read {
            Ok(buffer) => buffer.to_bytes(),
            Err(e) if e.kind() == opendal::ErrorKind::RangeNotSatisfied => return Err(too_short(path)),
            Err(e) => return Err(translate(e, "read", path)),
        };
        if bytes.len() as u64 == want { Ok(bytes) } else { Err(too_short(path)) }
    }

    pub(super) async fn read_slot(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let Some(len) = self.len_of(path).await? else {
            return Ok(None);
        };
        if len > limit {
            return Err(
                Error::corrupt(format!("{len} bytes where at most {limit} belong")).with("file", path)
            );
        }
        match self.read_range(path, 0..len).await {
            Ok(bytes) => Ok(Some(bytes)),
            // Deleted since.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        match self.retrying.delete(path).await {
            Ok(()) => Ok(()),
            // On a local disk it is looked up first, and may be gone before it is deleted.
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(translate(e, "delete", path)),
        }
    }
}

#[async_trait]
impl BlobStore for ObjectStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        self.retrying.write(path, bytes).await.map(drop).map_err(|e| translate(e, "write", path))
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        self.len_of(path).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.read_range(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.list_dir(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path).await
    }

    fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ClaimStore for ObjectStore {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        self.check_can_claim()?;
        let options = WriteOptions { if_not_exists: true, ..WriteOptions::default() };
        match self.once.write_options(path, bytes, options).await {
            Ok(_) => Ok(ClaimOutcome::Created),
            Err(e) if lost(e.kind()) => Ok(ClaimOutcome::Exists),
            Err(e) => Err(translate(e, "claim", path)),
        }
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        self.read_slot(path, limit).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.list_dir(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.remove(path).await
    }
}

fn lost(kind: opendal::ErrorKind) -> bool {
    matches!(kind, opendal::ErrorKind::ConditionNotMatch | opendal::ErrorKind::AlreadyExists)
}

fn too_short(path: &str) -> Error {
    Error::corrupt("the file is shorter than it must be").with("file", path)
}

fn missing(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the file does not exist").with("file", path)
}

/// An error of OpenDAL in the words of this crate family.
pub(crate) fn translate(error: opendal::Error, doing: &str, path: &str) -> Error {
    let kind = match error.kind() {
        opendal::ErrorKind::NotFound => return missing(path),
        opendal::ErrorKind::ConfigInvalid => ErrorKind::Invalid,
        opendal::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the store could not {doing} a file")).with("file", path).caused_by(error)
}
