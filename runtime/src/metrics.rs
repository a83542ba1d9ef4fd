//! The counters of a run: tasks count by the batch, the run reports.

mod counted;
mod tally;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strandline_state_api::{CheckpointId, OperatorId, Timestamp};

use crate::event::JobProgress;
use crate::source::Extent;
use crate::sync::lock;
use crate::threads::Threads;
pub(crate) use counted::Counted;
use tally::Tallies;
pub(crate) use tally::Tally;

/// Gauges by operator and subtask.
type Gauges<T> = Mutex<BTreeMap<(String, u32), Arc<T>>>;

/// The counters of one run, over all its attempts.
#[derive(Debug)]
pub(crate) struct Metrics {
    start: Instant,
    threads: Threads,
    read: Tallies,
    emitted: Tallies,
    late: Tallies,
    too_late: Tallies,
    left_out: Tallies,
    entries: Gauges<AtomicU64>,
    sources: Gauges<SourceGauge>,
    done: AtomicU64,
    /// How much of that the process of the coordinator has.
    done_taken: AtomicU64,
    /// Nanoseconds since the start.
    first_done: AtomicU64,
    last_done: AtomicU64,
    longest_stall: AtomicU64,
}

/// How far one subtask of a source is.
#[derive(Debug)]
pub(crate) struct SourceGauge {
    /// The least 64-bit integer before there is one.
    watermark: AtomicI64,
    /// Nobody waits for it.
    idle: AtomicU64,
    done: AtomicU64,
    /// The greatest integer where the size of the input is not known.
    total: AtomicU64,
}

impl Default for SourceGauge {
    fn default() -> Self {
        Self {
            watermark: AtomicI64::new(i64::MIN),
            idle: AtomicU64::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(u64::MAX),
        }
    }
}

impl SourceGauge {
    pub(crate) fn set_time(&self, watermark: Option<Timestamp>, idle: bool) {
        self.watermark.store(watermark.map_or(i64::MIN, Timestamp::as_millis), Relaxed);
        self.idle.store(u64::from(idle), Relaxed);
    }

    pub(crate) fn set_extent(&self, extent: Option<Extent>) {
        self.done.store(extent.map_or(0, |extent| extent.done), Relaxed);
        self.total.store(extent.map_or(u64::MAX, |extent| extent.total), Relaxed);
    }

    fn extent(&self) -> Option<Extent> {
        let (done, total) = (self.done.load(Relaxed), self.total.load(Relaxed));
        (total < u64::MAX).then_some(Extent { done: done.min(total), total })
    }
}

impl Metrics {
    /// Counters of a run that starts now.
    pub(crate) fn new(threads: Threads) -> Self {
        Self {
            start: threads.now(),
            threads,
            read: Tallies::default(),
            emitted: Tallies::default(),
            late: Tallies::default(),
            too_late: Tallies::default(),
            left_out: Tallies::default(),
            entries: Mutex::default(),
            sources: Mutex::default(),
            done: AtomicU64::new(0),
            done_taken: AtomicU64::new(0),
            first_done: AtomicU64::new(0),
            last_done: AtomicU64::new(0),
            longest_stall: AtomicU64::new(0),
        }
    }

    /// The counter of what a subtask of a source reads.
    pub(crate) fn read(&self, id: &OperatorId) -> Tally {
        self.read.tally(id)
    }

    /// The counter of what a subtask of a sink takes.
    pub(crate) fn emitted(&self, id: &OperatorId) -> Tally {
        self.emitted.tally(id)
    }

    /// The counter of what comes late to a subtask of a keyed operator.
    pub(crate) fn late(&self, id: &OperatorId) -> Tally {
        self.late.tally(id)
    }

    /// The counter of what a keyed operator finds too late.
    pub(crate) fn too_late(&self, id: &OperatorId) -> Tally {
        self.too_late.tally(id)
    }

    /// The counter of what steps behind an operator leave out.
    pub(crate) fn left_out(&self, id: &OperatorId) -> Tally {
        self.left_out.tally(id)
    }

    /// The gauge of a backend's entries.
    pub(crate) fn entries(&self, id: &OperatorId, subtask: u32) -> Arc<AtomicU64> {
        Arc::clone(lock(&self.entries).entry((id.to_string(), subtask)).or_default())
    }

    /// The gauge of how far a subtask of a source is.
    pub(crate) fn source(&self, id: &OperatorId, subtask: u32) -> Arc<SourceGauge> {
        let gauge = Arc::new(SourceGauge::default());
        lock(&self.sources).insert((id.to_string(), subtask), Arc::clone(&gauge));
        gauge
    }

    /// An attempt begins: gauges of the one before are gone, and counters go on from the checkpoint that is
    /// restored.
    pub(crate) fn begin_attempt(&self, restored: Option<CheckpointId>) {
        lock(&self.entries).clear();
        lock(&self.sources).clear();
        for tallies in self.tallies() {
            tallies.go_back_to(restored);
        }
    }

    fn tallies(&self) -> [&Tallies; 5] {
        [&self.read, &self.emitted, &self.late, &self.too_late, &self.left_out]
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
            read_again: self.read.again(),
            input: self.input(),
            watermark: self.watermark(),
            done: self.done.load(Relaxed),
            emitted: self.emitted_by_sink().values().sum(),
            state_entries: lock(&self.entries).values().map(|entries| entries.load(Relaxed)).sum(),
        }
    }

    /// How much of the input is read, where all subtasks of all sources know it.
    fn input(&self) -> Option<Extent> {
        let sources = lock(&self.sources);
        let all: Option<Vec<_>> = sources.values().map(|gauge| gauge.extent()).collect();
        let all = all.filter(|all| !all.is_empty())?;
        let sum = |of: fn(&Extent) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
        Some(Extent { done: sum(|extent| extent.done), total: sum(|extent| extent.total) })
    }

    /// The watermark of the slowest subtask of a source that is waited for.
    fn watermark(&self) -> Option<Timestamp> {
        let sources = lock(&self.sources);
        let waited_for = sources.values().filter(|gauge| gauge.idle.load(Relaxed) == 0);
        let least = waited_for.map(|gauge| gauge.watermark.load(Relaxed)).min();
        least.and_then(Timestamp::from_stored)
    }

    pub(crate) fn read_by_source(&self) -> BTreeMap<String, u64> {
        self.read.values()
    }

    pub(crate) fn emitted_by_sink(&self) -> BTreeMap<String, u64> {
        self.emitted.values()
    }

    pub(crate) fn late_by_operator(&self) -> BTreeMap<String, u64> {
        self.late.values()
    }

    pub(crate) fn too_late_by_operator(&self) -> BTreeMap<String, u64> {
        self.too_late.values()
    }

    pub(crate) fn left_out_by_operator(&self) -> BTreeMap<String, u64> {
        self.left_out.values()
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

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Relaxed);
}

/// Whole microseconds, as traces count them.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
