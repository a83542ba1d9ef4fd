//! A sink for terminals.

use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use strandline_runtime::sink::{DeadOutputs, Sink, SinkContext, SinkFactory, SinkRecovery};
use strandline_state_api::{Batch, CheckpointId, Error, ErrorKind, Result};

mod text;

pub use text::PendingText;

use crate::file_sink::WriteRecords;

/// Prints records to the standard output when their checkpoint is complete.
///
/// A terminal cannot take back what it shows, so this is *at least once*: the lines of the newest checkpoint
/// are part of it, and a job that resumes from there prints them again. Use a [`FileSink`](crate::FileSink)
/// where each result must appear once.
pub struct StdoutSink<T, W> {
    format: W,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> StdoutSink<T, W> {
    /// Prints in this format, without its header.
    pub fn new(format: W) -> Self {
        Self { format, records: PhantomData }
    }
}

fn print(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // No restart brings the reader back.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
            let message = "nobody reads the standard output any more";
            Err(Error::new(ErrorKind::Unsupported, message).caused_by(e))
        }
        Err(e) => Err(Error::new(ErrorKind::Unavailable, "standard output cannot be written").caused_by(e)),
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> SinkFactory for StdoutSink<T, W> {
    type Sink = StdoutSubtask<T, W>;

    fn open(&self, _: SinkContext<PendingText>) -> Result<StdoutSubtask<T, W>> {
        let format = self.format.clone();
        Ok(StdoutSubtask { format, current: Vec::new(), pending: Vec::new(), records: PhantomData })
    }

    fn recover(&self, recovery: &SinkRecovery<'_, PendingText>) -> Result<()> {
        recovery.committables.iter().try_for_each(|text| print(&text.0))
    }

    /// What is printed stays.
    fn sweep(&self, _: &DeadOutputs) -> Result<()> {
        Ok(())
    }
}

/// One subtask of a [`StdoutSink`].
pub struct StdoutSubtask<T, W> {
    format: W,
    /// The records since the last barrier.
    current: Vec<u8>,
    /// The records before it that are not printed yet, by checkpoint.
    pending: Vec<(CheckpointId, PendingText)>,
    records: PhantomData<fn(T)>,
}

impl<T: Send + 'static, W: WriteRecords<T>> Sink for StdoutSubtask<T, W> {
    type In = T;
    type Committable = PendingText;
    type Summary = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        for record in batch.records() {
            let written = self.format.write(record, &mut self.current);
            written.map_err(|message| Error::new(ErrorKind::User, message))?;
        }
        batch.clear();
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<PendingText>> {
        if !self.current.is_empty() {
            self.pending.push((checkpoint, PendingText(std::mem::take(&mut self.current))));
        }
        Ok(self.pending.iter().map(|(_, text)| text.clone()).collect())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.pending.extract_if(.., |(of, _)| *of <= checkpoint).try_for_each(|(_, text)| print(&text.0))
    }
}

impl<T, W: fmt::Debug> fmt::Debug for StdoutSink<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StdoutSink").field(&self.format).finish()
    }
}

impl<T, W> fmt::Debug for StdoutSubtask<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdoutSubtask").field("pending", &self.pending.len()).finish()
    }
}
