//! Results in files, each exactly once.
//!
//! A subtask writes to a hidden temporary file. At a barrier (phase one) it makes the file durable and closes
//! it, and the checkpoint stores the file's name; when the checkpoint is complete (phase two), the subtask
//! renames the file, which makes it visible at once and whole. After a crash the sink makes exactly the files
//! visible that the restored checkpoint names. So finished files hold each result once, whichever process
//! died when.
//!
//! The name of each file carries the term of the attempt that wrote it, and the sink removes only files that
//! the commit log shows to be [dead](strandline_runtime::sink::DeadOutputs). So a process that was held, and
//! wakes when its successor has long taken over, takes nothing from it. Where an attempt resumes from an
//! older checkpoint, visible files of later ones stay until its own first checkpoint is complete. The sink
//! touches no file whose name is not of its own making.
//!
//! The directory belongs to one job, which a hidden file in it names: another job, or the same one with a
//! copy of its checkpoints, is refused before it removes anything. Finished files belong to whoever reads
//! them: one that is gone was taken, and the job goes on.
//!
//! Results can be objects in a store, too ([`OutputPath::in_store`]). There a file is an upload in parts, which is
//! completed where a file on a disk is renamed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_runtime::sink::{
    DeadOutputs, Figure, JobIdentity, Sink, SinkContext, SinkFactory, SinkRecovery, Summary, Term,
};
use strandline_state_api::{Batch, CheckpointId, Error, ErrorKind, Result};

mod committable;
mod format;
mod naming;
mod output;
mod owner;
mod recovery;

pub use committable::PendingFile;
pub use format::{CsvRows, JsonRows, WriteRecords};

use naming::Naming;
use output::{Output, Writing};
pub use output::{OutputPath, check_writable};
use owner::{Claimed, Place};

/// Where a [`FileSink`] writes.
#[derive(Clone, Debug)]
pub struct FileSinkConfig {
    /// The directory of the files, or a prefix in an object store. The sink creates it where it is missing; a
    /// new job wants no results there.
    pub directory: OutputPath,
    /// The beginning of all file names.
    pub prefix: String,
}

impl FileSinkConfig {
    /// Files that begin with `part` in `directory`.
    pub fn new(directory: impl Into<OutputPath>) -> Self {
        Self { directory: directory.into(), prefix: "part".into() }
    }
}

/// A sink that writes files, one for each checkpoint and subtask that had records:
/// `<prefix>-t<term>-<checkpoint>-<subtask>-<attempt>.<extension>`.
pub struct FileSink<T, W> {
    config: FileSinkConfig,
    format: W,
    claimed: Arc<Claimed>,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> FileSink<T, W> {
    /// Files in this format.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the prefix is not 1 to 100 letters, digits, `_` or `-`.
    pub fn new(config: FileSinkConfig, format: W) -> Result<Self> {
        naming::check(&config.prefix, "the prefix of output files")?;
        Ok(Self { config, format, claimed: Arc::default(), records: PhantomData })
    }

    /// Looks at the directory without a change: whether it is another job's, or cannot be written, or, for a
    /// `new` job, whether results are in the way.
    ///
    /// # Errors
    /// What would keep the job from starting.
    pub fn inspect(&self, job: &JobIdentity, new: bool) -> Result<()> {
        recovery::inspect(self.config.directory.place(), self.naming(), job, new)
    }

    fn naming(&self) -> Naming<'_> {
        Naming { prefix: &self.config.prefix, extension: self.format.extension() }
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> SinkFactory for FileSink<T, W> {
    type Sink = FileSinkSubtask<T, W>;

    fn open(&self, context: SinkContext<PendingFile>) -> Result<FileSinkSubtask<T, W>> {
        naming::check(&context.attempt, "the attempt")?;
        Ok(FileSinkSubtask {
            config: self.config.clone(),
            format: self.format.clone(),
            claimed: Arc::clone(&self.claimed),
            subtask: context.subtask,
            term: context.term,
            attempt: context.attempt,
            opened: 0,
            next: self.claimed.next_checkpoint(),
            current: None,
            pending: Vec::new(),
            committed: FileSinkSummary::default(),
            records: PhantomData,
        })
    }

    fn recover(&self, recovery: &SinkRecovery<'_, PendingFile>) -> Result<()> {
        recovery::recover(self.config.directory.place(), self.naming(), &self.claimed, recovery)
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        let (output, naming) = (self.config.directory.place(), self.naming());
        self.claimed.check(Place { output, naming })?;
        recovery::sweep(output, naming, dead, true)
    }
}

/// What a [`FileSink`] has made visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSinkSummary {
    /// How many files.
    pub files: u64,
    /// How many records they hold.
    pub records: u64,
    /// How long they are, all together.
    pub bytes: u64,
}

impl Summary for FileSinkSummary {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.records += other.records;
        self.bytes += other.bytes;
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::bytes("bytes", self.bytes),
            Figure::count("files", self.files),
            Figure::count("records", self.records),
        ]
    }
}

/// The temporary file that a subtask writes to.
#[derive(Debug)]
struct OpenFile {
    waiting: String,
    visible: String,
    file: Box<dyn Writing>,
    written: u64,
    records: u64,
    buffer: Vec<u8>,
}

/// A file is written in pieces of this many bytes.
const BUFFER: usize = 128 << 10;

/// One subtask of a [`FileSink`].
pub struct FileSinkSubtask<T, W> {
    config: FileSinkConfig,
    format: W,
    claimed: Arc<Claimed>,
    subtask: u32,
    term: Term,
    attempt: String,
    opened: u64,
    /// The lowest number that the next checkpoint can have.
    next: CheckpointId,
    current: Option<OpenFile>,
    pending: Vec<PendingFile>,
    committed: FileSinkSummary,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> FileSinkSubtask<T, W> {
    fn naming(&self) -> Naming<'_> {
        Naming { prefix: &self.config.prefix, extension: self.format.extension() }
    }

    fn output(&self) -> &dyn Output {
        self.config.directory.place()
    }

    fn place(&self) -> Place<'_> {
        Place { output: self.output(), naming: self.naming() }
    }

    fn open_file(&mut self) -> Result<OpenFile> {
        let waiting = self.naming().temporary(self.term, &self.attempt, self.subtask, self.opened);
        self.opened += 1;
        // No checkpoint completes between this number and that of the barrier which closes the file.
        let visible = self.visible(self.next);
        let file = self.output().begin(&waiting, &visible)?;
        let mut buffer = Vec::with_capacity(BUFFER + (BUFFER >> 2));
        self.format.header(&mut buffer);
        Ok(OpenFile { waiting, visible, file, written: 0, records: 0, buffer })
    }

    fn visible(&self, checkpoint: CheckpointId) -> String {
        self.naming().visible(self.term, checkpoint, self.subtask, &self.attempt)
    }
}

/// An attempt that ends early takes the file along that no checkpoint can name.
impl<T, W> Drop for FileSinkSubtask<T, W> {
    fn drop(&mut self) {
        if let Some(open) = self.current.take() {
            let _ = self.config.directory.place().discard(&open.waiting);
        }
    }
}

impl OpenFile {
    fn flush(&mut self) -> Result<()> {
        self.file.write(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> Sink for FileSinkSubtask<T, W> {
    type In = T;
    type Committable = PendingFile;
    type Summary = FileSinkSummary;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut open = match self.current.take() {
            Some(open) => open,
            None => self.open_file()?,
        };
        for record in batch.records() {
            self.format.write(record, &mut open.buffer).map_err(|message| {
                Error::new(ErrorKind::User, message).with("directory", self.config.directory.display())
            })?;
            open.records += 1;
            if open.buffer.len() >= BUFFER {
                open.flush()?;
            }
        }
        batch.clear();
        self.current = Some(open);
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<PendingFile>> {
        if self.current.is_some() {
            self.claimed.check(self.place())?;
        }
        if let Some(mut open) = self.current.take() {
            open.flush()?;
            let temporary = open.file.finish()?;
            let name = match self.output().is_named_at_once() {
                true => open.visible,
                false => self.visible(checkpoint),
            };
            self.pending.push(PendingFile {
                temporary,
                name,
                checkpoint,
                bytes: open.written,
                records: open.records,
            });
        }
        self.next = self.next.max(checkpoint.next());
        Ok(self.pending.clone())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if !self.pending.iter().any(|file| file.checkpoint <= checkpoint) {
            return Ok(());
        }
        self.claimed.begin_commit(self.place(), self.term, checkpoint)?;
        for file in self.pending.iter().filter(|file| file.checkpoint <= checkpoint) {
            file.commit(self.output())?;
        }
        self.output().sync()?;
        for file in self.pending.extract_if(.., |file| file.checkpoint <= checkpoint) {
            self.committed.files += 1;
            self.committed.records += file.records;
            self.committed.bytes += file.bytes;
        }
        Ok(())
    }

    fn summary(&self) -> FileSinkSummary {
        self.committed
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
            .field("subtask", &self.subtask)
            .field("current", &self.current.as_ref().map(|open| &open.waiting))
            .field("pending", &self.pending)
            .finish()
    }
}

#[cfg(test)]
mod tests;
