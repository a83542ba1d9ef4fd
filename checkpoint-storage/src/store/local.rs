//! A directory on a local disk.
//!
//! Not through OpenDAL, which neither creates atomically (its check and its rename are two steps) nor makes
//! the directory entry durable, and needs timers of a runtime.
//!
//! - An object is written to a temporary file beside its place, synced, renamed, and the directory synced.
//! - A slot is written the same way, but hard-linked to its name: the link fails if the name exists, and a
//!   name that exists has its whole content. A process killed at any instant leaves at most a temporary file.

mod disk;
mod reading;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_state_api::{Error, ErrorKind, Result};

use self::disk::{create_dir_durably, sync_parent};
use super::faults::{missing, too_long};
use super::{BlobStore, ClaimOutcome, ClaimStore, Listed};
use crate::background;

/// How often a write starts again whose temporary file a sweep took away.
const ATTEMPTS: usize = 16;

/// A directory on a local disk, or on a network file system that has atomic hard links.
///
/// Created by the first write, not before. Works on the blocking threads of the tokio runtime around the
/// caller; without one, on threads of this crate.
#[derive(Clone, Debug)]
pub struct LocalDir {
    dir: Arc<Dir>,
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
        Ok(Self { dir: Arc::new(Dir { root, next: AtomicU64::new(0) }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir.root
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Dir) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let dir = Arc::clone(&self.dir);
        background::block(move || work(&dir)).await?
    }
}

impl Dir {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let place = self.place(path);
        for _ in 0..ATTEMPTS {
            let temporary = self.write_temporary(&place, path, bytes)?;
            match fs::rename(&temporary, &place) {
                Ok(()) => return sync_parent(&place).map_err(|e| self.failed(&e, "make durable", path)),
                Err(e) if e.kind() == Io::NotFound => {}
                Err(e) => {
                    let _ = fs::remove_file(&temporary);
                    return Err(self.failed(&e, "write", path));
                }
            }
        }
        Err(swept(path))
    }

    fn claim(&self, path: &str, bytes: &[u8]) -> Result<ClaimOutcome> {
        let place = self.place(path);
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
                Err(e) => return Err(self.failed(&e, "claim", path)),
            };
            // Also for a slot that another won: a process that acts on it must find it after a loss of power.
            sync_parent(&place).map_err(|e| self.failed(&e, "make durable", path))?;
            return Ok(outcome);
        }
        Err(swept(path))
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
        write().map_err(|e| self.failed(&e, "write", path))
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

fn swept(path: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "sweeps took away the temporary file again and again; try again")
        .with("file", path)
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
        let path = path.to_owned();
        self.blocking(move |dir| dir.len(&path)).await
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let of = path.to_owned();
        let read = self.blocking(move |dir| dir.read(&of, range)).await?;
        read.ok_or_else(|| missing(path))
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        let path = dir.to_owned();
        self.blocking(move |dir| dir.list(&path)).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let path = path.to_owned();
        self.blocking(move |dir| dir.delete(&path)).await
    }

    fn leftover_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        leftover(name)
    }
}

#[async_trait]
impl ClaimStore for LocalDir {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        let path = path.to_owned();
        self.blocking(move |dir| dir.claim(&path, &bytes)).await
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        let path = path.to_owned();
        self.blocking(move |dir| match dir.len(&path)? {
            Some(len) if len > limit => Err(too_long(&path, len, limit)),
            Some(len) => dir.read(&path, 0..len),
            None => Ok(None),
        })
        .await
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
