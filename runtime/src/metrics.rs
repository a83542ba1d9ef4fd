//! The counters of a run: tasks count by the batch, the run reports.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strandline_state_api::OperatorId;

use crate::event::JobProgress;
use crate::sync::lock;
use crate::threads::Threads;

/// The counters of one run, over all its attempts.
#[derive(Debug)]
pub(crate) struct Metrics {
    start: Instant,
    threads: Threads,
    read: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    emitted: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    entries: Mutex<BTreeMap<(String, u32), Arc<AtomicU64>>>,
    late: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    done: AtomicU64,
    /// Nanoseconds since the start.
    first_done: AtomicU64,
    last_done: AtomicU64,
    longest_stall: AtomicU64,
}

impl Metrics {
    /// Counters of a run that starts now.
    pub(crate) fn new(threads: Threads) -> Self {
        Self {
            start: threads.now(),
            threads,
            read: Mutex::default(),
            emitted: Mutex::default(),
            entries: Mutex::default(),
            late: Mutex::default(),
            done: AtomicU64::new(0),
            first_done: AtomicU64::new(0),
            last_done: AtomicU64::new(0),
            longest_stall: AtomicU64::new(0),
        }
    }

    /// The counter of what a source read.
    pub(crate) fn read(&self, id: &OperatorId) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.read).entry(id.to_string()).or_default())
    }

    /// The counter of what a sink took.
    pub(crate) fn emitted(&self, id: &OperatorId) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.emitted).entry(id.to_string()).or_default())
    }

    /// The counter of what came late to a keyed operator.
    pub(crate) fn late(&self, id: &OperatorId) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.late).entry(id.to_string()).or_default())
    }

    /// The gauge of a backend's entries.
    pub(crate) fn entries(&self, id: &OperatorId, subtask: u32) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.entries).entry((id.to_string(), subtask)).or_default())
    }

    /// Forgets the gauges of an attempt that is over.
    pub(crate) fn forget_entries(&self) {
        lock(&self.entries).clear();
    }

    /// A batch is done, now.
    pub(crate) fn done(&self, records: usize) {
        let now = nanos(self.elapsed()).max(1);
        let before = self.last_done.swap(now, Relaxed);
        if before == 0 {
            self.first_done.store(now, Relaxed);
        } else {
            self.longest_stall.fetch_max(now.saturating_sub(before), Relaxed);
        }
        self.done.fetch_add(records as u64, Relaxed);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.threads.since(self.start)
    }

    pub(crate) fn progress(&self) -> JobProgress {
        JobProgress {
            elapsed: self.elapsed(),
            read: self.read_by_source().values().sum(),
            done: self.done.load(Relaxed),
            emitted: self.emitted_by_sink().values().sum(),
            state_entries: lock(&self.entries).values().map(|entries| entries.load(Relaxed)).sum(),
        }
    }

    pub(crate) fn read_by_source(&self) -> BTreeMap<String, u64> {
        values(&self.read)
    }

    pub(crate) fn emitted_by_sink(&self) -> BTreeMap<String, u64> {
        values(&self.emitted)
    }

    pub(crate) fn late_by_operator(&self) -> BTreeMap<String, u64> {
        values(&self.late)
    }

    pub(crate) fn first_done(&self) -> Duration {
        Duration::from_nanos(self.first_done.load(Relaxed))
    }

    pub(crate) fn last_done(&self) -> Duration {
        Duration::from_nanos(self.last_done.load(Relaxed))
    }

    pub(crate) fn longest_stall(&self) -> Duration {
        Duration::from_nanos(self.longest_stall.load(Relaxed))
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, records: usize) {
    counter.fetch_add(records as u64, Relaxed);
}

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Relaxed);
}

fn values(counters: &Mutex<BTreeMap<String, Arc<AtomicU64>>>) -> BTreeMap<String, u64> {
    lock(counters).iter().map(|(id, counter)| (id.clone(), counter.load(Relaxed))).collect()
}

/// Whole microseconds, as traces count them.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
