//! Files that have another name than in the checkpoint, or were compressed since.

use std::collections::HashMap;

use strandline_state_api::Result;

use super::super::content;
use super::super::listing::InputFile;
use super::super::split::Split;
use super::{Checked, Input, check};

/// Finds files that were renamed.
pub(super) struct Candidates {
    by_inode: HashMap<u64, String>,
    /// Those that were read in part, far enough that their content is like no other's.
    begun: Vec<String>,
}

/// Files that have so many first bytes in common, and the bytes before a position, are one file.
const DISTINCT: u64 = 64;

impl Candidates {
    pub(super) fn new(gone: &HashMap<String, Vec<Split>>) -> Self {
        let (mut by_inode, mut begun) = (HashMap::new(), Vec::new());
        for (name, splits) in gone {
            let inode = splits.last().map_or(0, |last| last.stamp.inode);
            if inode != 0 {
                by_inode.insert(inode, name.clone());
            }
            let marked = splits.iter().any(|split| split.mark != 0 && split.offset >= DISTINCT);
            if marked && !splits.iter().all(Split::is_finished) {
                begun.push(name.clone());
            }
        }
        begun.sort_unstable();
        Self { by_inode, begun }
    }

    /// Takes the splits of the file that is `file` under its new name: that has its inode, and begins with
    /// what was read. A file that was read whole must be unchanged or longer, too, because another file with
    /// the same content may have been given the inode of one that was deleted. A file that was read in part
    /// is known by its content alone: that it is gone is an error otherwise.
    pub(super) fn find(
        &self,
        input: Input<'_>,
        file: &InputFile,
        gone: &mut HashMap<String, Vec<Split>>,
    ) -> Result<Option<Vec<Split>>> {
        let by_inode = self.by_inode.get(&file.stamp.inode).filter(|name| {
            gone.get(*name).is_some_and(|splits| {
                let end = splits.last().map_or(0, |last| last.end);
                let untouched = splits.iter().all(|split| split.stamp.is_untouched(file.stamp));
                !splits.iter().all(Split::is_finished) || untouched || file.len > end
            })
        });
        for name in by_inode.into_iter().chain(&self.begun) {
            let Some(splits) = gone.get(name) else { continue };
            if matches!(check(input, file, splits)?, Checked::Same) {
                tracing::info!(file = %file.name, before = %name, "an input file was renamed");
                return Ok(gone.remove(name));
            }
        }
        Ok(None)
    }
}

/// Takes the splits of the file that `file` is the compressed form of: its content begins with what was read
/// of it. What follows in it is left to read. (As `logrotate` compresses what it has rotated.)
pub(super) fn compressed(
    input: Input<'_>,
    file: &InputFile,
    gone: &mut HashMap<String, Vec<Split>>,
) -> Result<Option<Vec<Split>>> {
    let path = input.folder.join(&file.name);
    if gone.is_empty() || !content::is_packed(&path)? {
        return Ok(None);
    }
    let of_name = |name: &str| file.name.strip_prefix(name).is_some_and(|suffix| suffix.starts_with('.'));
    let mut begun: Vec<(u64, u32, &String)> = Vec::new();
    for (name, splits) in &*gone {
        let [only] = splits.as_slice() else { continue };
        let distinct = only.offset >= DISTINCT || of_name(name);
        if only.start == 0 && only.offset > 0 && only.mark != 0 && !only.packed && distinct {
            begun.push((only.offset, only.mark, name));
        }
    }
    begun.sort_unstable();
    let positions: Vec<u64> = begun.iter().map(|(offset, ..)| *offset).collect();
    let found = content::marks(&path, &positions)?;
    let same = begun.iter().zip(found).rev().find(|((_, mark, _), found)| Some(*mark) == *found);
    let Some(before) = same.map(|((.., name), _)| (*name).clone()) else { return Ok(None) };
    tracing::info!(file = %file.name, %before, "an input file was compressed");
    Ok(gone.remove(&before).map(|mut splits| {
        for split in &mut splits {
            (split.end, split.stamp, split.packed, split.whole) = (file.len, file.stamp, true, true);
        }
        splits
    }))
}
