//! Files as a source: text lines, CSV and JSON lines, in one file or a directory of them.
//!
//! The source cuts its input into *splits*, byte ranges of files, which subtasks read independently. A line
//! belongs to the split in which its first byte lies (Hadoop's rule), so exactly one split reads it wherever
//! the cuts fall. The position of a split is the offset of its next line. After a rescale the source deals
//! the unfinished splits out again one by one, in the [natural order](FileSource) of file names, and of
//! offsets.
//!
//! A subtask reads its splits in that order; with [event times](FileSource::event_time) it reads the slowest
//! first, so that its splits keep together as they would if one file held all their records in order.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strandline_runtime::source::{PlanContext, SourceContext, SourceFactory, Unread, Watermarks};
use strandline_state_api::{Batch, Error, ErrorKind, Result, Timestamp};

mod bad;
mod content;
mod counts;
mod csv;
mod encoding;
mod header;
mod identity;
mod inspect;
mod json;
mod listing;
mod packing;
mod place;
mod plan;
mod position;
mod quotes;
mod reader;
mod regex;
mod split;
mod stream;
mod subtask;
mod text;
mod watch;

pub use bad::{BadRecord, DeadLetter, LetterDecoder, OnBadRecord, WithDeadLetters};
pub use csv::CsvFiles;
pub use json::JsonLines;
pub use regex::RegexLines;
pub use text::TextLines;

pub use header::first_header;
pub use inspect::Inspection;
pub use place::InputPath;
pub use position::FilePosition;
pub use reader::Framing;
pub use subtask::FileSubtask;

use counts::BadCounts;
use plan::{Input, Plan, Share};
use reader::MAX_RECORD;
use stream::StreamReader;
use watch::{Change, Watcher};

/// The form of the records in a file. [`FileSource`] reads every format that implements it.
pub trait FileFormat: Clone + Send + Sync + 'static {
    /// The records.
    type Record: Send + 'static;
    /// The decoder of one file.
    type Decoder: Decode<Self::Record>;

    /// Where a record ends.
    fn framing(&self) -> Framing;

    /// Whether the first record of each file names the columns.
    fn has_header(&self) -> bool {
        false
    }

    /// What the positions of a source depend on, in words: where records end, and which of them are records. A
    /// source that resumes refuses positions of another layout.
    fn layout(&self) -> String {
        let header = if self.has_header() { ", the first of each file a header" } else { "" };
        match self.framing() {
            Framing::Lines | Framing::QuotedLines { .. } => format!("lines{header}"),
            Framing::Quoted { delimiter } => {
                format!("lines, or several where quoted, with {:?} between fields{header}", delimiter as char)
            }
        }
    }

    /// The decoder for a file with this first record (empty where the format [has no
    /// header](Self::has_header)).
    ///
    /// # Errors
    /// The mistake in the header, as one sentence.
    fn decoder(&self, header: &[u8]) -> Result<Self::Decoder, String>;
}

/// Decodes the records of one file.
pub trait Decode<T>: Send {
    /// Decodes the bytes of one record, without its line end, and pushes the record; a blank line pushes
    /// none.
    ///
    /// # Errors
    /// Why it is no record; then nothing may have been pushed.
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<T>) -> Result<(), BadRecord>;

    /// Makes a record of a dead letter, for [`OnBadRecord::Keep`]; `None` where the format has none.
    fn dead_letter(&self, _: DeadLetter) -> Option<T> {
        None
    }
}

/// What a source does where its input ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtEnd {
    /// The job finishes, and all results leave. The bytes behind the last line end of a file are a line.
    #[default]
    End,
    /// The job finishes for now: a later run reads files and lines that are new. The last line of a file waits
    /// until it has a line end, and windows wait for records of later runs.
    Follow,
    /// The job runs on, and looks for new files and lines. The last line of a file waits as in
    /// [`Follow`](Self::Follow).
    Watch {
        /// How often it looks.
        every: Duration,
    },
}

impl AtEnd {
    fn is_watch(self) -> bool {
        matches!(self, Self::Watch { .. })
    }
}

/// A source over a file, or over the files of a directory.
///
/// It leaves out directories, and names that start with `.` or `_`. It lists the input once, before the first
/// subtask opens, unless it [watches](AtEnd::Watch) it. Files have the natural order of their names: digits
/// that follow each other compare as one number (`day-2` before `day-10`), everything else byte by byte.
///
/// When it resumes, it also reads files that are new since the checkpoint, and lines that were appended. It
/// knows files by more than their names, so they may be
/// * archived: a file that was read whole may go, and come back under its name. To take away one that was not
///   read whole is an error;
/// * renamed: it finds the same file (inode and what was read of it) under the new name;
/// * not replaced: other content under the name of a file that was read, even in part, is an error.
///
/// It compares the first 4 KiB of a file, and the last 4 KiB before its position. Best put files into a
/// directory by an atomic rename, under a name that had no other content before.
pub struct FileSource<F: FileFormat> {
    format: F,
    path: InputPath,
    split_size: u64,
    max_record: usize,
    on_bad_record: OnBadRecord,
    at_end: AtEnd,
    moved_from: Option<String>,
    timing: Option<Timing<F::Record>>,
    shared: Arc<Shared>,
}

impl<F: FileFormat> Clone for FileSource<F> {
    fn clone(&self) -> Self {
        let Self { format, path, split_size, max_record, on_bad_record, at_end, moved_from, timing, shared } =
            self;
        Self {
            format: format.clone(),
            path: path.clone(),
            split_size: *split_size,
            max_record: *max_record,
            on_bad_record: *on_bad_record,
            at_end: *at_end,
            moved_from: moved_from.clone(),
            timing: timing.clone(),
            shared: Arc::clone(shared),
        }
    }
}

/// The event time of a record.
type TimeOf<T> = dyn Fn(&T) -> Option<Timestamp> + Send + Sync;

/// The event times of records.
struct Timing<T> {
    watermarks: Watermarks,
    time_of: Arc<TimeOf<T>>,
}

impl<T> Clone for Timing<T> {
    fn clone(&self) -> Self {
        Self { watermarks: self.watermarks, time_of: Arc::clone(&self.time_of) }
    }
}

/// What all subtasks of a source share.
#[derive(Debug, Default)]
struct Shared {
    planned: Mutex<Option<Planned>>,
    watcher: Mutex<Option<Watcher>>,
    bad: BadCounts,
    /// Whether the input is a stream that was begun.
    stream_begun: AtomicBool,
    /// The slowest time of each subtask: the least while it is not known, the greatest where it has nothing to
    /// read.
    slowest: Mutex<Vec<Timestamp>>,
}

/// A plan, and what it was made for.
#[derive(Debug)]
struct Planned {
    parallelism: u32,
    restored: Option<Vec<FilePosition>>,
    folder: InputPath,
    plan: Plan,
}

impl Shared {
    /// Sets the slowest time of a subtask, and returns that of all others; `None` while one is not known.
    fn slowest_other(&self, subtask: u32, own: Option<Timestamp>) -> Option<Timestamp> {
        let mut slowest = lock(&self.slowest);
        if let Some(known) = slowest.get_mut(subtask as usize) {
            *known = own.unwrap_or(Timestamp::MIN);
        }
        let others = slowest.iter().enumerate().filter(|(number, _)| *number != subtask as usize);
        let least = others.map(|(_, time)| *time).min().unwrap_or(Timestamp::MAX);
        (least > Timestamp::MIN).then_some(least)
    }

    /// Notes that a subtask has nothing to read.
    fn leave(&self, subtask: u32) {
        if let Some(known) = lock(&self.slowest).get_mut(subtask as usize) {
            *known = Timestamp::MAX;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: FileFormat> FileSource<F> {
    /// The size of a split unless [set](Self::split_size): 16 MiB.
    pub const DEFAULT_SPLIT_SIZE: u64 = 16 << 20;

    /// The greatest length of a record unless [set](Self::max_record): 64 MiB.
    pub const DEFAULT_MAX_RECORD: usize = MAX_RECORD;

    /// A source over `path`, a file or a directory; `-` is standard input.
    ///
    /// Standard input, pipes and devices are streams, which are read once. A job that resumes needs the same
    /// stream again from its beginning: the source skips what the checkpoint has, and compares the content
    /// before the position. After a failure within the process such a job ends, because nobody can give it
    /// the stream again.
    pub fn new(path: impl Into<InputPath>, format: F) -> Self {
        Self {
            format,
            path: path.into(),
            split_size: Self::DEFAULT_SPLIT_SIZE,
            max_record: MAX_RECORD,
            on_bad_record: OnBadRecord::Fail,
            at_end: AtEnd::End,
            moved_from: None,
            timing: None,
            shared: Arc::default(),
        }
    }

    /// Sets the size of a split in bytes (at least 1). Where records may cross lines, a file is one split.
    #[must_use]
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = bytes.max(1);
        self
    }

    /// Sets the greatest length of a record in bytes, without its line end; the default is 64 MiB. A longer
    /// one is a bad record. A subtask holds about as much in memory when it meets one.
    #[must_use]
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes.max(1);
        self
    }

    /// Sets what happens to records that cannot be decoded.
    #[must_use]
    pub fn on_bad_record(mut self, what: OnBadRecord) -> Self {
        self.on_bad_record = what;
        self
    }

    /// How many records could not be decoded so far and were left out or kept as dead letters, those before a
    /// restored checkpoint included.
    pub fn bad_records(&self) -> u64 {
        self.shared.bad.count()
    }

    /// The place of the first one that this source object met, and what was wrong with it.
    pub fn first_bad_record(&self) -> Option<String> {
        self.shared.bad.first()
    }

    /// Sets what the source does where its input ends.
    #[must_use]
    pub fn at_end(mut self, what: AtEnd) -> Self {
        self.at_end = what;
        self
    }

    /// Sets where the input was before it moved to the path of the source. A source that resumes and finds
    /// none of the files that its checkpoint knows refuses another path than that of the checkpoint
    /// otherwise.
    #[must_use]
    pub fn moved_from(mut self, path: Option<InputPath>) -> Self {
        self.moved_from = path.map(|path| path.display().to_string());
        self
    }

    /// Sets the event time of every record to what `time` returns, unless its decoder has set one, and
    /// announces [`Watermarks`]; a [`Duration`] is how far they stay behind.
    ///
    /// Each split has its own greatest time, which is part of its position. The watermark of a subtask is that
    /// of its slowest split, and it reads the slowest first: so it opens every split once at the beginning for
    /// the time of its first record. Where the records of each file are in order, to within the delay, none is
    /// late, at any parallelism and over every rescale.
    #[must_use]
    pub fn event_time<I: Into<Option<Timestamp>> + 'static>(
        mut self,
        watermarks: impl Into<Watermarks>,
        time: impl Fn(&F::Record) -> I + Send + Sync + 'static,
    ) -> Self {
        let time_of = Arc::new(move |record: &F::Record| time(record).into());
        self.timing = Some(Timing { watermarks: watermarks.into(), time_of });
        self
    }

    fn folder(&self) -> Result<InputPath> {
        Ok(if self.path.is_dir()? { self.path.clone() } else { self.path.parent() })
    }

    fn make_plan(
        &self,
        folder: &InputPath,
        parallelism: u32,
        restored: Option<&[FilePosition]>,
        ended: bool,
    ) -> Result<Plan> {
        let any_line = !matches!(self.format.framing(), Framing::Quoted { .. });
        let layout = self.format.layout();
        let path = self.path.display().to_string();
        let input = Input {
            folder,
            path: &path,
            moved_from: self.moved_from.as_deref(),
            layout: &layout,
            split_size: if any_line { self.split_size } else { u64::MAX },
            any_line,
            parallelism,
            ended,
        };
        if self.path.is_stream() {
            return self.plan_stream(input, restored);
        }
        let may_be_empty = self.at_end.is_watch() || restored.is_some();
        let list = || if may_be_empty { listing::list_any(&self.path) } else { listing::list(&self.path) };
        match restored {
            None => Plan::new(input, &list()?),
            Some(restored) if ended && self.at_end == AtEnd::End => {
                // There is nothing to do, whatever has become of the input.
                Plan::ended(input, &list().unwrap_or_default(), restored)
            }
            Some(restored) => {
                let mut plan = Plan::resume(input, list()?, restored)?;
                if self.at_end.is_watch() {
                    plan.unread = Unread::Read;
                }
                Ok(plan)
            }
        }
    }

    fn plan_stream(&self, input: Input<'_>, restored: Option<&[FilePosition]>) -> Result<Plan> {
        let name = self.path.file_name().unwrap_or(place::STDIN);
        if self.at_end != AtEnd::End {
            let message =
                "the input is a stream, and the job ends with it: a stream is not followed or watched";
            return Err(Error::new(ErrorKind::Unsupported, message).with("file", self.path.display()));
        }
        Plan::stream(input, name, restored)
    }

    /// Begins to read a stream, unless this process has read it before.
    fn begin_stream(&self) -> Result<StreamReader> {
        if self.shared.stream_begun.swap(true, Ordering::Relaxed) {
            return Err(stream::read_before(&self.path));
        }
        StreamReader::start(&self.path)
    }

    /// Begins to watch the input beside what the plan knows.
    fn begin_to_watch(&self, plan: &Plan) {
        let AtEnd::Watch { every } = self.at_end else { return };
        let mut watcher = Watcher::new(every, Instant::now(), plan.shares.len());
        for (owner, share) in plan.shares.iter().enumerate() {
            for split in &share.splits {
                watcher.know(&split.file, split.end, split.stamp, owner);
            }
            for file in share.done.values() {
                watcher.know(&file.name, file.len, file.stamp, owner);
            }
        }
        *lock(&self.shared.watcher) = Some(watcher);
    }

    /// What has changed in the input for a subtask.
    fn changes(&self, subtask: u32) -> Result<Vec<Change>> {
        match &mut *lock(&self.shared.watcher) {
            Some(watcher) => watcher.changes(&self.path, Instant::now(), subtask),
            None => Ok(Vec::new()),
        }
    }
}

impl<F: FileFormat> SourceFactory for FileSource<F> {
    type Source = FileSubtask<F>;

    fn plan(&self, context: PlanContext<FilePosition>) -> Result<Unread> {
        let PlanContext { parallelism, restored, ended, finished } = context;
        let folder = self.folder()?;
        let mut plan = self.make_plan(&folder, parallelism, restored.as_deref(), ended)?;
        if ended && !finished && self.at_end == AtEnd::Follow {
            // It ends this run as it ended the one before, with its event time where it is.
            plan.unread = Unread::Read;
        }
        let unread = plan.unread.clone();
        self.begin_to_watch(&plan);
        *lock(&self.shared.slowest) = vec![Timestamp::MIN; parallelism as usize];
        *lock(&self.shared.planned) = Some(Planned { parallelism, restored, folder, plan });
        Ok(unread)
    }

    fn open(&self, context: SourceContext<FilePosition>) -> Result<FileSubtask<F>> {
        let SourceContext { subtask, parallelism, restored } = context;
        let is_planned = lock(&self.shared.planned)
            .as_ref()
            .is_some_and(|known| known.parallelism == parallelism && known.restored == restored);
        if !is_planned {
            self.plan(PlanContext { parallelism, restored, ended: false, finished: false })?;
        }
        let (folder, share, begin) = match &*lock(&self.shared.planned) {
            Some(Planned { folder, plan, .. }) => {
                let share = plan.shares.get(subtask as usize).cloned().unwrap_or_default();
                (folder.clone(), share, plan.begin)
            }
            None => (self.folder()?, Share::default(), i64::MIN),
        };
        let skipped = share.skipped + share.splits.iter().map(|split| split.skipped).sum::<u64>();
        self.shared.bad.restart(subtask, parallelism, skipped);
        Ok(FileSubtask::new(self.clone(), folder, subtask, parallelism, share, begin))
    }
}

impl<F: FileFormat> fmt::Debug for FileSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("path", &self.path)
            .field("split_size", &self.split_size)
            .field("at_end", &self.at_end)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
