//! Splits: the byte ranges that subtasks read.

use strandline_state_api::{Error, Result};

use super::content;
use super::identity::{self, Stamp};
use super::place::InputPath;

/// One byte range of a file, and how far it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Split {
    /// The name of the file within its folder.
    pub(super) file: String,
    /// The first byte.
    pub(super) start: u64,
    /// The first byte behind it.
    pub(super) end: u64,
    /// Where the next record begins; before the first one is read `start`, which may lie within a record.
    pub(super) offset: u64,
    /// The file is compressed or a stream, and was begun: `offset` is one in its content. A compressed file
    /// that was read whole is known by its compressed bytes again, as is one that was not begun.
    pub(super) packed: bool,
    /// How many of its records could not be decoded and were left out.
    pub(super) skipped: u64,
    /// The subtask that reads it, and the parallelism; `None` before the first assignment.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) stamp: Stamp,
    /// The [mark](super::identity::mark) of the file at `offset`; 0 where it is not known.
    pub(super) mark: u32,
    /// The last bytes before `offset`, where it lies within the split.
    pub(super) before: Vec<u8>,
    /// The greatest event time of its records that were read, in its [stored
    /// form](strandline_state_api::Timestamp::to_stored).
    pub(super) greatest: i64,
    /// It is the only split of its file.
    pub(super) whole: bool,
}

impl Split {
    pub(super) fn is_finished(&self) -> bool {
        self.offset >= self.end && !self.packed
    }

    /// Whether nothing of it was read.
    pub(super) fn is_unread(&self) -> bool {
        self.offset == self.start && self.end > self.start
    }

    /// The [mark](identity::mark) of the file at `path` where this split stands, and the last bytes before;
    /// `None` where the file is shorter.
    pub(super) fn read_mark(&self, path: &InputPath) -> Result<Option<(u32, Vec<u8>)>> {
        match self.packed {
            true => content::read_mark(path, self.offset),
            false => identity::read_mark(path, self.offset),
        }
    }
}

/// Cuts the bytes `from` to `to` of `file` into splits of about `size` bytes.
pub(super) fn cut(file: &str, from: u64, to: u64, size: u64, stamp: Stamp) -> impl Iterator<Item = Split> {
    // Equal pieces: a short last one would leave a subtask idle.
    let pieces = (to - from).div_ceil(size);
    let border =
        move |i: u64| from + (u128::from(to - from) * u128::from(i) / u128::from(pieces.max(1))) as u64;
    (0..pieces).map(move |i| {
        let (start, end) = (border(i), border(i + 1));
        let whole = from == 0 && pieces == 1;
        let greatest = i64::MIN;
        Split { file: file.to_owned(), start, end, offset: start, stamp, greatest, whole, ..Split::default() }
    })
}

/// Checks that splits, in order, cover a file from its beginning, and returns their end.
pub(super) fn check_tiling(splits: &[Split]) -> Result<u64> {
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

/// Gives each split an owner. With an unchanged parallelism each subtask keeps its splits. Otherwise the
/// unfinished splits are dealt out anew in order, one by one, and so are the finished ones, which a checkpoint
/// keeps only so that no subtask reads them again.
pub(super) fn deal(splits: &mut [Split], parallelism: u32) {
    let parallelism = parallelism.max(1);
    let kept = |split: &Split| split.owner.map(|(_, of)| of) == Some(parallelism);
    let unchanged = splits.iter().all(|split| split.owner.is_none() || kept(split));
    let mut next = [0, 0];
    for split in splits {
        if unchanged && split.owner.is_some() {
            continue;
        }
        if let Some(next) = next.get_mut(usize::from(split.is_finished())) {
            split.owner = Some((*next % parallelism, parallelism));
            *next += 1;
        }
    }
}
