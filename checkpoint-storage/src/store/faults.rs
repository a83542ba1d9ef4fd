//! The errors about files that every store has.

use strandline_state_api::{Error, ErrorKind};

pub(crate) fn missing(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the file does not exist").with("file", path)
}

pub(super) fn too_short(path: &str) -> Error {
    Error::corrupt("the file is shorter than it must be").with("file", path)
}

pub(super) fn too_long(path: &str, len: u64, limit: u64) -> Error {
    Error::corrupt(format!("{len} bytes where at most {limit} belong")).with("file", path)
}

pub(super) fn no_file(path: &str) -> Error {
    Error::corrupt("a directory stands where a file belongs").with("file", path)
}
