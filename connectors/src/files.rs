//! Files as a source: text lines, CSV and JSON lines, in one file or a directory of them.
//!
//! The source cuts its input into *splits*, byte ranges of files, which subtasks read independently. A line
//! belongs to the split in which its first byte lies (Hadoop's rule), so exactly one split reads it wherever
//! the cuts fall. The position of a split is the offset of its next line. After a rescale the source deals
//! the unfinished splits out again one by one, in the order of file names and offsets; each subtask reads its
//! splits in that order, so event times rise for it as they do in the files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Batch, Error, ErrorKind, Result};

mod bad;
mod counts;
mod csv;
mod encoding;
mod header;
mod json;
mod listing;
mod quotes;
mod reader;
mod split;
mod text;

pub use bad::{BadRecord, DeadLetter, LetterDecoder, OnBadRecord, WithDeadLetters};
pub use csv::CsvFiles;
pub use json::JsonLines;
pub use text::TextLines;

pub use header::first_header;
pub use reader::Framing;
pub use split::Split;

use counts::BadCounts;
use listing::InputFile;
use reader::{LineCounter, MAX_RECORD, SplitReader};

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

/// A source over a file, or over the files of a directory in the order of their names.
///
/// It leaves out directories, and names that start with `.` or `_`. It lists the input once, before the first
/// subtask opens. When it restores a checkpoint, it also reads files that are new since then and lines that
/// were appended; a file that vanished or shrank is an error.
#[derive(Clone)]
pub struct FileSource<F> {
    format: F,
    path: PathBuf,
    split_size: u64,
    max_record: usize,
    on_bad_record: OnBadRecord,
    listing: Arc<OnceLock<Vec<InputFile>>>,
    bad: Arc<BadCounts>,
}

impl<F: FileFormat> FileSource<F> {
    /// The size of a split unless [set](Self::split_size): 16 MiB.
    pub const DEFAULT_SPLIT_SIZE: u64 = 16 << 20;

    /// The greatest length of a record unless [set](Self::max_record): 64 MiB.
    pub const DEFAULT_MAX_RECORD: usize = MAX_RECORD;

    /// A source over `path`, a file or a directory.
    pub fn new(path: impl Into<PathBuf>, format: F) -> Self {
        Self {
            format,
            path: path.into(),
            split_size: Self::DEFAULT_SPLIT_SIZE,
            max_record: MAX_RECORD,
            on_bad_record: OnBadRecord::Fail,
            listing: Arc::default(),
            bad: Arc::default(),
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
        self.bad.count()
    }

    /// The place of the first one that this source object met, and what was wrong with it.
    pub fn first_bad_record(&self) -> Option<String> {
        self.bad.first()
    }

    fn listing(&self) -> Result<&[InputFile]> {
        if let Some(files) = self.listing.get() {
            return Ok(files);
        }
        let files = listing::list(&self.path)?;
        Ok(self.listing.get_or_init(|| files))
    }

    fn folder(&self) -> &Path {
        if self.path.is_dir() { &self.path } else { self.path.parent().unwrap_or(Path::new("")) }
    }
}

impl<F: FileFormat> SourceFactory for FileSource<F> {
    type Source = FileSubtask<F>;

    fn open(&self, context: SourceContext<Split>) -> Result<FileSubtask<F>> {
        let split_size = match self.format.framing() {
            Framing::Lines | Framing::QuotedLines { .. } => self.split_size,
            Framing::Quoted { .. } => u64::MAX,
        };
        let splits = match context.restored {
            None => split::plan(self.listing()?, split_size),
            Some(splits) => split::resume(self.folder(), self.listing()?, split_size, splits)?,
        };
        let splits = split::share(splits, context.subtask, context.parallelism);
        let skipped = splits.iter().map(|split| split.skipped).sum();
        self.bad.restart(context.subtask, context.parallelism, skipped);
        Ok(FileSubtask {
            folder: self.folder().to_owned(),
            source: self.clone(),
            subtask: context.subtask,
            splits,
            current: 0,
            open: None,
            lines: LineCounter::default(),
        })
    }
}

/// One subtask of a [`FileSource`].
pub struct FileSubtask<F: FileFormat> {
    source: FileSource<F>,
    folder: PathBuf,
    subtask: u32,
    splits: Vec<Split>,
    current: usize,
    open: Option<(SplitReader, F::Decoder)>,
    lines: LineCounter,
}

impl<F: FileFormat> FileSubtask<F> {
    fn open_split(&self, split: &Split) -> Result<(SplitReader, F::Decoder)> {
        let path = self.folder.join(&split.file);
        let (format, max_record) = (&self.source.format, self.source.max_record);
        if split.offset == 0 {
            encoding::check(&path)?;
        }
        let mut header = Vec::new();
        let mut after_header = 0;
        if format.has_header() {
            let mut reader = SplitReader::open(&path, format.framing(), max_record, (0, 0, u64::MAX))?;
            if let Some((_, record)) = reader.next()? {
                header.extend_from_slice(record);
            }
            after_header = reader.offset();
        }
        let decoder = format
            .decoder(&header)
            .map_err(|message| Error::invalid(message).with("file", path.display()))?;
        let (start, end) = (split.start.max(after_header.min(split.end)), split.end);
        let bounds = (start, split.offset.max(start), end);
        let reader = SplitReader::open(&path, format.framing(), max_record, bounds)?;
        Ok((reader, decoder))
    }

    /// A record of the current split that begins at `offset` cannot be decoded.
    #[cold]
    fn bad_record(&mut self, offset: u64, bad: BadRecord, output: &mut Batch<F::Record>) -> Result<()> {
        let Some(split) = self.splits.get_mut(self.current) else { return Ok(()) };
        let Some((reader, decoder)) = &mut self.open else { return Ok(()) };
        let path = self.folder.join(&split.file);
        let what = self.source.on_bad_record;
        let over_lines = bad.open_quote && reader.skip_open_field()?;
        let bad = if over_lines { bad.over_lines() } else { bad };
        let count = &self.source.bad;
        if what == OnBadRecord::Skip && count.has_first() {
            split.skipped += 1;
            count.add(self.subtask, String::new);
            return Ok(());
        }
        let line = self.lines.line(&path, offset);
        let located = || {
            let mut error = Error::new(ErrorKind::Invalid, bad.to_string());
            error = error.with("file", path.display());
            if let Some(line) = line {
                error = error.with("line", line);
            }
            if let Some(column) = bad.column() {
                error = error.with("column", column);
            }
            error.with("byte", offset)
        };
        let letter = |raw| DeadLetter {
            file: path.display().to_string(),
            line: line.unwrap_or(0),
            byte: offset,
            column: bad.column().map(str::to_owned),
            reason: bad.reason().to_owned(),
            record: raw,
        };
        match what {
            OnBadRecord::Fail => return Err(located()),
            OnBadRecord::Skip => {}
            OnBadRecord::Keep => {
                let raw = bad::raw_record(&path, offset, reader.offset())?;
                output.push(decoder.dead_letter(letter(raw)).ok_or_else(located)?, None);
            }
        }
        split.skipped += 1;
        count.add(self.subtask, || located().to_string());
        Ok(())
    }
}

impl<F: FileFormat> Source for FileSubtask<F> {
    type Out = F::Record;
    type Position = Split;

    fn poll(&mut self, max: usize, output: &mut Batch<F::Record>) -> Result<SourceStatus> {
        for _ in 0..max {
            let Some(split) = self.splits.get(self.current) else { return Ok(SourceStatus::End) };
            if self.open.is_none() {
                if split.is_finished() {
                    self.current += 1;
                    continue;
                }
                self.open = Some(self.open_split(split)?);
            }
            let Some((reader, decoder)) = &mut self.open else { continue };
            let Some((offset, record)) = reader.next()? else {
                let offset = reader.offset();
                self.open = None;
                if let Some(split) = self.splits.get_mut(self.current) {
                    split.offset = offset.max(split.end);
                }
                self.current += 1;
                continue;
            };
            let decoded = match record.len() <= self.source.max_record {
                true => decoder.decode(record, output),
                false => Err(bad::too_long(self.source.max_record)),
            };
            if let Err(bad) = decoded {
                self.bad_record(offset, bad, output)?;
            }
        }
        Ok(if self.current < self.splits.len() { SourceStatus::More } else { SourceStatus::End })
    }

    fn positions(&self) -> Result<Vec<Split>> {
        let mut splits = self.splits.clone();
        if let (Some((reader, _)), Some(current)) = (&self.open, splits.get_mut(self.current)) {
            current.offset = reader.offset();
        }
        Ok(splits)
    }
}

impl<F> fmt::Debug for FileSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("path", &self.path).field("split_size", &self.split_size).finish()
    }
}

impl<F: FileFormat> fmt::Debug for FileSubtask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSubtask")
            .field("subtask", &self.subtask)
            .field("splits", &self.splits.len())
            .field("current", &self.current)
            .finish()
    }
}

#[cfg(test)]
mod tests;
