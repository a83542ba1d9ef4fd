//! Reading and deleting below a directory.

use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use strandline_state_api::{Error, Result};

use super::super::Listed;
use super::super::faults::{no_file, too_short};
use super::Dir;
use super::disk::failed;

impl Dir {
    /// Where an object is. Names of this crate are relative; any other stays below the root, too.
    pub(super) fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `None` when there is no such object.
    pub(super) fn len(&self, path: &str) -> Result<Option<u64>> {
        match fs::metadata(self.place(path)) {
            Ok(metadata) if metadata.is_dir() => Err(no_file(path)),
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == Io::NotFound => self.check_root().map(|()| None),
            Err(e) => Err(self.failed(&e, "look up", path)),
        }
    }

    /// `None` when there is no such object.
    pub(super) fn read(&self, path: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        let Some(len) = self.len(path)? else { return Ok(None) };
        if len < range.end {
            return Err(too_short(path));
        }
        let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.place(path))?;
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = vec![0; wanted];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == Io::NotFound => Ok(None),
            Err(e) => Err(self.failed(&e, "read", path)),
        }
    }

    pub(super) fn delete(&self, path: &str) -> Result<()> {
        match fs::remove_file(self.place(path)) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == Io::NotFound => self.check_root(),
            Err(e) => Err(self.failed(&e, "delete", path)),
        }
    }

    /// A directory that does not exist yet is an empty store, but one behind a link to nothing never will.
    fn check_root(&self) -> Result<()> {
        for dir in self.root.ancestors() {
            let Ok(metadata) = fs::symlink_metadata(dir) else { continue };
            if metadata.is_symlink() && fs::metadata(dir).is_err_and(|e| e.kind() == Io::NotFound) {
                let target = fs::read_link(dir).unwrap_or_default();
                let message =
                    "the way to the storage is a link to nothing: create what it points to, or remove it";
                let error = Error::invalid(message).with("link", dir.display());
                return Err(error.with("target", target.display()));
            }
            break;
        }
        Ok(())
    }

    /// The error of the disk, or what is wrong with the root.
    pub(super) fn failed(&self, error: &io::Error, doing: &str, path: &str) -> Error {
        if fs::metadata(&self.root).is_ok_and(|metadata| !metadata.is_dir()) {
            return Error::invalid("a storage must be a directory").with("path", self.root.display());
        }
        match self.check_root() {
            Err(broken) => broken,
            Ok(()) => failed(error, doing, path),
        }
    }

    /// The files of a directory. One that vanishes while it is listed is in the list all the same: else a log
    /// of which the first entry is deleted while a second one is created would look empty.
    pub(super) fn list(&self, path: &str) -> Result<Vec<Listed>> {
        let entries = match fs::read_dir(self.place(path)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == Io::NotFound => return self.check_root().map(|()| Vec::new()),
            Err(e) => return Err(self.failed(&e, "list", path)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.failed(&e, "list", path))?;
            let len = match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => continue,
                Ok(metadata) => metadata.len(),
                Err(e) if e.kind() == Io::NotFound => 0,
                Err(e) => return Err(self.failed(&e, "list", path)),
            };
            files.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), len });
        }
        Ok(files)
    }
}
