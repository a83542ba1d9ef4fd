//! Splits: the byte ranges that subtasks read, and which subtask reads which.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use strandline_state_api::{Error, ErrorKind, Result};

use super::listing::{InputFile, unreadable};

/// The position of a [`FileSource`](super::FileSource) in one byte range of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The name of the file within its folder.
    pub(super) file: String,
    /// The first byte.
    pub(super) start: u64,
    /// The first byte behind it.
    pub(super) end: u64,
    /// Where the next record begins; before the first one is read `start`, which may lie within a record.
    pub(super) offset: u64,
    /// How many of its records could not be decoded and were left out.
    pub(super) skipped: u64,
    /// The subtask that reads it, and the parallelism; `None` before the first assignment.
    pub(super) owner: Option<(u32, u32)>,
}

impl Split {
    pub(super) fn is_finished(&self) -> bool {
        self.offset >= self.end
    }
}

/// Cuts `files` into splits of about `size` bytes.
pub(super) fn plan(files: &[InputFile], size: u64) -> Vec<Split> {
    files.iter().flat_map(|file| cut(&file.name, 0, file.len, size)).collect()
}

fn cut(file: &str, from: u64, to: u64, size: u64) -> impl Iterator<Item = Split> {
    // Equal pieces: a short last one would leave a subtask idle.
    let pieces = (to - from).div_ceil(size);
    let border =
        move |i: u64| from + (u128::from(to - from) * u128::from(i) / u128::from(pieces.max(1))) as u64;
    (0..pieces).map(move |i| {
        let start = border(i);
        Split { file: file.to_owned(), start, end: border(i + 1), offset: start, skipped: 0, owner: None }
    })
}

/// The splits of a checkpoint, and new ones for files and appended lines that came since.
pub(super) fn resume(
    folder: &Path,
    files: &[InputFile],
    size: u64,
    restored: Vec<Split>,
) -> Result<Vec<Split>> {
    let mut by_file: BTreeMap<String, Vec<Split>> = BTreeMap::new();
    for split in restored {
        by_file.entry(split.file.clone()).or_default().push(split);
    }
    for file in files {
        let splits = by_file.entry(file.name.clone()).or_default();
        splits.sort_unstable_by_key(|split| split.start);
        let known = check_tiling(splits)?;
        if file.len < known {
            let message = "an input file is shorter than when the checkpoint was taken; put the original \
                           back, or start a new job";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("file", folder.join(&file.name).display())
                .with("bytes", file.len)
                .with("expected", known));
        }
        if file.len > known {
            let partly_read = splits.last().is_some_and(|last| last.offset == known);
            if partly_read && !ends_line(&folder.join(&file.name), known)? {
                let message = "an input file grew within a line that was already read; append whole lines \
                               only, or start a new job";
                return Err(Error::new(ErrorKind::Incompatible, message)
                    .with("file", folder.join(&file.name).display())
                    .with("byte", known));
            }
            splits.extend(cut(&file.name, known, file.len, size));
        }
    }
    if let Some(gone) = by_file.keys().find(|name| !files.iter().any(|file| file.name == **name)) {
        let message = "an input file that the checkpoint knows is gone; put it back, or start a new job";
        return Err(Error::new(ErrorKind::NotFound, message).with("file", folder.join(gone).display()));
    }
    Ok(by_file.into_values().flatten().collect())
}

/// Checks that splits cover a file from its beginning, and returns their end.
fn check_tiling(splits: &[Split]) -> Result<u64> {
    let mut end = 0;
    for split in splits {
        if split.start != end || split.end < end {
            return Err(Error::corrupt("the positions of a file source have a gap or overlap")
                .with("file", &split.file)
                .with("byte", split.start)
                .with("expected", end));
        }
        end = split.end;
    }
    Ok(end)
}

/// Whether the byte before `offset` ends a line.
fn ends_line(path: &Path, offset: u64) -> Result<bool> {
    let mut byte = [0];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset.saturating_sub(1)))?;
        file.read_exact(&mut byte)
    });
    read.map_err(|e| unreadable(path, e))?;
    Ok(offset == 0 || byte == *b"\n")
}

/// The share of one subtask. With an unchanged parallelism each subtask keeps its splits, so that event time
/// continues for each where it was. Otherwise the unfinished splits are dealt out anew in order, one by one,
/// and so are the finished ones, which a checkpoint keeps only so that no subtask reads them again.
pub(super) fn share(mut splits: Vec<Split>, subtask: u32, parallelism: u32) -> Vec<Split> {
    let parallelism = parallelism.max(1);
    let kept = |split: &Split| split.owner.map(|(_, of)| of) == Some(parallelism);
    let unchanged = splits.iter().all(|split| split.owner.is_none() || kept(split));
    let mut next = [0, 0];
    for split in &mut splits {
        if unchanged && split.owner.is_some() {
            continue;
        }
        if let Some(next) = next.get_mut(usize::from(split.is_finished())) {
            split.owner = Some((*next % parallelism, parallelism));
            *next += 1;
        }
    }
    splits.retain(|split| split.owner == Some((subtask, parallelism)));
    splits
}

#[cfg(test)]
mod tests {
    use strandline_state_api::{Codec, SerdeCodec};

    use super::*;

    /// The bytes of the first version, which checkpoints hold.
    #[test]
    fn the_stored_form_stays() {
        let split =
            |owner| Split { file: "a.csv".into(), start: 0, end: 300, offset: 128, skipped: 2, owner };
        for (stored, split) in [
            (&b"\x05a.csv\x00\xAC\x02\x80\x01\x02\x00"[..], split(None)),
            (b"\x05a.csv\x00\xAC\x02\x80\x01\x02\x01\x01\x03", split(Some((1, 3)))),
        ] {
            assert_eq!(Codec::<Split>::decode(&SerdeCodec, stored).unwrap(), split);
            let mut encoded = Vec::new();
            SerdeCodec.encode(&split, &mut encoded).unwrap();
            assert_eq!(encoded, stored);
        }
    }
}
