//! Results in files, each exactly once.
//!
//! A subtask writes to a hidden temporary file. At a barrier (phase one) the file is made durable and closed, and the
//! checkpoint takes note of its name; when the checkpoint is complete (phase two) it is renamed, which makes it visible at
//! once and whole. After a crash exactly the files that the restored checkpoint names are made visible, visible files
//! of later checkpoints and all other temporary files are removed: what they held is produced again. So finished
//! files hold each result once, whatever died when; only what stands in files of this sink's own naming is ever touched.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use strandline_runtime::sink::{Sink, SinkContext, SinkFactory};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Output, Result};

mod committable;
mod format;
mod naming;
mod recovery;

pub use format::{CsvRows, JsonRows, WriteRecords};

use committable::Committable;
use naming::Naming;

/// Where a [`FileSink`] writes.
#[derive(Clone, Debug)]
pub struct FileSinkConfig {
    /// The directory of the files; made when it is missing. A new job wants it empty.
    pub directory: PathBuf,
    /// What all file names begin with.
    pub prefix: String,
}

impl FileSinkConfig {
    /// Files that begin with `part` in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), prefix: "part".into() }
    }
}

/// A sink that writes files, one for each checkpoint and subtask that had records:
/// `<prefix>-<checkpoint>-<subtask>-<attempt>.<extension>`.
pub struct FileSink<T, W> {
    config: FileSinkConfig,
    format: W,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> FileSink<T, W> {
    /// Files in this format.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the prefix is not 1 to 100 letters, digits, `_` or `-`.
    pub fn new(config: FileSinkConfig, format: W) -> Result<Self> {
        naming::check(&config.prefix, "the prefix of output files")?;
        Ok(Self { config, format, records: PhantomData })
    }

    fn naming(&self) -> Naming<'_> {
        Naming { prefix: &self.config.prefix, extension: self.format.extension() }
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> SinkFactory for FileSink<T, W> {
    type Sink = FileSinkSubtask<T, W>;

    fn open(&self, context: SinkContext) -> Result<FileSinkSubtask<T, W>> {
        naming::check(&context.attempt, "the attempt")?;
        Ok(FileSinkSubtask {
            config: self.config.clone(),
            format: self.format.clone(),
            context: SinkContext { restored: Vec::new(), ..context },
            opened: 0,
            current: None,
            pending: Vec::new(),
            committed: Totals::default(),
            records: PhantomData,
        })
    }

    fn recover(&self, checkpoint: Option<CheckpointId>, elements: &[Vec<u8>]) -> Result<()> {
        recovery::recover(&self.config.directory, self.naming(), checkpoint, elements)
    }

    fn summarize(&self, summaries: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
        let mut sums = BTreeMap::<String, u64>::new();
        for (name, value) in summaries.iter().flatten() {
            *sums.entry(name.clone()).or_default() += value.parse::<u64>().unwrap_or(0);
        }
        sums.into_iter().map(|(name, sum)| (name, sum.to_string())).collect()
    }
}

/// What has been made visible.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    files: u64,
    records: u64,
    bytes: u64,
}

/// A temporary file that is being written.
#[derive(Debug)]
struct OpenFile {
    name: String,
    file: File,
    written: u64,
    records: u64,
    buffer: Vec<u8>,
}

/// This much is collected before it is written.
const BUFFER: usize = 128 << 10;

/// One subtask of a [`FileSink`].
pub struct FileSinkSubtask<T, W> {
    config: FileSinkConfig,
    format: W,
    context: SinkContext,
    opened: u64,
    current: Option<OpenFile>,
    pending: Vec<Committable>,
    committed: Totals,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> FileSinkSubtask<T, W> {
    fn naming(&self) -> Naming<'_> {
        Naming { prefix: &self.config.prefix, extension: self.format.extension() }
    }

    fn open_file(&mut self) -> Result<OpenFile> {
        let name = self.naming().temporary(&self.context.attempt, self.context.subtask, self.opened);
        self.opened += 1;
        let path = self.config.directory.join(&name);
        let file = File::create_new(&path).map_err(|e| failed("created", &path, e))?;
        let mut buffer = Vec::with_capacity(BUFFER + (BUFFER >> 2));
        self.format.header(&mut buffer);
        Ok(OpenFile { name, file, written: 0, records: 0, buffer })
    }
}

impl OpenFile {
    fn flush(&mut self, directory: &Path) -> Result<()> {
        let written = self.file.write_all(&self.buffer);
        written.map_err(|e| failed("written", &directory.join(&self.name), e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> Sink for FileSinkSubtask<T, W> {
    type In = T;

    fn write(&mut self, batch: &mut Output<T>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut open = match self.current.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        for record in batch.records.drain(..) {
            self.format.write(&record, &mut open.buffer).map_err(|message| {
                Error::new(ErrorKind::User, message).with("directory", self.config.directory.display())
            })?;
            open.records += 1;
            if open.buffer.len() >= BUFFER {
                open.flush(&self.config.directory)?;
            }
        }
        batch.clear();
        self.current = Some(open);
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>> {
        if let Some(mut open) = self.current.take() {
            open.flush(&self.config.directory)?;
            let path = self.config.directory.join(&open.name);
            open.file.sync_all().map_err(|e| failed("synced", &path, e))?;
            // The checkpoint relies on the name too.
            sync_directory(&self.config.directory)?;
            let name = self.naming().visible(checkpoint, self.context.subtask, &self.context.attempt);
            self.pending.push(Committable {
                temporary: open.name,
                name,
                checkpoint,
                bytes: open.written,
                records: open.records,
            });
        }
        self.pending.iter().map(Committable::encode).collect()
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if !self.pending.iter().any(|file| file.checkpoint <= checkpoint) {
            return Ok(());
        }
        for file in self.pending.iter().filter(|file| file.checkpoint <= checkpoint) {
            file.commit(&self.config.directory)?;
        }
        sync_directory(&self.config.directory)?;
        for file in self.pending.extract_if(.., |file| file.checkpoint <= checkpoint) {
            self.committed.files += 1;
            self.committed.records += file.records;
            self.committed.bytes += file.bytes;
        }
        Ok(())
    }

    fn summary(&self) -> BTreeMap<String, String> {
        let Totals { files, records, bytes } = self.committed;
        let numbers = [("files", files), ("records", records), ("bytes", bytes)];
        numbers.into_iter().map(|(name, number)| (name.to_owned(), number.to_string())).collect()
    }
}

fn failed(what: &str, path: &Path, e: std::io::Error) -> Error {
    let message = format!("an output file cannot be {what}");
    Error::new(ErrorKind::Unavailable, message).with("file", path.display()).caused_by(e)
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("synced", directory, e))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("removed", path, e)),
        _ => Ok(()),
    }
}

impl<T, W: fmt::Debug> fmt::Debug for FileSink<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("config", &self.config).field("format", &self.format).finish()
    }
}

impl<T, W: fmt::Debug> fmt::Debug for FileSinkSubtask<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSinkSubtask")
            .field("directory", &self.config.directory)
            .field("subtask", &self.context.subtask)
            .field("current", &self.current.as_ref().map(|open| &open.name))
            .field("pending", &self.pending)
            .finish()
    }
}

#[cfg(test)]
mod tests;
