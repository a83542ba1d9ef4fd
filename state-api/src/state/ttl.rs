//! Time-to-live: values that expire (Flink: `StateTtlConfig`).

use std::time::Duration;

use crate::backend::Verdict;
use crate::time::StateTime;
use crate::{Error, Result, TimeDomain, Timestamp};

/// How long the values of a state live, and what happens when they expire.
///
/// A value, a reduced value and an accumulator expire as a whole; the elements of a list and the entries of a
/// map expire one by one. A value expires at `stamp + duration`, that instant included, never before; with
/// [`Visibility::Never`] no access returns it from then on, whether it has been removed or not.
///
/// The time-to-live is part of the program and not of the state: a job that resumes may change the duration,
/// and may give a state a time-to-live or take it away. A value that was stored without one counts as fresh
/// until an access writes it or, with [`Refresh::OnReadAndWrite`], reads it.
///
/// ```
/// use std::time::Duration;
/// use strandline_state_api::{Refresh, Ttl, ValueDescriptor};
///
/// let hour = Ttl::event_time(Duration::from_secs(3600)).refresh(Refresh::OnReadAndWrite);
/// let sessions = ValueDescriptor::<u64>::new("sessions").time_to_live(hour);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    millis: i64,
    domain: TimeDomain,
    refresh: Refresh,
    visibility: Visibility,
    cleanup: Cleanup,
}

/// Which accesses reset a value's time-to-live (Flink: `UpdateType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// Accesses that create or write the value.
    #[default]
    OnWrite,
    /// Also accesses that read the value, unless it has expired.
    OnReadAndWrite,
}

/// Whether a read returns an expired value (Flink: `StateVisibility`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// A read never returns an expired value; an access that finds one removes it.
    #[default]
    Never,
    /// A read returns an expired value that no clean-up has removed, once: the same access removes it.
    UntilCleaned,
}

/// How expired values that are never accessed get removed.
///
/// A backend ignores options that do not apply to it: only the RocksDB backend compacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// The number of entries that a backend checks for each record, in turn; 0 for none (Flink:
    /// `cleanupIncrementally`, for each access). 2 unless set.
    pub per_record: u32,
    /// Whether full snapshots leave out expired values (Flink: `cleanupFullSnapshot`). On unless set.
    pub in_full_snapshots: bool,
    /// Whether compactions of RocksDB drop expired values (Flink: `cleanupInRocksdbCompactFilter`). On unless
    /// set.
    pub in_compactions: bool,
}

impl Cleanup {
    /// Removes an expired value only when an access finds it.
    pub const ON_ACCESS_ONLY: Self = Self { per_record: 0, in_full_snapshots: false, in_compactions: false };
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { per_record: 2, in_full_snapshots: true, in_compactions: true }
    }
}

impl Ttl {
    /// Creates a time-to-live in processing time, as in Flink. `duration` counts in milliseconds; a
    /// registration refuses one below 1 ms.
    pub fn processing_time(duration: Duration) -> Self {
        Self::new(duration, TimeDomain::Processing)
    }

    /// Creates a time-to-live in event time: the timestamp of the record that writes a value stamps it, and
    /// the watermark expires it. So the result does not depend on when the job runs.
    pub fn event_time(duration: Duration) -> Self {
        Self::new(duration, TimeDomain::Event)
    }

    fn new(duration: Duration, domain: TimeDomain) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (refresh, visibility, cleanup) = <_>::default();
        Self { millis, domain, refresh, visibility, cleanup }
    }

    /// Sets which accesses reset a value's time-to-live.
    #[must_use]
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh, ..self }
    }

    /// Sets whether a read returns an expired value.
    #[must_use]
    pub fn visibility(self, visibility: Visibility) -> Self {
        Self { visibility, ..self }
    }

    /// Sets how expired values that are never accessed get removed.
    #[must_use]
    pub fn cleanup(self, cleanup: Cleanup) -> Self {
        Self { cleanup, ..self }
    }

    /// Returns how long a value lasts, in milliseconds.
    pub fn millis(&self) -> i64 {
        self.millis
    }

    /// Returns the time domain by which values expire.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// Returns how expired values that are never accessed get removed.
    pub fn cleanup_options(&self) -> Cleanup {
        self.cleanup
    }

    /// Returns whether a value with this stamp has expired. A value without a stamp has not.
    #[inline]
    pub fn expired(&self, stamp: Option<Timestamp>, clock: &StateTime) -> bool {
        match (stamp, clock.now(self.domain)) {
            (Some(stamp), Some(now)) => stamp.plus_millis(self.millis) <= now,
            _ => false,
        }
    }

    /// Returns what a read does with a value with this stamp.
    #[inline]
    pub(crate) fn judge(&self, stamp: Option<Timestamp>, clock: &StateTime) -> Verdict {
        match self.visibility {
            _ if self.after_read(stamp, clock) != stamp => Verdict::Refresh,
            _ if !self.expired(stamp, clock) => Verdict::Keep,
            Visibility::Never => Verdict::Remove,
            Visibility::UntilCleaned => Verdict::LendOnce,
        }
    }

    /// Returns whether a read hides a value with this stamp.
    #[inline]
    pub(crate) fn hides(&self, stamp: Option<Timestamp>, clock: &StateTime) -> bool {
        self.visibility == Visibility::Never && self.expired(stamp, clock)
    }

    /// Returns the stamp after a read. An expired value keeps its stamp.
    #[inline]
    pub(crate) fn after_read(&self, stamp: Option<Timestamp>, clock: &StateTime) -> Option<Timestamp> {
        if self.refresh == Refresh::OnWrite || self.expired(stamp, clock) {
            return stamp;
        }
        stamp.max(clock.stamp(self.domain))
    }

    #[inline]
    pub(crate) fn refreshes_on_read(&self) -> bool {
        self.refresh == Refresh::OnReadAndWrite
    }

    #[inline]
    pub(crate) fn stamp(&self, clock: &StateTime) -> Option<Timestamp> {
        clock.stamp(self.domain)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.millis > 0 {
            return Ok(());
        }
        Err(Error::invalid("a time-to-live is at least one millisecond; to keep values, set none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(millis: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(millis))
    }

    fn at(now: i64) -> StateTime {
        StateTime { processing_time: time(now), ..StateTime::UNKNOWN }
    }

    #[test]
    fn the_instant_of_expiry_is_included_and_sums_saturate() {
        let ttl = Ttl::processing_time(Duration::from_millis(10));
        assert!(!ttl.expired(time(5), &at(14)));
        assert!(ttl.expired(time(5), &at(15)));
        assert!(!ttl.expired(time(5), &StateTime::UNKNOWN));
        assert!(!ttl.expired(None, &at(i64::MAX - 1)), "a value without a stamp is fresh");
        let forever = Ttl::processing_time(Duration::MAX);
        assert!(!forever.expired(time(5), &at(i64::MAX - 1)));
        assert!(forever.expired(time(5), &at(i64::MAX)));
    }

    #[test]
    fn event_time_stamps_with_the_record_and_expires_with_the_watermark() {
        let ttl = Ttl::event_time(Duration::from_millis(10));
        let clock =
            StateTime { processing_time: time(1_000_000), watermark: time(100), timestamp: time(120) };
        assert_eq!(ttl.stamp(&clock), time(120));
        assert_eq!(ttl.stamp(&StateTime { timestamp: None, ..clock }), time(100));
        assert!(!ttl.expired(time(91), &clock));
        assert!(ttl.expired(time(90), &clock));
    }

    #[test]
    fn a_read_does_not_refresh_an_expired_value() {
        let ttl = Ttl::processing_time(Duration::from_millis(100)).refresh(Refresh::OnReadAndWrite);
        let ttl = ttl.visibility(Visibility::UntilCleaned);
        assert_eq!(ttl.after_read(time(50), &at(149)), time(149));
        assert_eq!(ttl.after_read(time(50), &at(170)), time(50));
    }

    #[test]
    fn a_time_to_live_below_one_millisecond_is_refused() {
        assert!(Ttl::processing_time(Duration::from_micros(999)).check().is_err());
        assert!(Ttl::processing_time(Duration::from_millis(1)).check().is_ok());
    }
}
