//! What a program chooses: the shape of windows, when they fire, and what happens to late records.

use std::fmt;
use std::time::Duration;

use strandline_state_api::{Error, Result, TimeDomain};

/// Windows of time, with a shape, a trigger, and a rule for late records.
///
/// Windows are of event time unless [`in_processing_time`](Self::in_processing_time) makes them of processing
/// time. At the end of the input all windows fire.
#[derive(Clone, Debug)]
pub struct TimeWindows<S> {
    pub(super) shape: S,
    pub(super) settings: Settings,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) domain: TimeDomain,
    /// In milliseconds.
    pub(super) lateness: i64,
    pub(super) trigger: Trigger,
    pub(super) emits_late: bool,
}

/// The shape of [tumbling](TimeWindows::tumbling) windows, and of the [global](TimeWindows::global) one.
#[derive(Clone, Copy, Debug)]
pub struct Aligned {
    /// In milliseconds; `None` for the global window.
    pub(super) size: Option<i64>,
    pub(super) offset: i64,
}

/// The shape of [sliding](TimeWindows::sliding) windows.
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    pub(super) size: i64,
    pub(super) slide: i64,
    pub(super) offset: i64,
}

/// The shape of [session](TimeWindows::session) windows.
#[derive(Clone, Copy, Debug)]
pub struct Session<G> {
    pub(super) gap: G,
}

/// How long a session waits for the next record.
pub trait Gap<T>: Clone + Send + Sync + 'static {
    /// Returns the gap behind `record`.
    fn after(&self, record: &T) -> Duration;
}

/// The same gap behind every record.
#[derive(Clone, Copy, Debug)]
pub struct FixedGap(pub(super) Duration);

impl<T> Gap<T> for FixedGap {
    #[inline]
    fn after(&self, _: &T) -> Duration {
        self.0
    }
}

/// A gap that each record brings (Flink: `SessionWindowTimeGapExtractor`).
#[derive(Clone, Copy)]
pub struct GapFrom<F>(F);

impl<T, F: Fn(&T) -> Duration + Clone + Send + Sync + 'static> Gap<T> for GapFrom<F> {
    #[inline]
    fn after(&self, record: &T) -> Duration {
        (self.0)(record)
    }
}

impl<F> fmt::Debug for GapFrom<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GapFrom")
    }
}

impl TimeWindows<Aligned> {
    /// Windows of `size` that follow each other without a gap, from multiples of `size` after the epoch.
    /// (Flink: `TumblingEventTimeWindows`.)
    pub fn tumbling(size: Duration) -> Self {
        Self::of(Aligned { size: Some(millis(size)), offset: 0 })
    }

    /// One window for all time, which ends with the input; with a [trigger](Self::trigger) it fires before.
    /// (Flink: `GlobalWindows`, which never fire on their own.)
    pub fn global() -> Self {
        Self::of(Aligned { size: None, offset: 0 })
    }

    /// Starts windows `offset` after the multiples of their size, such as 18 hours for days that begin at
    /// six in the evening.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.shape.offset = millis(offset);
        self
    }
}

impl TimeWindows<Sliding> {
    /// Windows of `size`, of which one starts every `slide`: each record is in about `size / slide` windows.
    /// (Flink: `SlidingEventTimeWindows`.)
    ///
    /// A record is folded once, into a pane that the windows share, and a window that fires merges its panes.
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        Self::of(Sliding { size: millis(size), slide: millis(slide), offset: 0 })
    }

    /// Starts windows `offset` after the multiples of their slide.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.shape.offset = millis(offset);
        self
    }
}

impl TimeWindows<Session<FixedGap>> {
    /// Windows that last until no record has come for `gap`. Records that are exactly `gap` apart share one.
    /// (Flink: `EventTimeSessionWindows`.)
    pub fn session(gap: Duration) -> Self {
        Self::of(Session { gap: FixedGap(gap) })
    }
}

impl<F> TimeWindows<Session<GapFrom<F>>> {
    /// Windows that last until no record has come for the gap that `gap` returns for each record. (Flink:
    /// `DynamicEventTimeSessionWindows`.)
    pub fn session_by<T>(gap: F) -> Self
    where
        F: Fn(&T) -> Duration + Clone + Send + Sync + 'static,
    {
        Self::of(Session { gap: GapFrom(gap) })
    }
}

impl<S> TimeWindows<S> {
    fn of(shape: S) -> Self {
        let settings = Settings {
            domain: TimeDomain::Event,
            lateness: 0,
            trigger: Trigger::at_end(),
            emits_late: false,
        };
        Self { shape, settings }
    }

    /// Makes these windows of processing time: a record belongs to the window of the instant at which the
    /// operator processes it, and is never late.
    #[must_use]
    pub fn in_processing_time(mut self) -> Self {
        self.settings.domain = TimeDomain::Processing;
        self
    }

    /// Keeps a window for `lateness` after its end: a record that comes in this time fires the window again,
    /// with a corrected result. (Flink: `allowedLateness`.)
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.settings.lateness = millis(lateness);
        self
    }

    /// Sets when a window fires before its end.
    #[must_use]
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.settings.trigger = trigger;
        self
    }

    /// Emits the records that come too late for every window, and does not drop them. (Flink:
    /// `sideOutputLateData`.) They are [counted](strandline_state_api::Context::count_too_late) either way.
    #[must_use]
    pub fn emit_late(mut self) -> Self {
        self.settings.emits_late = true;
        self
    }
}

/// When a window fires, besides at its end (Beam: `AfterWatermark` with early firings).
///
/// A window always fires at its end, and with [allowed lateness](TimeWindows::allowed_lateness) once more for
/// each late record.
///
/// ```
/// use std::time::Duration;
/// use strandline_operators::window::{TimeWindows, Trigger};
///
/// // Each hour, and what is known of it so far every 10 s.
/// let hours = TimeWindows::tumbling(Duration::from_secs(3600))
///     .trigger(Trigger::at_end().every(Duration::from_secs(10)));
/// // All records of a key, emitted 100 at a time.
/// let hundreds = TimeWindows::global().trigger(Trigger::at_end().after_records(100).purging());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub(super) every: Option<(i64, TimeDomain)>,
    pub(super) records: Option<u64>,
    pub(super) purging: bool,
}

impl Trigger {
    /// Fires at the end of the window only.
    pub const fn at_end() -> Self {
        Self { every: None, records: None, purging: false }
    }

    /// Fires at multiples of `interval` in processing time, too, if records came since the last firing.
    /// (Flink: `ContinuousProcessingTimeTrigger`.)
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { every: Some((millis(interval), TimeDomain::Processing)), ..self }
    }

    /// Fires at multiples of `interval` in event time, too, if records came since the last firing. (Flink:
    /// `ContinuousEventTimeTrigger`.)
    #[must_use]
    pub fn every_in_event_time(self, interval: Duration) -> Self {
        Self { every: Some((millis(interval), TimeDomain::Event)), ..self }
    }

    /// Fires, too, when `records` have come since the last firing. (Flink: `CountTrigger`.)
    #[must_use]
    pub const fn after_records(self, records: u64) -> Self {
        Self { records: Some(records), ..self }
    }

    /// Forgets the records of a window when it fires, so that each result is of new records only. (Flink:
    /// `PurgingTrigger`; Beam: `discardingFiredPanes`.)
    #[must_use]
    pub const fn purging(self) -> Self {
        Self { purging: true, ..self }
    }

    pub(super) const fn is_early(&self) -> bool {
        self.every.is_some() || self.records.is_some()
    }
}

impl Default for Trigger {
    fn default() -> Self {
        Self::at_end()
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        if self.domain == TimeDomain::Processing && self.lateness > 0 {
            return Err(Error::invalid(
                "windows of processing time have no late records: leave out the allowed lateness",
            ));
        }
        if self.trigger.every.is_some_and(|(interval, _)| interval == 0) {
            return Err(Error::invalid("windows cannot fire at intervals below 1 ms: choose a longer one"));
        }
        if self.trigger.records == Some(0) {
            return Err(Error::invalid("windows cannot fire after 0 records: choose at least 1"));
        }
        Ok(())
    }
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
