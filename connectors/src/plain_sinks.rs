//! Sinks for terminals and benchmarks.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use strandline_runtime::sink::{Sink, SinkContext, SinkFactory};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Output, Result};

use crate::file_sink::WriteRecords;

/// Prints records to the standard output when their checkpoint is complete.
///
/// A terminal cannot take back what it shows, so this is *at least once*: the lines of the newest checkpoint are state
/// of it, and are printed again when a job resumes from there. Use a [`FileSink`](crate::FileSink) where it must be
/// once.
pub struct StdoutSink<T, W> {
    format: W,
    records: PhantomData<fn(T)>,
}

impl<T, W: WriteRecords<T>> StdoutSink<T, W> {
    /// Prints in this format; its header is left out.
    pub fn new(format: W) -> Self {
        Self { format, records: PhantomData }
    }
}

fn print(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) => Err(Error::new(ErrorKind::Unavailable, "standard output cannot be written").caused_by(e)),
    }
}

impl<T: Send + 'static, W: WriteRecords<T>> SinkFactory for StdoutSink<T, W> {
    type Sink = StdoutSubtask<T, W>;

    fn open(&self, _: SinkContext) -> Result<StdoutSubtask<T, W>> {
        let format = self.format.clone();
        Ok(StdoutSubtask { format, current: Vec::new(), pending: Vec::new(), records: PhantomData })
    }

    fn recover(&self, _: Option<CheckpointId>, elements: &[Vec<u8>]) -> Result<()> {
        elements.iter().try_for_each(|text| print(text))
    }
}

/// One subtask of a [`StdoutSink`].
pub struct StdoutSubtask<T, W> {
    format: W,
    current: Vec<u8>,
    pending: Vec<(CheckpointId, Vec<u8>)>,
    records: PhantomData<fn(T)>,
}

impl<T: Send + 'static, W: WriteRecords<T>> Sink for StdoutSubtask<T, W> {
    type In = T;

    fn write(&mut self, batch: &mut Output<T>) -> Result<()> {
        for record in batch.records.drain(..) {
            let written = self.format.write(&record, &mut self.current);
            written.map_err(|message| Error::new(ErrorKind::User, message))?;
        }
        batch.clear();
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>> {
        if !self.current.is_empty() {
            self.pending.push((checkpoint, std::mem::take(&mut self.current)));
        }
        Ok(self.pending.iter().map(|(_, text)| text.clone()).collect())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.pending.extract_if(.., |(of, _)| *of <= checkpoint).try_for_each(|(_, text)| print(&text))
    }
}

/// Forgets all records, but counts them, and can add up a checksum of them. Both are state, so at the end they are those
/// of a run without failures.
pub struct DiscardSink<T> {
    checksum: Option<fn(&T) -> u64>,
}

impl<T> DiscardSink<T> {
    /// Counts only.
    pub fn new() -> Self {
        Self { checksum: None }
    }

    /// Adds up `checksum` of all records, wrapping, so their order does not matter.
    pub fn with_checksum(checksum: fn(&T) -> u64) -> Self {
        Self { checksum: Some(checksum) }
    }
}

impl<T> Default for DiscardSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a subtask has seen.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Seen {
    records: u64,
    checksum: u64,
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }

    fn summary(self, checksum: bool) -> BTreeMap<String, String> {
        let records = ("records".to_owned(), self.records.to_string());
        let checksum = checksum.then(|| ("checksum".to_owned(), format!("{:#018x}", self.checksum)));
        std::iter::once(records).chain(checksum).collect()
    }

    fn of_summary(summary: &BTreeMap<String, String>) -> Self {
        let number = |name: &str| summary.get(name).map_or("", String::as_str);
        Self {
            records: number("records").parse().unwrap_or(0),
            checksum: u64::from_str_radix(number("checksum").trim_start_matches("0x"), 16).unwrap_or(0),
        }
    }
}

impl<T: Send + 'static> SinkFactory for DiscardSink<T> {
    type Sink = DiscardSubtask<T>;

    fn open(&self, context: SinkContext) -> Result<DiscardSubtask<T>> {
        let mut seen = Seen::default();
        // One subtask carries on what all had seen.
        for bytes in context.restored.iter().filter(|_| context.subtask == 0) {
            let before = postcard::from_bytes(bytes)
                .map_err(|e| Error::corrupt("an element of a discarding sink cannot be read").caused_by(e))?;
            seen.add(before);
        }
        Ok(DiscardSubtask { checksum: self.checksum, seen })
    }

    fn recover(&self, _: Option<CheckpointId>, _: &[Vec<u8>]) -> Result<()> {
        Ok(())
    }

    fn summarize(&self, summaries: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
        let mut all = Seen::default();
        summaries.iter().for_each(|summary| all.add(Seen::of_summary(summary)));
        all.summary(self.checksum.is_some())
    }
}

/// One subtask of a [`DiscardSink`].
#[derive(Debug)]
pub struct DiscardSubtask<T> {
    checksum: Option<fn(&T) -> u64>,
    seen: Seen,
}

impl<T: Send + 'static> Sink for DiscardSubtask<T> {
    type In = T;

    fn write(&mut self, batch: &mut Output<T>) -> Result<()> {
        self.seen.records += batch.len() as u64;
        if let Some(checksum) = self.checksum {
            let sum = batch.records.iter().fold(0u64, |sum, record| sum.wrapping_add(checksum(record)));
            self.seen.checksum = self.seen.checksum.wrapping_add(sum);
        }
        batch.clear();
        Ok(())
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<Vec<u8>>> {
        let encoded = postcard::to_allocvec(&self.seen);
        Ok(vec![
            encoded.map_err(|e| Error::new(ErrorKind::Internal, "a count cannot be encoded").caused_by(e))?,
        ])
    }

    fn commit(&mut self, _: CheckpointId) -> Result<()> {
        Ok(())
    }

    fn summary(&self) -> BTreeMap<String, String> {
        self.seen.summary(self.checksum.is_some())
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

impl<T> fmt::Debug for DiscardSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscardSink").field("checksum", &self.checksum.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(sink: &DiscardSink<u64>, subtask: u32, restored: &[Vec<u8>]) -> DiscardSubtask<u64> {
        let context =
            SinkContext { subtask, parallelism: 2, attempt: "t".into(), restored: restored.to_vec() };
        sink.open(context).unwrap()
    }

    #[test]
    fn what_a_discarding_sink_saw_survives_a_rescale() {
        let sink = DiscardSink::with_checksum(|n: &u64| n.wrapping_mul(3));
        let write = |subtask: &mut DiscardSubtask<u64>, numbers: &[u64]| {
            let mut output = Output::new();
            numbers.iter().for_each(|&number| output.push(number, 0));
            subtask.write(&mut output).unwrap();
        };
        let mut before = [open(&sink, 0, &[]), open(&sink, 1, &[])];
        write(&mut before[0], &[1, 2]);
        write(&mut before[1], &[u64::MAX]);
        let elements: Vec<_> =
            before.iter_mut().flat_map(|subtask| subtask.pre_commit(CheckpointId(1)).unwrap()).collect();
        let mut after = [open(&sink, 0, &elements), open(&sink, 1, &elements), open(&sink, 2, &elements)];
        write(&mut after[2], &[10]);
        let summary = sink.summarize(&after.map(|subtask| subtask.summary()));
        assert_eq!(summary["records"], "4");
        assert_eq!(summary["checksum"], format!("{:#018x}", 3 + 6 - 3 + 30));
    }
}
