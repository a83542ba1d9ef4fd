//! A directory on a local disk.
//!
//! Reading, listing and deleting go through OpenDAL. Writing does not, because there OpenDAL neither
//! creates atomically (its check and its rename are two steps) nor makes the directory entry durable.
//!
//! - An object is written to a temporary file beside its place, synced, renamed, and the directory synced.
//! - A slot is written the same way, but hard-linked to its name: the link fails if the name exists, and a
//!   name that exists has its whole content. A process killed at any instant leaves at most a temporary file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use opendal::Operator;
use strandline_state_api::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use super::object::translate;
use super::{BlobStore, ClaimOutcome, ClaimStore, Listed, ObjectStore};

/// How often a write starts again whose temporary file a sweep took away.
const ATTEMPTS: usize = 16;

/// A directory on a local disk, or on a network file system that has atomic hard links.
///
/// Created by the first write, not before. Every method needs a tokio runtime around it.
#[derive(Clone, Debug)]
pub struct LocalDir {
    dir: Arc<Dir>,
    reader: Arc<OnceLock<ObjectStore>>,
}

#[derive(Debug)]
struct Dir {
    root: PathBuf,
    next: AtomicU64,
}

impl LocalDir {
    /// A store in `root`, which need not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there is no absolute form of the path, or it is not UTF-8.
    pub fn new(root: impl AsRef<Path>) -> Result<Self> {
        let given = root.as_ref();
        let root = std::path::absolute(given).map_err(|e| {
            Error::invalid("this is no usable path").with("path", given.display()).caused_by(e)
        })?;
        if root.to_str().is_none() {
            return Err(Error::invalid("the path of a storage must be UTF-8").with("path", root.display()));
        }
        let dir = Dir { root, next: AtomicU64::new(0) };
        Ok(Self { dir: Arc::new(dir), reader: Arc::new(OnceLock::new()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir.root
    }

    /// The reading side; `None` as long as the directory does not exist.
    fn reader(&self) -> Result<Option<&ObjectStore>> {
        if let Some(reader) = self.reader.get() {
            return Ok(Some(reader));
        }
        let root = self.dir.root.to_string_lossy();
        match fs::metadata(&self.dir.root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::invalid("a storage must be a directory").with("path", root)),
            Err(e) if e.kind() == Io::NotFound => return Ok(None),
            Err(e) => return Err(failed(&e, "look up", &root)),
        }
        let operator = Operator::new(opendal::services::Fs::default().root(&root));
        let operator = operator.map_err(|e| translate(e, "open", &root))?;
        Ok(Some(self.reader.get_or_init(|| ObjectStore::new(operator))))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Dir) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let handle = Handle::try_current()
            .map_err(|e| Error::invalid("storage on a local disk needs a tokio runtime").caused_by(e))?;
        let dir = Arc::clone(&self.dir);
        let done = handle.spawn_blocking(move || work(&dir)).await;
        done.map_err(|e| Error::new(ErrorKind::Internal, "a thread that wrote a file died").caused_by(e))?
    }
}

impl Dir {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let place = self.root.join(path);
        for _ in 0..ATTEMPTS {
            let temporary = self.write_temporary(&place, path, bytes)?;
            match fs::rename(&temporary, &place) {
                Ok(()) => return sync_parent(&place).map_err(|e| failed(&e, "make durable", path)),
                Err(e) if e.kind() == Io::NotFound => {}
                Err(e) => {
                    let _ = fs::remove_file(&temporary);
                    return Err(failed(&e, "write", path));
                }
            }
        }
        Err(swept(path))
    }

    fn claim(&self, path: &str, bytes: &[u8]) -> Result<ClaimOutcome> {
        let place = self.root.join(path);
        for _ in 0..ATTEMPTS {
            let temporary = self.write_temporary(&place, path, bytes)?;
            let linked = fs::hard_link(&temporary, &place);
            // Left behind if this fails, or if the process is killed here: readers ignore it, a sweep takes
            // it.
            let _ = fs::remove_file(&temporary);
            let outcome = match linked {
                Ok(()) => ClaimOutcome::Created,
                Err(e) if e.kind() == Io::AlreadyExists => ClaimOutcome::Exists,
                Err(e) if e.kind() == Io::NotFound => continue,
                // Linux returns EPERM where a file system has no hard links.
                Err(e) if matches!(e.kind(), Io::Unsupported | Io::PermissionDenied) => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "this file system has no hard links, so a slot cannot be claimed atomically; use another",
                    )
                    .with("file", path)
                    .caused_by(e));
                }
                Err(e) => return Err(failed(&e, "claim", path)),
            };
            // Also for a slot that another won: a process that acts on it must find it after a loss of power.
            sync_parent(&place).map_err(|e| failed(&e, "make durable", path))?;
            return Ok(outcome);
        }
        Err(swept(path))
    }

    /// The files of a directory. One that vanishes while it is listed is in the list all the same: OpenDAL
    /// leaves it out, and then a log of which the first entry is deleted while a second one is created looks
    /// empty.
    fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let entries = match fs::read_dir(self.root.join(path)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == Io::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(&e, "list", path)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e, "list", path))?;
            let len = match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(metadata) => metadata.len(),
                Err(e) if e.kind() == Io::NotFound => 0,
                Err(e) => return Err(failed(&e, "list", path)),
            };
            files.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), len });
        }
        Ok(files)
    }

    fn write_temporary(&self, place: &Path, path: &str, bytes: &[u8]) -> Result<PathBuf> {
        let write = || -> io::Result<PathBuf> {
            let (mut file, temporary) = self.create_temporary(place)?;
            match file.write_all(bytes).and_then(|()| file.sync_all()) {
                Ok(()) => Ok(temporary),
                Err(e) => {
                    let _ = fs::remove_file(&temporary);
                    Err(e)
                }
            }
        };
        write().map_err(|e| failed(&e, "write", path))
    }

    fn create_temporary(&self, place: &Path) -> io::Result<(File, PathBuf)> {
        let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut made_parent = false;
        loop {
            // A process elsewhere may have the same number; `create_new` makes it take another name.
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let temporary = place.with_file_name(format!(".{name}.{}.{n}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok((file, temporary)),
                Err(e) if e.kind() == Io::AlreadyExists => {}
                Err(e) if e.kind() == Io::NotFound && !made_parent => {
                    create_dir_durably(place.parent().unwrap_or(&self.root))?;
                    made_parent = true;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Creates a directory with all above it, each made durable in its parent.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => sync_parent(dir),
        // Whoever created it may not have come to its sync.
        Err(e) if e.kind() == Io::AlreadyExists => sync_parent(dir),
        Err(e) if e.kind() == Io::NotFound => match dir.parent() {
            Some(parent) => {
                create_dir_durably(parent)?;
                create_dir_durably(dir)
            }
            None => Err(e),
        },
        Err(e) => Err(e),
    }
}

#[cfg(unix)]
fn sync_parent(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Elsewhere a directory cannot be opened as a file; its entries are durable with the file.
#[cfg(not(unix))]
fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}

fn failed(error: &io::Error, doing: &str, path: &str) -> Error {
    let what = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => "the disk is full: free some space",
        Io::ReadOnlyFilesystem => "the disk is read-only",
        Io::PermissionDenied => "permission denied",
        _ => "the disk failed",
    };
    let source = io::Error::new(error.kind(), error.to_string());
    Error::new(ErrorKind::Unavailable, format!("could not {doing} a file: {what}"))
        .with("file", path)
        .caused_by(source)
}

fn swept(path: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "sweeps took away the temporary file again and again; try again")
        .with("file", path)
}

fn missing(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the file does not exist").with("file", path)
}

/// `.<name>.<process>.<number>.tmp`
fn leftover(name: &str) -> Option<&str> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (rest, n) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
    let (name, process) = rest.rsplit_once('.')?;
    (number(n) && number(process) && !name.is_empty()).then_some(name)
}

#[async_trait]
impl BlobStore for LocalDir {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        let path = path.to_owned();
        self.blocking(move |dir| dir.put(&path, &bytes)).await
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        match self.reader()? {
            Some(reader) => reader.len_of(path).await,
            None => Ok(None),
        }
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.reader()?.ok_or_else(|| missing(path))?.read_range(path, range).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        match self.reader()? {
            Some(reader) => reader.list_dir(dir).await,
            None => Ok(Vec::new()),
        }
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.reader()? {
            Some(reader) => reader.remove(path).await,
            None => Ok(()),
        }
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        leftover(name)
    }

    fn retries(&self) -> u64 {
        self.reader.get().map_or(0, BlobStore::retries)
    }
}

#[async_trait]
impl ClaimStore for LocalDir {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        let path = path.to_owned();
        self.blocking(move |dir| dir.claim(&path, &bytes)).await
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        match self.reader()? {
            Some(reader) => reader.read_slot(path, limit).await,
            None => Ok(None),
        }
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let path = dir.to_owned();
        self.blocking(move |dir| dir.list(&path)).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        BlobStore::delete(self, path).await
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        leftover(name)
    }
}
