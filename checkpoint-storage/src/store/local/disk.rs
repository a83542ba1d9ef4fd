//! What a disk does, made durable, and its errors.

use std::fs::{self, File};
use std::io::{self, ErrorKind as Io};
use std::path::Path;

use strandline_state_api::{Error, ErrorKind};

/// Creates a directory with all above it, each made durable in its parent.
pub(super) fn create_dir_durably(dir: &Path) -> io::Result<()> {
    let create = |dir: &Path| match fs::create_dir(dir) {
        // Whoever created it may not have come to its sync.
        Err(e) if e.kind() != Io::AlreadyExists => Err(e),
        _ => sync_parent(dir),
    };
    let mut missing = Vec::new();
    for dir in dir.ancestors() {
        match create(dir) {
            Err(e) if e.kind() == Io::NotFound => missing.push(dir),
            created => {
                created?;
                break;
            }
        }
    }
    // One that is still refused has a parent in which no directory can be created.
    missing.into_iter().rev().try_for_each(create)
}

#[cfg(unix)]
pub(super) fn sync_parent(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Elsewhere a directory cannot be opened as a file; its entries are durable with the file.
#[cfg(not(unix))]
pub(super) fn sync_parent(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn failed(error: &io::Error, doing: &str, path: &str) -> Error {
    let what = match error.kind() {
        Io::StorageFull | Io::QuotaExceeded => "the disk is full: free some space",
        Io::ReadOnlyFilesystem => "the disk is read-only",
        Io::PermissionDenied => "permission denied",
        Io::NotFound => "no directory can be created there",
        _ => "the disk failed",
    };
    let source = io::Error::new(error.kind(), error.to_string());
    let kind = if error.kind() == Io::NotFound { ErrorKind::Invalid } else { ErrorKind::Unavailable };
    Error::new(kind, format!("could not {doing} a file: {what}")).with("file", path).caused_by(source)
}
