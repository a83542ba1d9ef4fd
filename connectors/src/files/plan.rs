//! What there is to read, and which subtask reads it: the listing of the input against the positions of a
//! checkpoint. Made once for each attempt, in time that grows with the number of files.

mod renames;

use std::collections::{BTreeMap, HashMap, HashSet};

use strandline_runtime::source::Unread;
use strandline_state_api::{Error, ErrorKind, Result};

use super::content;
use super::identity::{self, Stamp};
use super::listing::{InputFile, natural};
use super::place::{InputPath, unreadable};
use super::position::{FileList, FilePosition, KnownFile, Stored};
use super::split::{Split, check_tiling, cut, deal};

use renames::{Candidates, compressed};

/// What the plan depends on, beside listing and positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    pub(super) folder: &'a InputPath,
    pub(super) layout: &'a str,
    /// Where the source reads, and where it read before, if somebody has moved its input; for people.
    pub(super) path: &'a str,
    pub(super) moved_from: Option<&'a str>,
    pub(super) split_size: u64,
    /// Whether a reader may begin at any line.
    pub(super) any_line: bool,
    pub(super) parallelism: u32,
    /// Whether the source had ended.
    pub(super) ended: bool,
}

/// What each subtask reads.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shares: Vec<Share>,
    pub(super) unread: Unread,
    /// The greatest event time of all records that a source which had ended has read; `i64::MIN` for others.
    pub(super) begin: i64,
}

/// What one subtask reads, and what it has read.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// In the order in which they are to be read.
    pub(super) splits: Vec<Split>,
    /// Files that were read whole, by name.
    pub(super) done: BTreeMap<String, KnownFile>,
    /// Of those.
    pub(super) skipped: u64,
    pub(super) greatest: i64,
}

impl Default for Share {
    fn default() -> Self {
        Self { splits: Vec::new(), done: BTreeMap::new(), skipped: 0, greatest: i64::MIN }
    }
}

/// What a checkpoint knows.
struct Known {
    /// Where the input was; empty where that is not known.
    path: String,
    /// The splits of each file, in order.
    files: HashMap<String, Vec<Split>>,
    skipped: u64,
    greatest: i64,
}

impl Plan {
    /// The plan of a new job.
    pub(super) fn new(input: Input<'_>, listing: &[InputFile]) -> Result<Self> {
        let mut splits = Vec::new();
        for file in listing {
            splits.extend(cut_new(input, file)?);
        }
        Ok(Self::deal(input, splits, 0, i64::MIN))
    }

    /// The plan of a job that resumes.
    pub(super) fn resume(
        input: Input<'_>,
        listing: Vec<InputFile>,
        restored: &[FilePosition],
    ) -> Result<Self> {
        let mut known = Known::read(input.layout, restored)?;
        let listed: HashSet<&str> = listing.iter().map(|file| file.name.as_str()).collect();
        let known_files = known.files.len();
        let mut gone: HashMap<String, Vec<Split>> = HashMap::new();
        known.files.retain(|name, splits| {
            let stays = listed.contains(name.as_str());
            if !stays {
                gone.insert(name.clone(), std::mem::take(splits));
            }
            stays
        });
        let mut splits = Vec::new();
        let mut unknown = Vec::new();
        let is_elsewhere = known_files > 0 && known.files.is_empty() && !listing.is_empty();
        for file in listing {
            match known.files.remove(&file.name) {
                Some(of_file) => match check(input, &file, &of_file)? {
                    Checked::Same => splits.extend(grown(input, &file, of_file)?),
                    // It may be that the file was renamed, and another one took its name.
                    other => {
                        gone.insert(file.name.clone(), of_file);
                        unknown.push((file, Some(other)));
                    }
                },
                None => unknown.push((file, None)),
            }
        }
        let candidates = Candidates::new(&gone);
        let mut replaced = Vec::new();
        for (file, other) in unknown {
            let renamed = match candidates.find(input, &file, &mut gone)? {
                None => compressed(input, &file, &mut gone)?,
                renamed => renamed,
            };
            match renamed {
                Some(mut of_file) => {
                    for split in &mut of_file {
                        split.file.clone_from(&file.name);
                    }
                    splits.extend(grown(input, &file, of_file)?);
                }
                None => {
                    splits.extend(cut_new(input, &file)?);
                    replaced.extend(other.map(|other| (file, other)));
                }
            }
        }
        if is_elsewhere && gone.len() == known_files {
            check_path(input, &known.path)?;
        }
        for (file, other) in replaced {
            if let Some(of_file) = gone.get(&file.name) {
                return Err(other.error(input.folder, &file, of_file));
            }
        }
        for (name, of_file) in gone {
            splits.extend(archived(input.folder, &name, of_file)?);
        }
        splits.sort_unstable_by(|a, b| natural(&a.file, &b.file).then(a.start.cmp(&b.start)));
        Ok(Self::deal(input, splits, known.skipped, known.greatest))
    }

    /// The plan for a stream. One that had ended is not read again.
    pub(super) fn stream(input: Input<'_>, name: &str, restored: Option<&[FilePosition]>) -> Result<Self> {
        let mut known = Known::read(input.layout, restored.unwrap_or_default())?;
        let mut splits = match known.files.remove(name) {
            Some(splits) => splits,
            None => cut(name, 0, u64::MAX, u64::MAX, Stamp::default()).collect(),
        };
        if let Some(other) = known.files.keys().next() {
            let message = "the checkpoint was taken of another input, and the source reads a stream now; describe \
                           the source as it was, or start a new job";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("stored", other)
                .with("wanted", name));
        }
        splits.iter_mut().for_each(|split| split.whole = true);
        Ok(Self::deal(input, splits, known.skipped, known.greatest))
    }

    /// The plan of a source that had ended and reads nothing that came since.
    pub(super) fn ended(input: Input<'_>, listing: &[InputFile], restored: &[FilePosition]) -> Result<Self> {
        let known = Known::read(input.layout, restored)?;
        let unread = known.left(listing);
        let splits = known.files.into_values().flatten().collect();
        Ok(Self { unread, ..Self::deal(input, splits, known.skipped, known.greatest) })
    }

    fn deal(input: Input<'_>, mut splits: Vec<Split>, skipped: u64, greatest: i64) -> Self {
        // What a source that had ended has left waits for the end of its last line.
        let waits = |split: &Split| input.ended && split.owner.is_some();
        let more = splits.iter().any(|split| !split.is_finished() && !waits(split));
        deal(&mut splits, input.parallelism);
        let begin = splits.iter().map(|split| split.greatest).max().unwrap_or(i64::MIN).max(greatest);
        let begin = if input.ended { begin } else { i64::MIN };
        let mut shares = vec![Share::default(); input.parallelism.max(1) as usize];
        if let Some(first) = shares.first_mut() {
            (first.skipped, first.greatest) = (skipped, greatest);
        }
        for split in splits {
            let owner = split.owner.map_or(0, |(owner, _)| owner);
            let Some(share) = shares.get_mut(owner as usize) else { continue };
            if split.whole && split.is_finished() && split.mark != 0 {
                share.skipped += split.skipped;
                share.greatest = share.greatest.max(split.greatest);
                let Split { file: name, end: len, stamp, mark, .. } = split;
                share.done.insert(name.clone(), KnownFile { name, len, stamp, read: Some(mark) });
            } else {
                share.splits.push(split);
            }
        }
        Self { shares, unread: if more { Unread::Read } else { Unread::Nothing }, begin }
    }
}

impl Known {
    fn read(layout: &str, restored: &[FilePosition]) -> Result<Self> {
        let mut known = Self { path: String::new(), files: HashMap::new(), skipped: 0, greatest: i64::MIN };
        for FilePosition(position) in restored {
            match position {
                Stored::Split(split) => known.add((**split).clone()),
                Stored::Files(bytes) => known.add_list(layout, bytes)?,
            }
        }
        for splits in known.files.values_mut() {
            splits.sort_unstable_by_key(|split| split.start);
            check_tiling(splits)?;
            let all_read = splits.iter().all(Split::is_finished);
            if let ([first, .., _], true) = (splits.as_slice(), all_read) {
                // The pieces of a file that was read whole become one.
                let mut whole = first.clone();
                for split in splits.iter().skip(1) {
                    (whole.end, whole.offset, whole.stamp) = (split.end, split.offset, split.stamp);
                    (whole.mark, whole.before) = (split.mark, split.before.clone());
                    whole.skipped += split.skipped;
                    whole.greatest = whole.greatest.max(split.greatest);
                }
                *splits = vec![whole];
            }
            if let [only] = splits.as_mut_slice() {
                only.whole = only.start == 0;
            }
        }
        Ok(known)
    }

    /// What is there beside it, for a source that does not read it.
    fn left(&self, listing: &[InputFile]) -> Unread {
        let end = |file: &InputFile| {
            self.files.get(&file.name).and_then(|splits| splits.last()).map(|last| last.end)
        };
        let mut gone: Vec<_> = self.files.values().filter_map(|splits| splits.first()).collect();
        let listed: HashSet<&str> = listing.iter().map(|file| file.name.as_str()).collect();
        gone.retain(|split| !listed.contains(split.file.as_str()));
        let renamed =
            |file: &InputFile| gone.iter().any(|split| split.end == file.len && split.stamp == file.stamp);
        let new: Vec<_> =
            listing.iter().filter(|file| end(file).is_none() && file.len > 0 && !renamed(file)).collect();
        let longer: Vec<_> =
            listing.iter().filter(|file| end(file).is_some_and(|end| end < file.len)).collect();
        let mut parts = Vec::new();
        for (files, one, many) in [
            (new, "new file is", "new files are"),
            (longer, "file has grown and is", "files have grown and are"),
        ] {
            match files.as_slice() {
                [] => {}
                [file] => parts.push(format!("1 {one} not read ({})", file.name)),
                [first, .., last] => {
                    let count = files.len();
                    parts.push(format!("{count} {many} not read ({} to {})", first.name, last.name));
                }
            }
        }
        if parts.is_empty() { Unread::Nothing } else { Unread::Left(parts.join(", ")) }
    }

    fn add(&mut self, split: Split) {
        self.files.entry(split.file.clone()).or_default().push(split);
    }

    fn add_list(&mut self, layout: &str, bytes: &[u8]) -> Result<()> {
        let list = FileList::decode(bytes)?;
        if list.layout != layout {
            let message = "the source reads its files in another way than when the checkpoint was taken, so \
                           its positions mean nothing; describe the source as it was, or start a new job";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("stored", &list.layout)
                .with("wanted", layout));
        }
        self.path = list.path;
        self.skipped += list.skipped;
        self.greatest = self.greatest.max(list.greatest);
        for KnownFile { name: file, len: end, stamp, read } in list.files {
            let (offset, mark) = read.map_or((0, 0), |mark| (end, mark));
            let (owner, greatest) = (list.owner, i64::MIN);
            self.add(Split { file, end, offset, owner, stamp, mark, greatest, ..Split::default() });
        }
        Ok(())
    }
}

/// What a file with a known name turned out to be.
enum Checked {
    Same,
    /// It is shorter than what was read or planned.
    Shorter(u64),
    /// It has other bytes before this position.
    Other {
        position: u64,
        expected: Vec<u8>,
        found: Vec<u8>,
    },
}

impl Checked {
    fn error(self, folder: &InputPath, file: &InputFile, splits: &[Split]) -> Error {
        let path = folder.join(&file.name);
        let (offset, end) = progress(splits);
        match self {
            Self::Shorter(expected) => {
                let message = "an input file is shorter than when the checkpoint was taken; put the original \
                               back, or start a new job";
                Error::new(ErrorKind::Incompatible, message)
                    .with("file", path.display())
                    .with("bytes", file.len)
                    .with("expected", expected)
            }
            Self::Other { position, expected, found } => {
                let message = if offset == end {
                    "an input file was read whole, and another one has its name now; give the new one another \
                     name, or put the original back"
                } else {
                    "an input file is not the one that the checkpoint was taken of: another one has its name \
                     now; put the original back, or start a new job"
                };
                let error = Error::new(ErrorKind::Incompatible, message)
                    .with("file", path.display())
                    .with("byte", position);
                let error = match expected.as_slice() {
                    [] => error,
                    expected => error.with("expected before it", identity::shown(expected)),
                };
                error.with("found before it", identity::shown(identity::excerpt(&found)))
            }
            Self::Same => {
                Error::new(ErrorKind::Internal, "an input file is the same").with("file", path.display())
            }
        }
    }
}

/// Refuses a source of which no file of the checkpoint is where it reads now, unless that is on purpose.
fn check_path(input: Input<'_>, stored: &str) -> Result<()> {
    if stored.is_empty() || stored == input.path || input.moved_from == Some(stored) {
        return Ok(());
    }
    let message = "the source reads another path than when the checkpoint was taken, and no file that the \
                   checkpoint knows is there; read the path as it was, start a new job, or, if its input \
                   has moved, name the path before (moved_from)";
    Err(Error::new(ErrorKind::Incompatible, message).with("stored", stored).with("wanted", input.path))
}

/// How many bytes of a file were read, and how many it had.
fn progress(splits: &[Split]) -> (u64, u64) {
    let read = splits.iter().map(|split| split.offset.min(split.end) - split.start).sum();
    (read, splits.last().map_or(0, |last| last.end))
}

/// Whether `file` begins with what was read of `splits`.
fn check(input: Input<'_>, file: &InputFile, splits: &[Split]) -> Result<Checked> {
    let end = splits.last().map_or(0, |last| last.end);
    if file.len < end {
        return Ok(Checked::Shorter(end));
    }
    if splits.iter().all(|split| split.stamp.is_untouched(file.stamp)) && file.len == end {
        return Ok(Checked::Same);
    }
    for split in splits.iter().filter(|split| split.mark != 0 && split.offset > 0) {
        // The last record of a file without a line end reaches to the end.
        let position = if split.packed { split.offset } else { split.offset.min(file.len) };
        let known = Split { offset: position, packed: split.packed, ..Split::default() };
        let (found, before) = known.read_mark(&input.folder.join(&file.name))?.unwrap_or_default();
        if found != split.mark {
            return Ok(Checked::Other { position, expected: split.before.clone(), found: before });
        }
    }
    Ok(Checked::Same)
}

/// The splits of a file that is new. One that is compressed can only be read from its beginning.
fn cut_new(input: Input<'_>, file: &InputFile) -> Result<impl Iterator<Item = Split>> {
    let divides = file.len > input.split_size && !content::is_packed(&input.folder.join(&file.name))?;
    Ok(cut(&file.name, 0, file.len, if divides { input.split_size } else { u64::MAX }, file.stamp))
}

/// The error for a compressed file that has more bytes than when it was read whole.
pub(super) fn grown_when_packed(path: &InputPath, known: u64) -> Error {
    let message = "a compressed input file has grown after it was read whole; put new data into a file of its \
                   own, or start a new job";
    Error::new(ErrorKind::Incompatible, message).with("file", path.display()).with("compressed bytes", known)
}

/// The splits of a file that may have grown.
fn grown(input: Input<'_>, file: &InputFile, mut splits: Vec<Split>) -> Result<Vec<Split>> {
    let known = splits.last().map_or(0, |last| last.end);
    for split in &mut splits {
        split.stamp = file.stamp;
    }
    if file.len <= known {
        return Ok(splits);
    }
    let path = input.folder.join(&file.name);
    if let Some(last) = splits.last_mut() {
        if content::is_packed(&path)? {
            if last.is_finished() && known > 0 {
                return Err(grown_when_packed(&path, known));
            }
            (last.end, last.owner) = (file.len, None);
            return Ok(splits);
        }
        if last.offset == known && !ends_line(&path, known)? {
            let message = "an input file grew within a line that was already read; append whole lines only, \
                           or start a new job";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("file", path.display())
                .with("byte", known));
        }
        // Only a reader from before knows whether a line end is within quotes.
        if !input.any_line {
            last.end = file.len;
            last.owner = None;
            return Ok(splits);
        }
        last.whole = false;
    }
    splits.extend(cut(&file.name, known, file.len, input.split_size, file.stamp));
    Ok(splits)
}

/// Whether the byte before `offset` ends a line.
fn ends_line(path: &InputPath, offset: u64) -> Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut byte = [0];
    let read = path.open().and_then(|mut file| {
        file.seek(SeekFrom::Start(offset.saturating_sub(1)))?;
        file.read_exact(&mut byte)
    });
    read.map_err(|e| unreadable(path, e))?;
    Ok(offset == 0 || byte == *b"\n")
}

/// The splits of a file that is gone: none are left to read.
fn archived(folder: &InputPath, name: &str, splits: Vec<Split>) -> Result<Vec<Split>> {
    if splits.iter().all(Split::is_finished) {
        return Ok(splits);
    }
    let (read, end) = progress(&splits);
    let message = if read == 0 {
        "an input file that was not read yet is gone; put it back, or start a new job"
    } else {
        "an input file that was read in part is gone; put it back, or start a new job"
    };
    Err(Error::new(ErrorKind::NotFound, message)
        .with("file", folder.join(name).display())
        .with("bytes read", read)
        .with("of", end))
}
