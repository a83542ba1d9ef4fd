//! Where an input is: on a disk, or in an object store.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use strandline_checkpoint_storage::{ObjectInfo, ObjectStore};
use strandline_state_api::{Error, ErrorKind, Result};

/// The path that stands for the standard input.
pub(super) const STDIN: &str = "-";

/// The path of an input: a file or a directory on a disk, `-` for standard input, or an object or a prefix in
/// an object store.
#[derive(Clone)]
pub struct InputPath {
    store: Option<Arc<Objects>>,
    /// In a store the key, without a slash at its end.
    path: PathBuf,
}

/// A bucket.
struct Objects {
    store: ObjectStore,
    /// Its URI without a slash at the end.
    shown: String,
}

impl InputPath {
    /// The object or prefix at this URI, such as `s3://bucket/prefix/?region=eu-1`.
    ///
    /// # Errors
    /// When it is no such URI, or this build does not reach the store.
    pub fn in_store(uri: &str) -> Result<Self> {
        let (place, query) = uri.split_once('?').map_or((uri, ""), |(place, query)| (place, query));
        let Some((scheme, rest)) = place.split_once("://") else {
            return Err(Error::invalid("this is no URI of an object store: use s3://bucket/prefix"));
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let shown = format!("{scheme}://{bucket}");
        let opened = match query {
            "" => ObjectStore::open(&shown),
            query => ObjectStore::open(&format!("{shown}?{query}")),
        };
        Ok(Self::in_opened(opened?, shown, key))
    }

    /// The object or prefix `key` in a store that messages call `name`.
    pub fn in_opened(store: ObjectStore, name: impl Into<String>, key: &str) -> Self {
        let shown = name.into();
        Self { store: Some(Arc::new(Objects { store, shown })), path: PathBuf::from(key.trim_matches('/')) }
    }

    /// The path on a disk, where it is one.
    pub fn on_disk(&self) -> Option<&Path> {
        self.store.is_none().then_some(&self.path)
    }

    /// Whether it is a stream, which is [read once](super::FileSource::new).
    pub fn is_stream(&self) -> bool {
        let no_file = |metadata: fs::Metadata| !metadata.is_file() && !metadata.is_dir();
        self.on_disk().is_some_and(|path| path.as_os_str() == STDIN || fs::metadata(path).is_ok_and(no_file))
    }

    pub(super) fn join(&self, name: &str) -> Self {
        Self { store: self.store.clone(), path: self.path.join(name) }
    }

    /// The directory or prefix around it.
    pub(super) fn parent(&self) -> Self {
        let path = self.path.parent().unwrap_or(Path::new("")).to_owned();
        Self { store: self.store.clone(), path }
    }

    pub(super) fn file_name(&self) -> Option<&str> {
        self.path.file_name().and_then(|name| name.to_str())
    }

    /// Opens the file or object for reads.
    pub(super) fn open(&self) -> io::Result<Handle> {
        let Some(store) = &self.store else { return File::open(&self.path).map(Handle::File) };
        let key = self.key();
        let found = block_on(store.store.look_up(&key)).map_err(io::Error::other)?;
        let Some(found) = found else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such object"));
        };
        let (store, len, tag) = (Arc::clone(store), found.len, found.tag);
        Ok(Handle::Object(ObjectFile {
            store,
            key,
            len,
            tag,
            at: 0,
            piece: Vec::new(),
            begin: 0,
            next: FIRST,
        }))
    }

    fn key(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Whether it is a directory, or a prefix with objects below it.
    pub(super) fn is_dir(&self) -> Result<bool> {
        match &self.store {
            None => Ok(self.path.is_dir()),
            Some(_) if self.path.as_os_str().is_empty() => Ok(true),
            Some(_) => Ok(!self.objects()?.is_empty()),
        }
    }

    /// The objects below a prefix, in no order, or the one object at it; `None` on a disk.
    pub(super) fn list_objects(&self) -> Result<Option<Vec<(String, ObjectInfo)>>> {
        let Some(store) = &self.store else { return Ok(None) };
        let mut objects = self.objects()?;
        if objects.is_empty() && !self.path.as_os_str().is_empty() {
            let Some(found) = block_on(store.store.look_up(&self.key()))? else {
                let message = "there is no object with this key, and none below it; correct the URI";
                return Err(Error::new(ErrorKind::NotFound, message).with("input", self.display()));
            };
            let name = self.file_name().unwrap_or_default().to_owned();
            return Ok(Some(vec![(name, found)]));
        }
        objects.retain(|(name, _)| !name.starts_with(['.', '_']));
        Ok(Some(objects))
    }

    fn objects(&self) -> Result<Vec<(String, ObjectInfo)>> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        block_on(store.store.list_objects(&self.key()))
    }

    /// For messages.
    pub fn display(&self) -> impl fmt::Display + '_ {
        Shown(self)
    }
}

/// The error for a file that was listed. One that is gone was renamed or archived since: the next attempt lists the
/// input anew, and finds the new name, or reports what is missing.
pub(super) fn unreadable(path: &InputPath, e: std::io::Error) -> Error {
    // Requests to a store have their own errors.
    if let Some(error) = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return error.clone().with("input", path.display());
    }
    let message = match e.kind() {
        std::io::ErrorKind::NotFound => "an input file went away after it was listed",
        _ => "the input cannot be read",
    };
    Error::new(ErrorKind::Unavailable, message).with("file", path.display()).caused_by(e)
}

struct Shown<'a>(&'a InputPath);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.store {
            Some(store) => write!(f, "{}/{}", store.shown, self.0.path.display()),
            None => self.0.path.display().fmt(f),
        }
    }
}

impl fmt::Debug for InputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.display())
    }
}

impl<P: AsRef<Path>> From<P> for InputPath {
    fn from(path: P) -> Self {
        Self { store: None, path: path.as_ref().to_owned() }
    }
}

/// An open file or object.
pub(super) enum Handle {
    File(File),
    Object(ObjectFile),
}

/// How many bytes the first read of an object asks for; each further one for more, up to the greatest.
const FIRST: u64 = 16 << 10;
const GREATEST: u64 = 4 << 20;

/// An object, read range by range, all of the same content.
pub(super) struct ObjectFile {
    store: Arc<Objects>,
    key: String,
    len: u64,
    tag: Option<String>,
    at: u64,
    /// The bytes from `begin` on.
    piece: Vec<u8>,
    begin: u64,
    next: u64,
}

impl Read for Handle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Object(object) => object.read(buffer),
        }
    }
}

impl Seek for Handle {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Object(object) => object.seek(to),
        }
    }
}

impl Read for ObjectFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.at.checked_sub(self.begin).and_then(|from| self.piece.get(from as usize..));
        if known.is_none_or(<[u8]>::is_empty) {
            if self.at >= self.len {
                return Ok(0);
            }
            let range = self.at..self.len.min(self.at + self.next);
            self.next = (self.next * 4).min(GREATEST);
            let read = block_on(self.store.store.read_same(&self.key, range, self.tag.as_deref()));
            self.piece = read.map_err(io::Error::other)?.to_vec();
            self.begin = self.at;
        }
        let from = (self.at - self.begin) as usize;
        let read = self.piece.get(from..).unwrap_or_default().read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for ObjectFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
