//! How watermarks follow the times of records.

use std::time::Duration;

use strandline_state_api::Timestamp;

/// How watermarks follow the times of records (Flink: `WatermarkStrategy`). A [`Duration`] converts into the
/// watermarks that stay that far behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    pub(crate) delay: Duration,
    pub(crate) idle_after: Option<Duration>,
    pub(crate) max_drift: Option<Duration>,
}

impl Watermarks {
    /// Watermarks 1 ms and `delay` behind the greatest time so far: a record may come that much out of order
    /// and is not late. (Flink: `BoundedOutOfOrdernessWatermarks`.)
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// What brings no record for `idle_after` does not hold watermarks back until it brings one again; records
    /// that it brings then may be late. Without it, what is silent holds them back for ever. (Flink:
    /// `withIdleness`.)
    #[must_use]
    pub fn idle_after(mut self, idle_after: impl Into<Option<Duration>>) -> Self {
        self.idle_after = idle_after.into();
        self
    }

    /// No split of a source is read further than `max_drift` ahead of the slowest split, over all subtasks of
    /// the source; to within what is read at once. A source that reads the slowest split first keeps its
    /// splits together without this; then only its subtasks drift apart. Means nothing to
    /// [`Stream::timestamps`](crate::Stream::timestamps). (Flink: `withWatermarkAlignment`.)
    #[must_use]
    pub fn max_drift(mut self, max_drift: impl Into<Option<Duration>>) -> Self {
        self.max_drift = max_drift.into();
        self
    }

    /// Returns the watermark behind records of which `greatest` is the greatest time.
    pub fn behind(&self, greatest: Timestamp) -> Timestamp {
        (greatest - self.delay).plus_millis(-1)
    }

    /// Returns how far a split may be read while the greatest time of the slowest is `slowest`.
    pub fn read_limit(&self, slowest: Timestamp) -> Timestamp {
        self.max_drift.map_or(Timestamp::MAX, |drift| slowest + drift)
    }

    /// Returns how long what brings no record holds watermarks back; `None` for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_after
    }

    /// Returns the bound on the drift of splits.
    pub fn drift(&self) -> Option<Duration> {
        self.max_drift
    }
}

impl From<Duration> for Watermarks {
    fn from(delay: Duration) -> Self {
        Self::delayed(delay)
    }
}
