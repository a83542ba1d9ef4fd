//! Which files of the database go into which objects of the store, so that a checkpoint needs few of them.
//!
//! Each increment packs its new files together. Small packs would add up, one for each increment, so those of
//! a similar size are put together once there are six of them, as a log-structured merge tree does with its
//! files. A pack of which less than half is alive is given up, too: the files of it that the database still
//! has go into a new one. The packs that a later snapshot names stay as they are: their number has its bound
//! in the plan of that one, and [`uploads`](crate::uploads) has the rule.
//!
//! So a checkpoint whose database has `s` bytes needs at most `6 * s / pack_bytes` packs of a sixth of
//! `pack_bytes` and more, and 20 smaller ones, whatever the increments before were; and all of them together
//! have at most `2 * s` bytes. For that, a byte is stored again in each of the four classes of size that its
//! pack grows through, and in the lowest one with every sixth small increment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::uploads::Known;

/// So many packs of one class become one. Each class reaches to so many times the bytes of the one below.
const FAN: usize = 6;
/// The classes of packs below a sixth of the size that is aimed for. The lowest one has no lower end.
const CLASSES: u32 = 4;
/// The maximum number of packs of a checkpoint that are smaller than a sixth of the size that is aimed for.
#[cfg(test)]
pub(crate) const MOST_SMALL_PACKS: usize = (FAN - 1) * CLASSES as usize;

/// A file of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CutFile {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// Files that are in one object, or shall be.
struct Pack {
    files: Vec<CutFile>,
    bytes: u64,
    stored: bool,
}

impl Pack {
    fn new(files: Vec<CutFile>, stored: bool) -> Self {
        let bytes = files.iter().map(|file| file.len).sum();
        Self { files, bytes, stored }
    }

    /// Its class, the lowest being [`CLASSES`]; 0 if it is large enough to stay as it is.
    fn class(&self, aim: u64) -> u32 {
        let fan = FAN as u64;
        let smaller = |class: &u32| self.bytes >= aim / fan.pow(class + 1);
        (0..CLASSES).find(smaller).unwrap_or(CLASSES)
    }
}

/// Returns the packs to store for a cut of these files: all those that are not `known`, and those that go
/// into another pack. `aim` is the size of a pack, in bytes.
pub(crate) fn plan(files: &[CutFile], known: &Known, aim: u64) -> Vec<Vec<CutFile>> {
    let (mut loose, mut stored): (Vec<CutFile>, BTreeMap<_, (u64, Vec<CutFile>)>) = <_>::default();
    for file in files {
        match known.files.get(&file.name).map(|location| &location.pack) {
            Some(pack) if known.fixed.contains(&pack.name) => {}
            Some(pack) => stored.entry(&pack.name).or_insert((pack.len, Vec::new())).1.push(file.clone()),
            None => loose.push(file.clone()),
        }
    }
    let mut packs = Vec::new();
    for (len, files) in stored.into_values() {
        let pack = Pack::new(files, true);
        if pack.bytes < len / 2 { loose.extend(pack.files) } else { packs.push(pack) }
    }
    packs.extend(fill(loose, aim));
    // Each round leaves fewer packs: six or more of at most a sixth of the aim become half as many at most.
    while let Some(crowded) = crowded_class(&packs, aim) {
        let (merged, others): (Vec<_>, _) = packs.into_iter().partition(|pack| pack.class(aim) == crowded);
        packs = others;
        packs.extend(fill(merged.into_iter().flat_map(|pack| pack.files).collect(), aim));
    }
    packs.into_iter().filter(|pack| !pack.stored).map(|pack| pack.files).collect()
}

/// Returns the smallest packs' class that has too many.
fn crowded_class(packs: &[Pack], aim: u64) -> Option<u32> {
    let count = |class: u32| packs.iter().filter(|pack| pack.class(aim) == class).count();
    (1..=CLASSES).rev().find(|class| count(*class) >= FAN)
}

/// Puts files together, in the order of their names, until `aim` bytes are reached.
fn fill(mut files: Vec<CutFile>, aim: u64) -> Vec<Pack> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut packs: Vec<Pack> = Vec::new();
    for file in files {
        match packs.last_mut() {
            Some(last) if last.bytes + file.len <= aim => {
                last.bytes += file.len;
                last.files.push(file);
            }
            _ => packs.push(Pack::new(vec![file], false)),
        }
    }
    packs
}

#[cfg(test)]
mod tests;
