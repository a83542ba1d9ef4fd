//! The counters of another process, on their way into those of the job.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::Metrics;
use super::tally::Increment;
use crate::sync::lock;

/// What the subtasks of one process have counted since they were last asked, and their gauges as they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    tallies: [BTreeMap<String, Increment>; 5],
    done: u64,
    /// By operator and subtask.
    entries: Vec<(String, u32, u64)>,
    sources: Vec<(String, u32, Source)>,
}

/// A gauge of a source.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Source {
    watermark: i64,
    idle: u64,
    done: u64,
    total: u64,
}

impl Metrics {
    /// Takes what was counted since the last call, for the process of the coordinator.
    pub(crate) fn take(&self) -> Counted {
        let done = self.done.load(Relaxed);
        let entries = lock(&self.entries);
        let sources = lock(&self.sources);
        let source = |((id, subtask), gauge): (&(String, u32), &std::sync::Arc<super::SourceGauge>)| {
            let source = Source {
                watermark: gauge.watermark.load(Relaxed),
                idle: gauge.idle.load(Relaxed),
                done: gauge.done.load(Relaxed),
                total: gauge.total.load(Relaxed),
            };
            (id.clone(), *subtask, source)
        };
        Counted {
            tallies: self.tallies().map(super::Tallies::take),
            done: done - self.done_taken.swap(done, Relaxed),
            entries: entries
                .iter()
                .map(|((id, subtask), of)| (id.clone(), *subtask, of.load(Relaxed)))
                .collect(),
            sources: sources.iter().map(source).collect(),
        }
    }

    /// Adds what another process has counted in this attempt.
    pub(crate) fn add(&self, counted: &Counted) {
        for (tallies, increments) in self.tallies().into_iter().zip(&counted.tallies) {
            tallies.add(increments);
        }
        self.done.fetch_add(counted.done, Relaxed);
        let mut entries = lock(&self.entries);
        for (id, subtask, value) in &counted.entries {
            super::set(entries.entry((id.clone(), *subtask)).or_default(), *value);
        }
        drop(entries);
        let mut sources = lock(&self.sources);
        for (id, subtask, source) in &counted.sources {
            let gauge = sources.entry((id.clone(), *subtask)).or_default();
            gauge.watermark.store(source.watermark, Relaxed);
            gauge.idle.store(source.idle, Relaxed);
            gauge.done.store(source.done, Relaxed);
            gauge.total.store(source.total, Relaxed);
        }
    }
}
