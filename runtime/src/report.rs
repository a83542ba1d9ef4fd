//! What a job did.

use std::collections::BTreeMap;
use std::time::Duration;

use strandline_state_api::CheckpointId;
use strandline_state_api::backend::Statistic;

use crate::sink::Figure;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All input was read and all results are committed.
    Finished,
    /// It was stopped gracefully; a later start resumes.
    Stopped,
    /// It was cancelled; a later start resumes from the last checkpoint.
    Cancelled,
    /// An earlier run had finished it: nothing was left to do.
    AlreadyFinished,
}

/// What a job did. A restart takes counts of records back to what they were at its checkpoint, but for `done`:
/// of that, what was done twice counts twice.
#[derive(Clone, Debug)]
pub struct JobReport {
    /// How it ended.
    pub outcome: Outcome,
    /// The checkpoint that the first attempt started from.
    pub resumed_from: Option<CheckpointId>,
    /// How long it ran.
    pub elapsed: Duration,
    /// Records read, by source.
    pub read: BTreeMap<String, u64>,
    /// Records read again after restarts.
    pub read_again: u64,
    /// Records taken, by sink.
    pub emitted: BTreeMap<String, u64>,
    /// Records that the first keyed operators took, or the sinks in a job without: what `samples` counts.
    pub done: u64,
    /// Records that came to a keyed operator behind its watermark, of all operators.
    pub late: u64,
    /// The same by operator; those without are left out.
    pub late_by_operator: BTreeMap<String, u64>,
    /// Records that a keyed operator counted as [too late](strandline_state_api::Context::count_too_late), by
    /// operator; those without are left out.
    pub too_late_by_operator: BTreeMap<String, u64>,
    /// Results that steps [left out](crate::Emitter::count_left_out), by the source or operator that they
    /// follow; those without are left out.
    pub left_out_by_operator: BTreeMap<String, u64>,
    /// Of a job that an earlier run had finished: what is there that its sources do not read, and how to read
    /// it.
    pub unread: Vec<String>,
    /// Entries of keyed state at the end, as far as backends know.
    pub state_entries: u64,
    /// How often it restarted.
    pub restarts: u32,
    /// The completed checkpoints, oldest first; of very long jobs the newest 10,000.
    pub checkpoints: Vec<CheckpointReport>,
    /// How many checkpoints were aborted.
    pub aborted_checkpoints: u64,
    /// From the start to the first record that was done.
    pub first_done: Duration,
    /// From the start to the last record that was done.
    pub last_done: Duration,
    /// The longest time from one batch that was done to the next.
    pub longest_stall: Duration,
    /// How `done` grew, first in steps of about 100 ms; of long jobs in longer ones.
    pub samples: Vec<Sample>,
    /// The figures of each sink, by its id, added up over its subtasks; of the last attempt.
    pub sinks: BTreeMap<String, Vec<Figure>>,
}

/// How far a job was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Since the job started.
    pub at: Duration,
    /// Records that were done by then.
    pub done: u64,
}

/// One completed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Why it was taken: `periodic`, `api`, `final` and so on.
    pub kind: &'static str,
    /// The longest time that a subtask did not work on records because of it.
    pub pause: Duration,
    /// The longest time between the first and the last barrier at one subtask.
    pub alignment: Duration,
    /// The longest time from its trigger to the (first) barrier at a subtask.
    pub start_delay: Duration,
    /// From its trigger to its commit.
    pub duration: Duration,
    /// Of that: writing the manifest and claiming the slot of the commit log.
    pub commit: Duration,
    /// Bytes of state that it added to the store, positions of sources and operator state included.
    pub written_bytes: u64,
    /// Bytes of all files that it needs, shared ones included.
    pub full_bytes: u64,
    /// Records that its barriers have overtaken, and that are part of it.
    pub in_flight_records: u64,
    /// Bytes of these, and of what stood between them; among the written ones.
    pub in_flight_bytes: u64,
    /// The measurements of the state backends, sorted by name: those of a
    /// [backend](strandline_state_api::backend::Scope::Backend) added up over the subtasks.
    pub statistics: Vec<Statistic>,
}

impl JobReport {
    /// Records done per second, from the first to the last one.
    pub fn rate(&self) -> f64 {
        per_second(self.done, self.last_done.saturating_sub(self.first_done))
    }

    /// As [`rate`](Self::rate), without the first third of the records.
    pub fn warm_rate(&self) -> f64 {
        let warm = self.warm();
        match (warm.first(), warm.last()) {
            (Some(first), Some(last)) => per_second(last.done - first.done, last.at - first.at),
            _ => self.rate(),
        }
    }

    /// Quantiles (`0.0..=1.0`) of the rate in the windows between samples, without the first third of the
    /// records.
    pub fn rate_quantiles(&self, quantiles: &[f64]) -> Vec<f64> {
        let mut rates: Vec<f64> =
            self.warm().windows(2).map(|w| per_second(w[1].done - w[0].done, w[1].at - w[0].at)).collect();
        if rates.is_empty() {
            rates.push(self.rate());
        }
        rates.sort_by(f64::total_cmp);
        let last = rates.len() - 1;
        quantiles
            .iter()
            .map(|q| rates[((q.clamp(0.0, 1.0) * last as f64).round() as usize).min(last)])
            .collect()
    }

    /// The samples behind the first third of the records, up to the last record.
    fn warm(&self) -> &[Sample] {
        let from = self.samples.partition_point(|s| s.done < self.done / 3);
        let to = self.samples.partition_point(|s| s.done < self.done);
        self.samples.get(from..(to + 1).min(self.samples.len())).unwrap_or_default()
    }
}

fn per_second(records: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { records as f64 / time.as_secs_f64() }
}
