//! A prefix in an object store.
//!
//! A file is a multipart upload, which the store shows to nobody until it is completed, and then whole. A
//! hidden record stands for it while it waits: it holds the id of the upload and of its parts. To commit is to
//! complete the upload, and to discard is to abort it; the store does one of the two at most. So a process
//! that wakes late completes nothing that was aborted, and nothing twice.
//!
//! A request may arrive long after its client has given it up and repeated it. So no record is overwritten
//! whose older content would do harm: a file has one record while it is written and another when it is
//! finished, and what has versions has an object for each.

mod bucket;

use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::executor::block_on;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use strandline_checkpoint_storage::in_background;
use strandline_state_api::{Error, ErrorKind, Result};

use super::{Output, Published, Writing};

/// How many bytes a part has, but for the last: stores take no fewer than 5 MiB.
const PART: usize = 8 << 20;

/// A store with uploads in parts.
trait Store: ObjectStore + MultipartStore {}

impl<S: ObjectStore + MultipartStore> Store for S {}

#[derive(Clone)]
pub(super) struct Objects {
    store: Arc<dyn Store>,
    /// Without a slash at the end; empty for a whole bucket.
    prefix: Path,
    /// The URI of the prefix, for messages.
    shown: String,
}

/// The record of a file that waits.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    visible: String,
    upload: MultipartId,
    /// `None` while it is written.
    finished: Option<Finished>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finished {
    parts: Vec<String>,
    bytes: u64,
    /// The name of the record that it had while it was written.
    written_as: String,
}

impl Objects {
    /// The prefix at a URI such as `s3://bucket/prefix?region=eu-1`.
    pub(super) fn open(uri: &str) -> Result<Self> {
        let (store, prefix, shown) = bucket::open(uri)?;
        Ok(Self { store, prefix, shown })
    }

    fn at(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    /// Waits for what `request` begins.
    fn wait<T: Send + 'static, F>(&self, request: impl FnOnce(Arc<dyn Store>) -> F) -> Result<Answer<T>>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        block_on(in_background(request(Arc::clone(&self.store))))
    }

    fn failed(&self, doing: &str, name: &str, e: &object_store::Error) -> Error {
        use object_store::Error as E;
        let kind = match e {
            E::NotSupported { .. } | E::NotImplemented { .. } => ErrorKind::Unsupported,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } | E::InvalidPath { .. } => {
                ErrorKind::Invalid
            }
            // Of a bucket: who looks for an object handles it before.
            E::NotFound { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        let words = e.to_string();
        let words: Vec<_> = words.split_whitespace().collect();
        Error::new(kind, format!("an output object cannot be {doing}"))
            .with("object", self.locate(name))
            .caused_by(words.join(" "))
    }

    fn put(&self, name: &str, content: Vec<u8>, mode: PutMode) -> Result<Answer<()>> {
        let at = self.at(name);
        self.wait(|store| async move {
            store.put_opts(&at, content.into(), PutOptions::from(mode)).await.map(drop)
        })
    }

    fn write_waiting(&self, name: &str, waiting: &Waiting) -> Result<()> {
        let content = serde_json::to_vec(waiting)
            .map_err(|e| Error::new(ErrorKind::Internal, "a record of an upload has no JSON").caused_by(e))?;
        self.put(name, content, PutMode::Overwrite)?.map_err(|e| self.failed("written", name, &e))
    }

    fn read_waiting(&self, name: &str) -> Result<Option<Waiting>> {
        let Some(content) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&content).map(Some).map_err(|e| {
            let message = "the record of an unfinished upload cannot be read; restore it, or start from an \
                           earlier checkpoint without it";
            Error::corrupt(message).with("object", self.locate(name)).caused_by(e)
        })
    }
}

impl Objects {
    /// The versions of a record, in ascending order.
    fn versions(&self, name: &str) -> Result<Vec<String>> {
        let (prefix, from) = (self.prefix.clone(), self.at(name));
        let versions = self.wait(|store| async move {
            let mut versions = Vec::new();
            // Not the results behind them, which may be many.
            let mut objects = store.list_with_offset(Some(&prefix), &from);
            while let Some(object) = objects.try_next().await? {
                let Some(rest) = object.location.as_ref().strip_prefix(from.as_ref()) else { break };
                versions
                    .extend(object.location.filename().filter(|_| rest.starts_with('.')).map(str::to_owned));
            }
            Ok(versions)
        })?;
        let mut versions = versions.map_err(|e| self.failed("listed", name, &e))?;
        versions.sort_unstable();
        Ok(versions)
    }
}

/// What a store answers.
type Answer<T> = object_store::Result<T>;

fn is_missing<T>(answer: &Answer<T>) -> bool {
    matches!(answer, Err(object_store::Error::NotFound { .. }))
}

/// Whether the upload was completed or aborted before.
fn is_over(answer: &Answer<()>) -> bool {
    // The store in memory has no other error of an upload.
    is_missing(answer) || matches!(answer, Err(object_store::Error::Generic { store: "InMemory", .. }))
}

impl Output for Objects {
    fn locate(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown) }
    }

    fn identity(&self) -> String {
        self.shown.clone()
    }

    fn inspect(&self) -> Result<bool> {
        self.list().map(|_| true)
    }

    /// A prefix needs no creation.
    fn create(&self) -> Result<()> {
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>> {
        let prefix = self.prefix.clone();
        let listed = self.wait(|store| async move { store.list_with_delimiter(Some(&prefix)).await })?;
        let listed = listed.map_err(|e| self.failed("listed", "", &e))?;
        Ok(listed.objects.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let at = self.at(name);
        let read = self.wait(|store| async move { store.get(&at).await?.bytes().await })?;
        if is_missing(&read) {
            return Ok(None);
        }
        read.map(|content| Some(content.to_vec())).map_err(|e| self.failed("read", name, &e))
    }

    fn create_record(&self, name: &str, _: &str, content: &[u8]) -> Result<()> {
        use object_store::Error::{AlreadyExists, Precondition};
        match self.put(name, content.to_vec(), PutMode::Create)? {
            Ok(()) | Err(AlreadyExists { .. } | Precondition { .. }) => Ok(()),
            Err(e) => Err(self.failed("created", name, &e)),
        }
    }

    fn replace_record(&self, name: &str, _: &str, content: &[u8]) -> Result<()> {
        let put = self.put(name, content.to_vec(), PutMode::Overwrite)?;
        put.map_err(|e| self.failed("written", name, &e))
    }

    fn read_newest(&self, name: &str) -> Result<Option<Vec<u8>>> {
        // Whoever supersedes a version may remove it before it is read.
        loop {
            let Some(newest) = self.versions(name)?.pop() else { return Ok(None) };
            if let Some(content) = self.read(&newest)? {
                return Ok(Some(content));
            }
        }
    }

    fn supersede(&self, name: &str, version: [u64; 2], staged: &str, content: &[u8]) -> Result<()> {
        let own = format!("{name}.{:020}.{:020}", version[0], version[1]);
        self.replace_record(&own, staged, content)?;
        self.versions(name)?.iter().filter(|other| **other < own).try_for_each(|older| self.remove(older))
    }

    fn remove_versions(&self, name: &str) -> Result<()> {
        self.versions(name)?.iter().try_for_each(|version| self.remove(version))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let at = self.at(name);
        let removed = self.wait(|store| async move { store.delete(&at).await })?;
        if is_missing(&removed) { Ok(()) } else { removed.map_err(|e| self.failed("removed", name, &e)) }
    }

    fn discard(&self, name: &str) -> Result<()> {
        let Some(waiting) = self.read_waiting(name)? else { return Ok(()) };
        let at = self.at(&waiting.visible);
        let aborted = self.wait(|store| async move { store.abort_multipart(&at, &waiting.upload).await })?;
        if !is_over(&aborted) {
            aborted.map_err(|e| self.failed("aborted", name, &e))?;
        }
        self.remove(name)
    }

    fn forget(&self, name: &str) -> Result<()> {
        let Some(waiting) = self.read_waiting(name)? else { return Ok(()) };
        if self.len_visible(&waiting.visible)?.is_some() { self.remove(name) } else { Ok(()) }
    }

    fn is_named_at_once(&self) -> bool {
        true
    }

    fn begin(&self, waiting: &str, visible: &str) -> Result<Box<dyn Writing>> {
        let at = self.at(visible);
        let upload = self.wait(|store| async move { store.create_multipart(&at).await })?;
        let upload = upload.map_err(|e| self.failed("created", visible, &e))?;
        let record = Waiting { visible: visible.to_owned(), upload, finished: None };
        // From here on a sweep finds it.
        self.write_waiting(waiting, &record)?;
        let finished = Finished { parts: Vec::new(), bytes: 0, written_as: waiting.to_owned() };
        Ok(Box::new(Upload { objects: self.clone(), record, finished, part: Vec::new() }))
    }

    fn len_waiting(&self, waiting: &str) -> Result<Option<u64>> {
        Ok(self.read_waiting(waiting)?.map(|waiting| waiting.finished.map_or(0, |finished| finished.bytes)))
    }

    fn len_visible(&self, visible: &str) -> Result<Option<u64>> {
        let at = self.at(visible);
        let found = self.wait(|store| async move { store.head(&at).await })?;
        if is_missing(&found) {
            return Ok(None);
        }
        found.map(|found| Some(found.size)).map_err(|e| self.failed("looked up", visible, &e))
    }

    fn publish(&self, waiting: &str, visible: &str, expected: u64) -> Result<Published> {
        let Some(record) = self.read_waiting(waiting)? else { return Ok(Published::Gone) };
        // No checkpoint names what is not finished.
        let Some(Finished { parts, bytes, written_as }) = record.finished else {
            return Ok(Published::WrongLength(0));
        };
        if bytes != expected {
            return Ok(Published::WrongLength(bytes));
        }
        let at = self.at(&record.visible);
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let completed = self.wait(|store| async move {
            store.complete_multipart(&at, &record.upload, parts).await.map(drop)
        })?;
        // The upload is gone where a process completed it and died, or the answer was lost, or it was aborted.
        if is_over(&completed) {
            if self.len_visible(visible)?.is_none() {
                return Ok(Published::Gone);
            }
        } else {
            completed.map_err(|e| self.failed("completed", visible, &e))?;
        }
        // In this order: the first one leads to the second.
        self.remove(&written_as)?;
        self.remove(waiting)?;
        Ok(Published::Yes)
    }

    /// The store has answered, so it holds.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// An upload that parts are added to.
#[derive(Debug)]
struct Upload {
    objects: Objects,
    record: Waiting,
    /// What is uploaded.
    finished: Finished,
    /// The bytes of the next part.
    part: Vec<u8>,
}

impl Upload {
    fn upload(&mut self, part: Vec<u8>) -> Result<()> {
        let (at, upload) = (self.objects.at(&self.record.visible), self.record.upload.clone());
        let (number, bytes) = (self.finished.parts.len(), part.len() as u64);
        let uploaded = self
            .objects
            .wait(|store| async move { store.put_part(&at, &upload, number, part.into()).await })?;
        let part = uploaded.map_err(|e| self.objects.failed("written", &self.record.visible, &e))?;
        self.finished.parts.push(part.content_id);
        self.finished.bytes += bytes;
        Ok(())
    }
}

impl Writing for Upload {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.extend_from_slice(bytes);
        while self.part.len() >= PART {
            let rest = self.part.split_off(PART);
            let part = std::mem::replace(&mut self.part, rest);
            self.upload(part)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<String> {
        if !self.part.is_empty() || self.finished.parts.is_empty() {
            let part = std::mem::take(&mut self.part);
            self.upload(part)?;
        }
        let Self { objects, mut record, finished, .. } = *self;
        let name = finished_name(&finished.written_as);
        record.finished = Some(finished);
        objects.write_waiting(&name, &record)?;
        Ok(name)
    }
}

/// The name of the record of a finished file. It is one of a waiting file, too, that no other file has: numbers
/// in names begin with no zero.
fn finished_name(written_as: &str) -> String {
    let (before, number) = written_as.rsplit_once("-n").unwrap_or((written_as, ""));
    format!("{before}-n0{number}")
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.shown)
    }
}
