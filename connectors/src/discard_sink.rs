//! A sink for benchmarks.

use std::fmt;

use serde::{Deserialize, Serialize};
use strandline_runtime::sink::{DeadOutputs, Figure, Sink, SinkContext, SinkFactory, SinkRecovery, Summary};
use strandline_state_api::{Batch, CheckpointId, Result};

/// Drops all records, but counts them, and can add up a checksum of them. Both are part of every checkpoint,
/// so at the end they are those of a run without failures.
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

/// What one subtask of a [`DiscardSink`] has seen: its part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    records: u64,
    checksum: u64,
}

impl<T: Send + 'static> SinkFactory for DiscardSink<T> {
    type Sink = DiscardSubtask<T>;

    fn open(&self, context: SinkContext<Discarded>) -> Result<DiscardSubtask<T>> {
        let mut seen = Discarded::default();
        // One subtask carries on what all had seen.
        for before in context.restored.iter().filter(|_| context.subtask == 0) {
            seen.records += before.records;
            seen.checksum = seen.checksum.wrapping_add(before.checksum);
        }
        Ok(DiscardSubtask { checksum: self.checksum, seen })
    }

    fn recover(&self, _: &SinkRecovery<'_, Discarded>) -> Result<()> {
        Ok(())
    }

    fn sweep(&self, _: &DeadOutputs) -> Result<()> {
        Ok(())
    }
}

/// One subtask of a [`DiscardSink`].
#[derive(Debug)]
pub struct DiscardSubtask<T> {
    checksum: Option<fn(&T) -> u64>,
    seen: Discarded,
}

impl<T: Send + 'static> Sink for DiscardSubtask<T> {
    type In = T;
    type Committable = Discarded;
    type Summary = DiscardSummary;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.seen.records += batch.len() as u64;
        if let Some(checksum) = self.checksum {
            let sum = batch.records().iter().fold(0u64, |sum, record| sum.wrapping_add(checksum(record)));
            self.seen.checksum = self.seen.checksum.wrapping_add(sum);
        }
        batch.clear();
        Ok(())
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<Discarded>> {
        Ok(vec![self.seen])
    }

    fn commit(&mut self, _: CheckpointId) -> Result<()> {
        Ok(())
    }

    fn summary(&self) -> DiscardSummary {
        let Discarded { records, checksum } = self.seen;
        DiscardSummary { records, checksum: self.checksum.map(|_| checksum) }
    }
}

/// What a [`DiscardSink`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardSummary {
    /// How many records it dropped.
    pub records: u64,
    /// The sum of their checksums, where it computes them.
    pub checksum: Option<u64>,
}

impl Summary for DiscardSummary {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.checksum = match (self.checksum, other.checksum) {
            (Some(a), Some(b)) => Some(a.wrapping_add(b)),
            (a, b) => a.or(b),
        };
    }

    fn figures(&self) -> Vec<Figure> {
        let checksum = self.checksum.map(|sum| Figure::checksum("checksum", sum));
        checksum.into_iter().chain([Figure::count("records", self.records)]).collect()
    }
}

impl<T> fmt::Debug for DiscardSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscardSink").field("checksum", &self.checksum.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use strandline_state_api::{Codec, SerdeCodec};

    use super::*;

    fn open(sink: &DiscardSink<u64>, subtask: u32, restored: &[Discarded]) -> DiscardSubtask<u64> {
        let (term, attempt) = (strandline_runtime::sink::Term(1), "t".into());
        let context = SinkContext { subtask, parallelism: 2, term, attempt, restored: restored.to_vec() };
        sink.open(context).unwrap()
    }

    #[test]
    fn count_and_checksum_survive_a_rescale() {
        let sink = DiscardSink::with_checksum(|n: &u64| n.wrapping_mul(3));
        let write = |subtask: &mut DiscardSubtask<u64>, numbers: &[u64]| {
            let mut batch: Batch<u64> = numbers.iter().map(|&number| (number, None)).collect();
            subtask.write(&mut batch).unwrap();
            assert!(batch.is_empty());
        };
        let mut before = [open(&sink, 0, &[]), open(&sink, 1, &[])];
        write(&mut before[0], &[1, 2]);
        write(&mut before[1], &[u64::MAX]);
        let committables: Vec<_> =
            before.iter_mut().flat_map(|subtask| subtask.pre_commit(CheckpointId(1)).unwrap()).collect();
        let mut after = [0, 1, 2].map(|subtask| open(&sink, subtask, &committables));
        write(&mut after[2], &[10]);
        let mut summary = DiscardSummary::default();
        after.iter().for_each(|subtask| summary.add(subtask.summary()));
        assert_eq!(summary, DiscardSummary { records: 4, checksum: Some(3 + 6 - 3 + 30) });
        let lines: Vec<_> = summary.figures().iter().map(Figure::to_string).collect();
        assert_eq!(lines, ["checksum 0x0000000000000024", "records 4"]);
    }

    #[test]
    fn without_a_checksum_there_is_none_in_the_report() {
        let figures = open(&DiscardSink::new(), 0, &[]).summary().figures();
        assert_eq!(figures, [Figure::count("records", 0)]);
    }

    /// The bytes of the first version, which checkpoints hold.
    #[test]
    fn the_stored_form_stays() {
        let stored = [0xE8, 0x07, 0x80, 0x80, 0x01];
        let seen = Discarded { records: 1_000, checksum: 1 << 14 };
        assert_eq!(Codec::<Discarded>::decode(&SerdeCodec, &stored).unwrap(), seen);
        let mut encoded = Vec::new();
        SerdeCodec.encode(&seen, &mut encoded).unwrap();
        assert_eq!(encoded, stored);
    }
}
