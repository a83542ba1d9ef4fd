//! Files as a source: text lines, CSV and JSON lines, in one file or a directory of them.
//!
//! The source cuts its input into *splits*, byte ranges of files, which subtasks read independently. A line
//! belongs to the split in which its first byte lies (Hadoop's rule), so exactly one split reads it wherever
//! the cuts fall. The position of a split is the offset of its next line. After a rescale the source deals
//! the unfinished splits out again one by one, in the order of file names and offsets; each subtask reads its
//! splits in that order, so event times rise for it as they do in the files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Batch, Error, ErrorKind, Result};

mod csv;
mod header;
mod json;
mod listing;
mod reader;
mod split;
mod text;

pub use csv::CsvFiles;
pub use json::JsonLines;
pub use text::TextLines;

pub use header::first_header;
pub use reader::Framing;
pub use split::Split;

use listing::InputFile;
use reader::SplitReader;

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
    /// One sentence with the expected and the found; then nothing may have been pushed.
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<T>) -> Result<(), String>;
}

/// The treatment of records that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job fails with an error that names file and line.
    #[default]
    Fail,
    /// The source leaves it out and [counts](FileSource::skipped) it.
    Skip,
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
    on_bad_record: OnBadRecord,
    listing: Arc<OnceLock<Vec<InputFile>>>,
    skipped: Arc<Mutex<BTreeMap<u32, u64>>>,
}

impl<F: FileFormat> FileSource<F> {
    /// The size of a split unless [set](Self::split_size): 16 MiB.
    pub const DEFAULT_SPLIT_SIZE: u64 = 16 << 20;

    /// A source over `path`, a file or a directory.
    pub fn new(path: impl Into<PathBuf>, format: F) -> Self {
        Self {
            format,
            path: path.into(),
            split_size: Self::DEFAULT_SPLIT_SIZE,
            on_bad_record: OnBadRecord::Fail,
            listing: Arc::default(),
            skipped: Arc::default(),
        }
    }

    /// Sets the size of a split in bytes (at least 1). Where records may cross lines, a file is one split.
    #[must_use]
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = bytes.max(1);
        self
    }

    /// Sets the treatment of records that cannot be decoded.
    #[must_use]
    pub fn on_bad_record(mut self, what: OnBadRecord) -> Self {
        self.on_bad_record = what;
        self
    }

    /// How many records the source has left out so far, those before a restored checkpoint included.
    pub fn skipped(&self) -> u64 {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
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
            Framing::Lines => self.split_size,
            Framing::Quoted { .. } => u64::MAX,
        };
        let splits = match context.restored {
            None => split::plan(self.listing()?, split_size),
            Some(splits) => split::resume(self.folder(), self.listing()?, split_size, splits)?,
        };
        let splits = split::share(splits, context.subtask, context.parallelism);
        let skipped = splits.iter().map(|split| split.skipped).sum();
        let mut all = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|&subtask, _| subtask < context.parallelism);
        all.insert(context.subtask, skipped);
        drop(all);
        Ok(FileSubtask {
            folder: self.folder().to_owned(),
            source: self.clone(),
            subtask: context.subtask,
            splits,
            current: 0,
            open: None,
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
}

impl<F: FileFormat> FileSubtask<F> {
    fn open_split(&self, split: &Split) -> Result<(SplitReader, F::Decoder)> {
        let path = self.folder.join(&split.file);
        let format = &self.source.format;
        let mut header = Vec::new();
        let mut after_header = 0;
        if format.has_header() {
            let mut reader = SplitReader::open(&path, format.framing(), 0, 0, u64::MAX)?;
            if let Some((_, record)) = reader.next()? {
                header.extend_from_slice(record);
            }
            after_header = reader.offset();
        }
        let decoder = format
            .decoder(&header)
            .map_err(|message| Error::invalid(message).with("file", path.display()))?;
        let (start, end) = (split.start.max(after_header.min(split.end)), split.end);
        let reader = SplitReader::open(&path, format.framing(), start, split.offset.max(start), end)?;
        Ok((reader, decoder))
    }

    /// Fails for a record that cannot be decoded, or counts it.
    fn bad_record(&mut self, offset: u64, message: String) -> Result<()> {
        let Some(split) = self.splits.get_mut(self.current) else { return Ok(()) };
        let path = self.folder.join(&split.file);
        match self.source.on_bad_record {
            OnBadRecord::Fail => {
                let mut error = Error::new(ErrorKind::Invalid, message).with("file", path.display());
                if let Some(line) = reader::line_number(&path, offset) {
                    error = error.with("line", line);
                }
                Err(error.with("byte", offset))
            }
            OnBadRecord::Skip => {
                split.skipped += 1;
                tracing::debug!(file = %path.display(), byte = offset, "skipped a bad record: {message}");
                let mut all = self.source.skipped.lock().unwrap_or_else(PoisonError::into_inner);
                *all.entry(self.subtask).or_default() += 1;
                Ok(())
            }
        }
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
            let decoded = decoder.decode(record, output);
            if let Err(message) = decoded {
                self.bad_record(offset, message)?;
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
