//! Where results go.

mod directory;
mod disk;
#[cfg(feature = "s3")]
mod objects;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_state_api::{Error, ErrorKind, Result};

pub use self::directory::check_writable;
use self::disk::Disk;

/// The directory of a [`FileSink`](super::FileSink).
#[derive(Clone)]
pub struct OutputPath {
    place: Arc<dyn Output>,
    directory: Option<PathBuf>,
}

impl OutputPath {
    /// The prefix at this URI, such as `s3://bucket/prefix/?region=eu-1`. Each file is one object, which
    /// appears at once and whole when its checkpoint is complete. `memory://name` is a store in memory, which
    /// ends with the process.
    ///
    /// Keys come from the URI, from the environment (`AWS_ACCESS_KEY_ID` and so on) or from the service of the
    /// machine. A rule of the bucket that aborts old uploads must leave them for longer than the job may be
    /// down.
    ///
    /// # Errors
    /// When it is no such URI, or this build does not reach the store.
    pub fn in_store(uri: &str) -> Result<Self> {
        #[cfg(feature = "s3")]
        return Ok(Self { place: Arc::new(objects::Objects::open(uri)?), directory: None });
        #[cfg(not(feature = "s3"))]
        {
            let message = "this build has no S3: build with the cargo feature `s3`";
            let uri = strandline_checkpoint_storage::mask_credentials(uri);
            Err(Error::new(ErrorKind::Unsupported, message).with("uri", uri))
        }
    }

    /// The path on a disk, where it is one.
    pub fn on_disk(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// For messages.
    pub fn display(&self) -> impl fmt::Display + '_ {
        Shown(self)
    }

    pub(super) fn place(&self) -> &dyn Output {
        &*self.place
    }
}

struct Shown<'a>(&'a OutputPath);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.place.locate(""))
    }
}

/// Whether both are one place.
impl PartialEq for OutputPath {
    fn eq(&self, other: &Self) -> bool {
        self.place.identity() == other.place.identity()
    }
}

impl Eq for OutputPath {}

impl fmt::Debug for OutputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.display())
    }
}

impl<P: AsRef<Path>> From<P> for OutputPath {
    fn from(path: P) -> Self {
        let directory = path.as_ref().to_owned();
        Self { place: Arc::new(Disk::new(&directory)), directory: Some(directory) }
    }
}

/// What a sink does with files. A file is *waiting* under a hidden name from its first byte on, and then
/// *visible* under another. Beside these stand small records.
pub(super) trait Output: fmt::Debug + Send + Sync {
    /// Where `name` is, for messages; the directory for an empty one.
    fn locate(&self, name: &str) -> String;

    /// What no other directory has.
    fn identity(&self) -> String;

    /// Looks whether files can be written, without a change. Returns whether there is a directory already.
    fn inspect(&self) -> Result<bool>;

    /// Creates the directory, where it is missing.
    fn create(&self) -> Result<()>;

    /// The names of all files and records, in no order.
    fn list(&self) -> Result<Vec<String>>;

    /// A record.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Creates a record, unless there is one. `staged` is a name that nobody else takes.
    fn create_record(&self, name: &str, staged: &str, content: &[u8]) -> Result<()>;

    /// Replaces a record at once.
    fn replace_record(&self, name: &str, staged: &str, content: &[u8]) -> Result<()>;

    /// The newest version of a record that has versions.
    fn read_newest(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Writes a newer version of a record. One that comes late changes nothing.
    fn supersede(&self, name: &str, version: [u64; 2], staged: &str, content: &[u8]) -> Result<()>;

    /// Removes all versions of a record.
    fn remove_versions(&self, name: &str) -> Result<()>;

    /// Removes a visible file, if there is one.
    fn remove(&self, name: &str) -> Result<()>;

    /// Removes a waiting file, so that nobody makes it visible afterwards.
    fn discard(&self, waiting: &str) -> Result<()>;

    /// Removes what a request that arrived late made wait once more, if the file is visible.
    fn forget(&self, waiting: &str) -> Result<()>;

    /// Whether a file has its visible name from the beginning.
    fn is_named_at_once(&self) -> bool;

    /// Begins a file that waits under one name until it is finished. `visible` is its later one, if it has
    /// that [at once](Self::is_named_at_once).
    fn begin(&self, waiting: &str, visible: &str) -> Result<Box<dyn Writing>>;

    /// The length of a waiting file.
    fn len_waiting(&self, waiting: &str) -> Result<Option<u64>>;

    /// The length of a visible file.
    fn len_visible(&self, visible: &str) -> Result<Option<u64>>;

    /// Makes a waiting file of this length visible, in one step.
    fn publish(&self, waiting: &str, visible: &str, bytes: u64) -> Result<Published>;

    /// Makes all names durable.
    fn sync(&self) -> Result<()>;
}

/// What became of a file that was to be made visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    Yes,
    /// It does not wait, or not any more.
    Gone,
    /// It has this length, and waits still.
    WrongLength(u64),
}

/// A file that is written.
pub(super) trait Writing: fmt::Debug + Send {
    /// Appends.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the file durable as it is. Returns the name under which it waits from now on.
    fn finish(self: Box<Self>) -> Result<String>;
}

pub(super) fn failed(
    what: &str,
    file: impl fmt::Display,
    e: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = format!("an output file cannot be {what}");
    Error::new(ErrorKind::Unavailable, message).with("file", file).caused_by(e)
}
