//! Anything that OpenDAL reaches.

mod errors;
mod probe;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opendal::layers::TimeoutLayer;
use opendal::options::WriteOptions;
use opendal::{EntryMode, Operator};
use strandline_state_api::{Error, ErrorKind, Result};

pub(crate) use self::errors::translate;
use self::errors::{lost, reason};
use self::probe::probe;
use super::faults::{missing, no_file, too_long, too_short};
use super::retry::Patience;
use super::{BlobStore, ClaimOutcome, ClaimStore, Listed};
use crate::{StorageOptions, background};

/// The pause after a claim without an answer; each further one in a row doubles it.
const CLAIM_PAUSE: Duration = Duration::from_millis(10);
const MOST_DOUBLED: u32 = 5;

/// What a store knows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its length in bytes.
    pub len: u64,
    /// A tag of its content (`ETag`), which another content does not have; `None` where the store has none.
    pub tag: Option<String>,
}

impl ObjectInfo {
    fn of(metadata: &opendal::Metadata) -> Self {
        Self { len: metadata.content_length(), tag: metadata.etag().map(str::to_owned) }
    }
}

/// A store behind an OpenDAL [`Operator`], with a timeout for each request and with retries, by default five:
/// over half a minute, or within four seconds where nothing listens. [`StorageOptions`] sets both.
///
/// Conditional creates are the exception: they are sent once, because a retry would take its own success for
/// that of another.
///
/// Requests run on threads of this crate, so any runtime may be around the caller, or none.
#[derive(Clone)]
pub struct ObjectStore {
    operator: Operator,
    /// Nothing is ever waited for.
    in_memory: bool,
    retries: Arc<AtomicU64>,
    /// Claims in a row that had no answer.
    failed_claims: Arc<AtomicU32>,
    options: StorageOptions,
}

impl ObjectStore {
    /// Takes an operator without layers of its own for retry.
    pub fn new(operator: Operator) -> Self {
        Self::with_options(operator, &StorageOptions::default())
    }

    /// As [`new`](Self::new), with the timeout, the retries and the pauses of `options`.
    pub fn with_options(operator: Operator, options: &StorageOptions) -> Self {
        let in_memory = operator.info().scheme() == "memory";
        let timeout = options.request_timeout;
        let operator = match in_memory {
            true => operator,
            false => operator.layer(TimeoutLayer::new().with_timeout(timeout).with_io_timeout(timeout)),
        };
        let (retries, failed_claims, options) = (Arc::default(), Arc::default(), options.clone());
        Self { operator, in_memory, retries, failed_claims, options }
    }

    /// A new store in memory that only this value and its clones can reach.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when OpenDAL refuses.
    pub fn in_memory() -> Result<Self> {
        let operator = Operator::new(opendal::services::Memory::default());
        Ok(Self::new(operator.map_err(|e| translate(&e, "open", "memory://"))?))
    }

    /// The bucket at this URI (`s3://bucket`, with options behind `?` as for [`Storage`](crate::Storage)), or
    /// a new store in memory (`memory://`), for objects of others.
    ///
    /// # Errors
    /// When it is no such URI, or this build has no S3.
    pub fn open(uri: &str) -> Result<Self> {
        match uri.split_once("://") {
            Some(("s3", _)) => crate::uri::s3_store(uri, &StorageOptions::default()),
            Some(("memory", _)) => Self::in_memory(),
            _ => Err(Error::invalid("this is no URI of an object store: use s3://bucket/prefix")
                .with("uri", crate::mask_credentials(uri))),
        }
    }

    /// The objects directly below a prefix, with what the store knows of their content; in no order.
    ///
    /// # Errors
    /// When the store does not answer: a list is complete or an error.
    pub async fn list_objects(&self, prefix: &str) -> Result<Vec<(String, ObjectInfo)>> {
        let objects = self.objects_in(prefix).await?.into_iter();
        Ok(objects.map(|entry| (entry.name().to_owned(), ObjectInfo::of(entry.metadata()))).collect())
    }

    /// What the store knows of an object; `None` when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn look_up(&self, path: &str) -> Result<Option<ObjectInfo>> {
        let of = path.to_owned();
        let looked_up = self.retrying(move |store| {
            let of = of.clone();
            async move { store.stat(&of).await }
        });
        match looked_up.await? {
            Ok(metadata) if metadata.is_file() => Ok(Some(ObjectInfo::of(&metadata))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(translate(&e, "look up", path)),
        }
    }

    /// Reads `range` of an object, if it still has the content with this tag; where there is none, or the
    /// store cannot compare them, of whatever it has.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when it has another content now,
    /// [`NotFound`](ErrorKind::NotFound) when there is none, [`Corrupt`](ErrorKind::Corrupt) when it ends
    /// before the range does.
    pub async fn read_same(&self, path: &str, range: Range<u64>, tag: Option<&str>) -> Result<Bytes> {
        let want = range.end.saturating_sub(range.start);
        let compares = self.operator.info().capability().read_with_if_match;
        let (of, tag) = (path.to_owned(), tag.filter(|_| compares).map(str::to_owned));
        let read = self.retrying(move |store| {
            let (of, range, tag) = (of.clone(), range.clone(), tag.clone());
            async move {
                match &tag {
                    Some(tag) => store.read_with(&of).range(range).if_match(tag).await,
                    None => store.read_with(&of).range(range).await,
                }
            }
        });
        let bytes = match read.await? {
            Ok(buffer) => buffer.to_bytes(),
            Err(e) if e.kind() == opendal::ErrorKind::ConditionNotMatch => {
                let message = "an object was replaced while it was read; give new content a key of its own";
                return Err(Error::new(ErrorKind::Incompatible, message).with("object", path));
            }
            Err(e) if e.kind() == opendal::ErrorKind::RangeNotSatisfied => return Err(too_short(path)),
            Err(e) => return Err(translate(&e, "read", path)),
        };
        if bytes.len() as u64 == want { Ok(bytes) } else { Err(too_short(path)) }
    }

    /// Whether the store creates an object only if it does not exist, in one step, as a [`ClaimStore`] must.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when it cannot.
    pub fn check_can_claim(&self) -> Result<()> {
        let info = self.operator.info();
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

    fn claimed(&self, outcome: ClaimOutcome) -> ClaimOutcome {
        self.failed_claims.store(0, Ordering::Relaxed);
        outcome
    }

    /// Calls once.
    async fn once<T, F>(
        &self,
        call: impl FnOnce(Operator) -> F + Send + 'static,
    ) -> Result<opendal::Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = opendal::Result<T>> + Send,
    {
        let operator = self.operator.clone();
        match self.in_memory {
            true => Ok(call(operator).await),
            false => background::in_background(async move { call(operator).await }).await,
        }
    }

    /// Calls again and again while that may help.
    async fn retrying<T, F>(
        &self,
        call: impl Fn(Operator) -> F + Send + Sync + 'static,
    ) -> Result<opendal::Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = opendal::Result<T>> + Send,
    {
        let retries = Arc::clone(&self.retries);
        let mut patience = Patience::new(&self.options);
        self.once(move |operator| async move {
            loop {
                let error = match call(operator.clone()).await {
                    Err(error) if error.is_temporary() => error,
                    ended => return ended,
                };
                let Some(pause) = patience.pause(&error) else { return Err(error) };
                retries.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = reason(&error), ?pause, "an operation on the storage is tried again");
                tokio::time::sleep(pause).await;
            }
        })
        .await
    }

    pub(super) async fn list_dir(&self, dir: &str) -> Result<Vec<Listed>> {
        let file = |entry: opendal::Entry| Listed {
            name: entry.name().to_owned(),
            len: entry.metadata().content_length(),
        };
        Ok(self.objects_in(dir).await?.into_iter().map(file).collect())
    }

    /// The objects directly below `dir`, in no order.
    async fn objects_in(&self, dir: &str) -> Result<Vec<opendal::Entry>> {
        let path = format!("{dir}/");
        let listed = self.retrying(move |store| {
            let path = path.clone();
            async move { store.list(&path).await }
        });
        let mut entries = match listed.await? {
            Ok(entries) => entries,
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(translate(&e, "list", dir)),
        };
        entries.retain(|entry| entry.metadata().mode() != EntryMode::DIR && !entry.name().is_empty());
        Ok(entries)
    }

    pub(super) async fn len_of(&self, path: &str) -> Result<Option<u64>> {
        let of = path.to_owned();
        let looked_up = self.retrying(move |store| {
            let of = of.clone();
            async move { store.stat(&of).await }
        });
        match looked_up.await? {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.content_length())),
            Ok(_) => Err(no_file(path)),
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(translate(&e, "look up", path)),
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
        let of = path.to_owned();
        let read = self.retrying(move |store| {
            let (of, range) = (of.clone(), range.clone());
            async move { store.read_with(&of).range(range).await }
        });
        let bytes = match read.await? {
            Ok(buffer) => buffer.to_bytes(),
            Err(e) if e.kind() == opendal::ErrorKind::RangeNotSatisfied => return Err(too_short(path)),
            Err(e) => return Err(translate(&e, "read", path)),
        };
        if bytes.len() as u64 == want { Ok(bytes) } else { Err(too_short(path)) }
    }

    pub(super) async fn read_slot(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let Some(len) = self.len_of(path).await? else {
            return Ok(None);
        };
        if len > limit {
            return Err(too_long(path, len, limit));
        }
        match self.read_range(path, 0..len).await {
            Ok(bytes) => Ok(Some(bytes)),
            // Deleted since.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn remove(&self, path: &str) -> Result<()> {
        let of = path.to_owned();
        let deleted = self.retrying(move |store| {
            let of = of.clone();
            async move { store.delete(&of).await }
        });
        match deleted.await? {
            Ok(()) => Ok(()),
            // On a local disk it is looked up first, and may be gone before it is deleted.
            Err(e) if e.kind() == opendal::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(translate(&e, "delete", path)),
        }
    }
}

/// Without the operator: its endpoint may hold a password.
impl fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.operator.info();
        f.debug_struct("ObjectStore")
            .field("scheme", &info.scheme())
            .field("name", &info.name())
            .field("root", &info.root())
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for ObjectStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let of = path.to_owned();
        let written = self.retrying(move |store| {
            let (of, bytes) = (of.clone(), bytes.clone());
            async move { store.write(&of, bytes).await }
        });
        written.await?.map(drop).map_err(|e| translate(&e, "write", path))
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
        let of = path.to_owned();
        let created = self.once(move |store| async move { store.write_options(&of, bytes, options).await });
        match created.await? {
            Ok(_) => Ok(self.claimed(ClaimOutcome::Created)),
            Err(e) if lost(e.kind()) => Ok(self.claimed(ClaimOutcome::Exists)),
            Err(e) => {
                // Its caller reads the slot back and may claim again at once: the pause is here, with a
                // clock.
                if !self.in_memory {
                    let failed = self.failed_claims.fetch_add(1, Ordering::Relaxed);
                    background::sleep(CLAIM_PAUSE * (1 << failed.min(MOST_DOUBLED))).await?;
                }
                Err(translate(&e, "claim", path))
            }
        }
    }

    /// Creates one small object twice, which stays, so that later probes are one request.
    async fn check(&self) -> Result<()> {
        self.check_can_claim()?;
        if self.in_memory { Ok(()) } else { probe(self).await }
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
