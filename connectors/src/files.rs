//! Files as a source: text lines, CSV and JSON lines, in one file or a directory of them.
//!
//! The input is cut into *splits*, byte ranges of files, that subtasks read independently. A line belongs to the split in
//! which its first byte lies (Hadoop's rule), so every line is read once wherever the cuts fall. The position of a split is
//! the offset of its next line. After a rescale the unfinished splits, in the order of file names and offsets, are dealt
//! out again one by one; each subtask reads its splits in that order, so event times rise for it as they do in the files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Error, ErrorKind, Output, Result};

mod csv;
mod json;
mod listing;
mod reader;
mod split;
mod text;

pub use csv::CsvFiles;
pub use json::JsonLines;
pub use text::TextLines;

pub use listing::first_header;
pub use reader::Framing;

use listing::InputFile;
use reader::SplitReader;
use split::Split;

/// How the records of a file look: what a format implements to be read by [`FileSource`].
pub trait FileFormat: Clone + Send + Sync + 'static {
    /// The records.
    type Record: Send + 'static;
    /// What decodes the records of one file.
    type Decoder: Decode<Self::Record>;

    /// Where a record ends.
    fn framing(&self) -> Framing;

    /// Whether the first record of each file names the columns.
    fn has_header(&self) -> bool {
        false
    }

    /// The decoder for a file with this first record (empty where the format [has no header](Self::has_header)).
    ///
    /// # Errors
    /// What is wrong with the header, as one sentence.
    fn decoder(&self, header: &[u8]) -> Result<Self::Decoder, String>;
}

/// Decodes the records of one file.
pub trait Decode<T>: Send {
    /// Decodes one record, given without its line end, and pushes what it holds: one record, or none for a blank line.
    ///
    /// # Errors
    /// What was expected and what was found, as one sentence; nothing may have been pushed then.
    fn decode(&mut self, record: &[u8], output: &mut Output<T>) -> Result<(), String>;
}

/// What happens to a record that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job fails with an error that names file and line.
    #[default]
    Fail,
    /// It is left out and [counted](FileSource::skipped).
    Skip,
}

/// A source over a file, or over the files of a directory in the order of their names.
///
/// Names that start with `.` or `_` are left out, and so are directories. The input is listed once, before the first
/// subtask opens. When a checkpoint is restored, files that are new since then are read too, and so are lines that were
/// appended; a file that vanished or shrank is an error.
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

    /// Sets the size of a split in bytes (at least 1). A format whose records may cross lines is not split.
    #[must_use]
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = bytes.max(1);
        self
    }

    /// Sets what happens to records that cannot be decoded.
    #[must_use]
    pub fn on_bad_record(mut self, what: OnBadRecord) -> Self {
        self.on_bad_record = what;
        self
    }

    /// How many records were left out so far, those before a restored checkpoint included.
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

    fn open(&self, context: SourceContext) -> Result<FileSubtask<F>> {
        let split_size = match self.format.framing() {
            Framing::Lines => self.split_size,
            Framing::Quoted { .. } => u64::MAX,
        };
        let splits = match &context.restored {
            None => split::plan(self.listing()?, split_size),
            Some(positions) => split::resume(self.folder(), self.listing()?, split_size, positions)?,
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

    /// A record that cannot be decoded is an error, or is counted.
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

    fn poll(&mut self, max: usize, output: &mut Output<F::Record>) -> Result<SourceStatus> {
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

    fn positions(&self) -> Result<Vec<Vec<u8>>> {
        let reading = self.open.as_ref().map(|(reader, _)| reader.offset());
        let encode = |(i, split): (usize, &Split)| match reading {
            Some(offset) if i == self.current => Split { offset, ..split.clone() }.encode(),
            _ => split.encode(),
        };
        self.splits.iter().enumerate().map(encode).collect()
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
