//! How a file is known again: by more than its name.

use std::fs::Metadata;
use std::io::{Read, Seek, SeekFrom};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use strandline_state_api::Result;
use xxhash_rust::xxh3::Xxh3;

use super::place::{InputPath, unreadable};

/// What the file system knows of a file beside its name and length; a rename keeps both. Zero where it is not
/// known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// When it was changed last, in microseconds since the Unix epoch.
    pub(super) modified: i64,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or(0);
        Self { modified, inode: inode(metadata) }
    }

    /// Whether nobody has written the file since, as far as the file system shows.
    pub(super) fn is_untouched(self, now: Self) -> bool {
        self.modified != 0 && self == now
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// How many bytes at the beginning of a file, and how many before a position, its [mark](mark) covers.
pub(super) const WINDOW: usize = 4096;

/// The mark of the first bytes of a file up to a position: a hash of the `head` of the file and of the bytes
/// `before` the position, up to [`WINDOW`] of each. Never 0, which stands for a mark that is not known.
pub(super) fn mark(head: &[u8], before: &[u8]) -> u32 {
    let mut hash = Xxh3::new();
    // Up to here both are the same bytes.
    if before.len() == WINDOW {
        hash.update(head);
    }
    hash.update(before);
    (hash.digest() as u32).max(1)
}

/// The [mark] of the file at `path` and the last bytes before `position`; `None` where the file is shorter.
pub(super) fn read_mark(path: &InputPath, position: u64) -> Result<Option<(u32, Vec<u8>)>> {
    let window = position.min(WINDOW as u64) as usize;
    let (mut head, mut before) = (vec![0; window], vec![0; window]);
    let read = path.open().and_then(|mut file| {
        file.read_exact(&mut head)?;
        file.seek(SeekFrom::Start(position - window as u64))?;
        file.read_exact(&mut before)
    });
    match read {
        Ok(()) => Ok(Some((mark(&head, &before), before))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(unreadable(path, e)),
    }
}

/// How many bytes before a position an error shows.
pub(super) const EXCERPT: usize = 40;

/// The end of `before`, for an error.
pub(super) fn excerpt(before: &[u8]) -> &[u8] {
    before.get(before.len().saturating_sub(EXCERPT)..).unwrap_or_default()
}

/// An [excerpt] as text.
pub(super) fn shown(excerpt: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(excerpt))
}
