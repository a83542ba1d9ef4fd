//! Lists the files of an input.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;

use strandline_checkpoint_storage::ObjectInfo;
use strandline_state_api::{Error, ErrorKind, Result};

use super::identity::Stamp;
use super::place::{InputPath, unreadable};

/// A file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputFile {
    /// Its name within its folder.
    pub(super) name: String,
    /// Its length in bytes.
    pub(super) len: u64,
    pub(super) stamp: Stamp,
}

/// The file `path`, or the files in the directory `path` in the [natural order](natural) of their names.
pub(super) fn list(path: &InputPath) -> Result<Vec<InputFile>> {
    let files = list_any(path)?;
    if files.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "the input directory holds no files; put the input there, or correct the path",
        )
        .with("directory", path.display()));
    }
    Ok(files)
}

/// As [`list`], also for a directory without files.
pub(super) fn list_any(input: &InputPath) -> Result<Vec<InputFile>> {
    if let Some(objects) = input.list_objects()? {
        let mut files: Vec<_> = objects.into_iter().map(|(name, found)| as_file(name, &found)).collect();
        files.sort_unstable_by(|a, b| natural(&a.name, &b.name));
        return Ok(files);
    }
    let path = input.on_disk().unwrap_or(Path::new(""));
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let error = Error::new(ErrorKind::NotFound, "the input cannot be read").caused_by(e);
            error.with("file", input.display())
        }
        _ => unreadable(input, e),
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        if !metadata.is_file() {
            let message = "the input is no regular file: a pipe or a device cannot be read again from a \
                           position in a checkpoint; write it to a file first";
            return Err(Error::new(ErrorKind::Unsupported, message).with("file", path.display()));
        }
        return Ok(vec![InputFile {
            name: name_of(path)?,
            len: metadata.len(),
            stamp: Stamp::of(&metadata),
        }]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?.path();
        let name = name_of(&entry)?;
        if name.starts_with(['.', '_']) {
            continue;
        }
        match fs::metadata(&entry) {
            Ok(metadata) if metadata.is_file() => {
                files.push(InputFile { name, len: metadata.len(), stamp: Stamp::of(&metadata) });
            }
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => tracing::warn!(file = %entry.display(), "left out: it is no regular file"),
            // A link that leads nowhere, or a file that went away meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(file = %entry.display(), "left out: it is a link that leads nowhere");
            }
            Err(e) => return Err(unreadable(&entry.into(), e)),
        }
    }
    files.sort_unstable_by(|a, b| natural(&a.name, &b.name));
    Ok(files)
}

/// An object as a file. What the store knows of its content stands in for the inode and the time of a file.
fn as_file(name: String, found: &ObjectInfo) -> InputFile {
    let stamp = match &found.tag {
        Some(tag) => Stamp { modified: 1, inode: xxhash_rust::xxh3::xxh3_64(tag.as_bytes()).max(1) },
        None => Stamp::default(),
    };
    InputFile { name, len: found.len, stamp }
}

/// The natural order of names: digits that follow each other compare as one number, so that `day-2` comes
/// before `day-10`; everything else compares byte by byte. Names that differ in leading zeros only compare
/// byte by byte, too.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (x, y) = (number(&mut left), number(&mut right));
            match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        } else if x == y {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return x.cmp(y);
        }
    }
}

/// Takes the digits at the beginning, and returns them without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    *text = rest;
    let zeros = number.iter().position(|digit| *digit != b'0').unwrap_or(number.len());
    number.get(zeros..).unwrap_or_default()
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "the name of an input file must be UTF-8; rename it")
            .with("file", path.display())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_names_count() {
        let mut names =
            ["b", "a10", "a2", "a02b", "a", "a2b", "a1.csv", "a1", "a18446744073709551616", "a002b"];
        names.sort_by(|a, b| natural(a, b));
        let wanted = ["a", "a1", "a1.csv", "a2", "a002b", "a02b", "a2b", "a10", "a18446744073709551616", "b"];
        assert_eq!(names, wanted);
    }

    proptest! {
        #[test]
        fn the_order_is_total(names in proptest::collection::vec("[a01-]{0,5}", 3)) {
            let [a, b, c] = [0, 1, 2].map(|i| names[i].as_str());
            prop_assert_eq!(natural(a, b), natural(b, a).reverse());
            prop_assert_eq!(natural(a, b) == Ordering::Equal, a == b);
            if natural(a, b).is_le() && natural(b, c).is_le() {
                prop_assert!(natural(a, c).is_le());
            }
        }
    }
}
