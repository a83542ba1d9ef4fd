//! Lists the files of an input.

use std::fs;
use std::path::Path;

use strandline_state_api::{Error, ErrorKind, Result};

/// A file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputFile {
    /// Its name within its folder.
    pub(super) name: String,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// The file `path`, or the files in the directory `path` in the order of their names.
pub(super) fn list(path: &Path) -> Result<Vec<InputFile>> {
    let failed = |e: std::io::Error| unreadable(path, e);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        if !metadata.is_file() {
            let message = "the input is no regular file: a pipe or a device cannot be read again from a \
                           position in a checkpoint; write it to a file first";
            return Err(Error::new(ErrorKind::Unsupported, message).with("file", path.display()));
        }
        return Ok(vec![InputFile { name: name_of(path)?, len: metadata.len() }]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let name = name_of(&entry)?;
        if name.starts_with(['.', '_']) {
            continue;
        }
        match fs::metadata(&entry) {
            Ok(metadata) if metadata.is_file() => files.push(InputFile { name, len: metadata.len() }),
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => tracing::warn!(file = %entry.display(), "left out: it is no regular file"),
            // A link that leads nowhere, or a file that went away meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %entry.display(), "left out: it is a link that leads nowhere");
            }
            Err(e) => return Err(unreadable(&entry, e)),
        }
    }
    if files.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the input directory holds no files; put the input there, or correct the path",
        )
        .with("directory", path.display()));
    }
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the name of an input file must be UTF-8; rename it")
            .with("file", path.display())
    })
}

pub(super) fn unreadable(path: &Path, e: std::io::Error) -> Error {
    let kind = match e.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "the input cannot be read").with("file", path.display()).caused_by(e)
}
