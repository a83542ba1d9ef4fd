//! The handle to a storage.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use strandline_checkpoint_protocol::{ManifestRef, Term};
use strandline_state_api::snapshot::{SegmentName, SegmentRef};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::credentials::mask_credentials;
use crate::manifest::{External, StoredManifest, decode_elements, encode_elements};
use crate::store::{Located, locate, missing};
use crate::{
    BlobStore, ClaimStore, CompletedCheckpoint, FileKind, FileName, History, LocalDir, Manifest, ObjectStore,
    Segments, StorageOptions, uri,
};

/// Bytes that are held at once while a file is hashed.
const CHUNK: u64 = 8 * 1024 * 1024;

/// Where the checkpoints of one job live. A cheap handle: clones are the same storage.
///
/// One storage belongs to one job. Nothing is created before the first write.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    uri: Arc<str>,
    blobs: Arc<dyn BlobStore>,
    claims: Arc<dyn ClaimStore>,
    /// The claim store has passed its check.
    checked: AtomicBool,
    options: StorageOptions,
}

impl Storage {
    /// Opens the storage at `uri`:
    ///
    /// | form | what |
    /// | --- | --- |
    /// | `file:///abs/path`, or a path | a directory on a local disk ([`LocalDir`]) |
    /// | `memory://` | a new store in memory that only this handle and its clones reach |
    /// | `s3://bucket/prefix?endpoint=…&region=…` | S3, with the cargo feature `s3`; options and environment as in OpenDAL |
    ///
    /// Nothing is asked of the store yet. Its futures work on any executor: a store on a network has threads
    /// of its own, a local disk uses those of the tokio runtime around the caller, if there is one.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the form is none of these,
    /// [`Unsupported`](strandline_state_api::ErrorKind::Unsupported) when the store cannot create atomically
    /// or its cargo feature is off. No error, and no `Debug` form, shows a key that
    /// the URI holds.
    pub fn open(uri: &str) -> Result<Self> {
        Self::open_with(uri, StorageOptions::default())
    }

    /// As [`open`](Self::open), with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(uri: &str, options: StorageOptions) -> Result<Self> {
        Ok(uri::open(uri, &options)?.with_options(options))
    }

    /// A new store in memory.
    ///
    /// # Errors
    /// [`Internal`](strandline_state_api::ErrorKind::Internal) when OpenDAL refuses.
    pub fn in_memory() -> Result<Self> {
        let store = Arc::new(ObjectStore::in_memory()?);
        Ok(Self::from_parts("memory://", Arc::clone(&store) as _, store))
    }

    /// The storage in a directory.
    ///
    /// # Errors
    /// As [`LocalDir::new`].
    pub fn in_dir(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let dir = LocalDir::new(path)?;
        let uri = format!("file://{}", dir.path().display());
        Ok(Self::new(&uri, Arc::new(dir.clone()), Arc::new(dir)))
    }

    /// A storage on stores of your own; `uri` is for messages, and credentials in it are
    /// [masked](mask_credentials).
    pub fn from_parts(
        uri: impl Into<String>,
        blobs: Arc<dyn BlobStore>,
        claims: Arc<dyn ClaimStore>,
    ) -> Self {
        Self::new(&mask_credentials(&uri.into()), blobs, claims)
    }

    fn new(uri: &str, blobs: Arc<dyn BlobStore>, claims: Arc<dyn ClaimStore>) -> Self {
        let uri: Arc<str> = uri.into();
        let blobs = Arc::new(Located { uri: Arc::clone(&uri), store: blobs });
        let claims = Arc::new(Located { uri: Arc::clone(&uri), store: claims });
        let (checked, options) = (AtomicBool::new(false), StorageOptions::default());
        Self { inner: Arc::new(Inner { uri, blobs, claims, checked, options }) }
    }

    /// The same storage with other limits. Those of single requests are the store's, which has them from
    /// [`open_with`](Self::open_with) or [`ObjectStore::with_options`].
    #[must_use]
    pub fn with_options(self, options: StorageOptions) -> Self {
        let Inner { uri, blobs, claims, checked, .. } = &*self.inner;
        let (uri, blobs, claims) = (Arc::clone(uri), Arc::clone(blobs), Arc::clone(claims));
        let checked = AtomicBool::new(checked.load(Ordering::Relaxed));
        Self { inner: Arc::new(Inner { uri, blobs, claims, checked, options }) }
    }

    /// Its limits.
    pub fn options(&self) -> &StorageOptions {
        &self.inner.options
    }

    /// What it was opened with, without credentials.
    pub fn uri(&self) -> &str {
        &self.inner.uri
    }

    /// The immutable objects.
    pub fn blobs(&self) -> &Arc<dyn BlobStore> {
        &self.inner.blobs
    }

    /// The slots of the commit log.
    pub fn claims(&self) -> &Arc<dyn ClaimStore> {
        &self.inner.claims
    }

    /// Lets the claim store verify itself before the first claim.
    pub(crate) async fn check_claims(&self) -> Result<()> {
        if !self.inner.checked.load(Ordering::Relaxed) {
            self.inner.claims.check().await?;
            self.inner.checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How many operations were retried since the storage was opened.
    pub fn retries(&self) -> u64 {
        self.inner.blobs.retries()
    }

    /// Where the subtasks of `checkpoint` write their segments, on behalf of the coordinator of `term`.
    pub fn segments(&self, term: impl Into<Term>, checkpoint: CheckpointId) -> Segments {
        Segments::new(self.clone(), Some((term.into(), checkpoint)))
    }

    /// Where segments are read; nothing can be written.
    pub fn reader(&self) -> Segments {
        Segments::new(self.clone(), None)
    }

    /// Writes a manifest, and the large operator state in it as files of its own. The checkpoint does not
    /// exist by that: [`CommitLog::commit`](crate::CommitLog::commit) writes the manifest and makes it exist.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when it is too large, else when the store fails.
    pub async fn write_manifest(&self, manifest: &Manifest) -> Result<ManifestRef> {
        let mut stored = StoredManifest::new(manifest.clone());
        for (o, operator) in stored.manifest.operators.iter_mut().enumerate() {
            for (s, subtask) in operator.subtasks.iter_mut().enumerate() {
                for (list, elements) in subtask.element_lists() {
                    if elements.iter().map(Vec::len).sum::<usize>() <= self.inner.options.inline_limit {
                        continue;
                    }
                    let bytes = encode_elements(&std::mem::take(elements))?;
                    let len = bytes.len() as u64;
                    let name =
                        self.put(FileKind::OperatorState, manifest.term, manifest.checkpoint, bytes).await?;
                    let file = SegmentRef { name: SegmentName(name.to_string()), len };
                    stored.external.push(External { operator: o, subtask: s, list, file });
                }
            }
        }
        let bytes = stored.encode()?;
        let len = bytes.len() as u64;
        let name = self.put(FileKind::Manifest, manifest.term, manifest.checkpoint, bytes).await?;
        Ok(ManifestRef { name: name.to_string(), len, hash: format!("{:032x}", name.hash) })
    }

    /// Reads the manifest of a checkpoint, with all operator state.
    ///
    /// # Errors
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) or
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) with the file that is missing or damaged,
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when a newer version of this crate
    /// wrote it.
    pub async fn read_manifest(&self, checkpoint: &CompletedCheckpoint) -> Result<Manifest> {
        let mut stored = self.read_stored(checkpoint).await?;
        for external in &stored.external {
            let elements = self.read_operator_state(&external.file).await?;
            if let Some(list) = stored.manifest.elements_mut(external) {
                *list = elements;
            }
        }
        stored.into_manifest()
    }

    /// Reads all of a segment and compares its length and its hash with its reference.
    ///
    /// # Errors
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) when it is missing,
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when its bytes are not those that were written.
    pub async fn verify_segment(&self, segment: &SegmentRef) -> Result<()> {
        self.verify_file(FileKind::Segment, segment).await
    }

    pub(crate) async fn verify_file(&self, kind: FileKind, file: &SegmentRef) -> Result<()> {
        let name = parse_name(kind, &file.name.0)?;
        self.check_len(&name, file.len).await?;
        let (path, mut hash, mut at) = (name.path(), Xxh3::new(), 0);
        while at < file.len {
            let end = file.len.min(at + CHUNK);
            hash.update(&self.inner.blobs.read(&path, at..end).await?);
            at = end;
        }
        if hash.digest128() == name.hash { Ok(()) } else { Err(self.locate(other_bytes(&path))) }
    }

    pub(crate) async fn read_operator_state(&self, file: &SegmentRef) -> Result<Vec<Vec<u8>>> {
        let name = parse_name(FileKind::OperatorState, &file.name.0)?;
        self.check_len(&name, file.len).await?;
        let bytes = self.read_whole(&name, file.len).await?;
        decode_elements(&bytes, &name.path()).map_err(|error| self.locate(error))
    }

    /// Reads the manifest of a checkpoint as it lies in the store.
    pub(crate) async fn read_stored(&self, checkpoint: &CompletedCheckpoint) -> Result<StoredManifest> {
        let name = checkpoint.manifest_name()?;
        let path = name.path();
        if checkpoint.manifest_len > StoredManifest::LIMIT {
            let message = format!("{} bytes are too many for a manifest", checkpoint.manifest_len);
            return Err(Error::corrupt(message).with("file", path));
        }
        self.check_len(&name, checkpoint.manifest_len).await?;
        let bytes = self.read_whole(&name, checkpoint.manifest_len).await?;
        let stored = StoredManifest::decode(&bytes, &path).map_err(|error| self.locate(error))?;
        let manifest = &stored.manifest;
        if (manifest.term, manifest.checkpoint) != (name.term, name.checkpoint) {
            let error = Error::corrupt("the manifest is of another checkpoint than its name");
            return Err(self.locate(error.with("file", path)));
        }
        Ok(stored)
    }

    /// Reads the commit log: the checkpoints that exist. Claims nothing, changes nothing.
    ///
    /// # Errors
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when a newer version of this crate
    /// wrote the log, else when the store fails. Damaged slots are no errors but part of the answer.
    pub async fn history(&self) -> Result<History> {
        History::load(self, None).await
    }

    /// The checkpoints that exist, oldest first: [`history`](Self::history) without the rest.
    ///
    /// # Errors
    /// As [`history`](Self::history).
    pub async fn completed(&self) -> Result<Vec<CompletedCheckpoint>> {
        Ok(self.history().await?.completed)
    }

    /// Compares the length of a file with that of its reference.
    pub(crate) async fn check_len(&self, name: &FileName, len: u64) -> Result<()> {
        let path = name.path();
        match self.inner.blobs.len(&path).await? {
            Some(found) if found == len => Ok(()),
            Some(found) => {
                let error = Error::corrupt(format!("the file has {found} bytes instead of {len}"));
                Err(self.locate(error.with("file", path)))
            }
            None => Err(self.locate(missing(&path))),
        }
    }

    /// The bytes of a file of known and checked length, if they are those that its name promises.
    pub(crate) async fn read_whole(&self, name: &FileName, len: u64) -> Result<Bytes> {
        let path = name.path();
        let bytes = self.inner.blobs.read(&path, 0..len).await?;
        if xxh3_128(&bytes) == name.hash { Ok(bytes) } else { Err(self.locate(other_bytes(&path))) }
    }

    fn locate(&self, error: Error) -> Error {
        locate(error, &self.inner.uri)
    }

    /// Creates an object unless it exists, whoever created it: so a create without an answer is sent again,
    /// as often as [`StorageOptions::unknown_creates`] allows. A store sends it once.
    pub(crate) async fn ensure(&self, path: &str, bytes: Bytes) -> Result<()> {
        let mut unknown = 0;
        loop {
            match self.inner.claims.claim(path, bytes.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    unknown += 1;
                    if unknown >= self.inner.options.unknown_creates {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn put(
        &self,
        kind: FileKind,
        term: Term,
        checkpoint: CheckpointId,
        bytes: Bytes,
    ) -> Result<FileName> {
        let name = FileName::of(kind, term, checkpoint, &bytes);
        self.inner.blobs.put(&name.path(), bytes).await?;
        Ok(name)
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.inner.uri)
    }
}

/// A name out of a manifest; one that this crate cannot have written never reaches the store.
pub(crate) fn parse_name(kind: FileKind, name: &str) -> Result<FileName> {
    FileName::parse(kind, name)
        .ok_or_else(|| Error::corrupt(format!("{name:?} is no name of a file in {}", kind.dir())))
}

fn other_bytes(path: &str) -> Error {
    Error::corrupt("the bytes of the file are not those that were written: the hash in its name differs")
        .with("file", path)
}
