//! Instants, and the two times of a stream processor.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The time of a timer, a timer service or a time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// The time of the records; watermarks advance it.
    Event,
    /// The time of the system clock.
    Processing,
}

/// An instant: milliseconds since the Unix epoch, negative before it.
///
/// `Option<Timestamp>` takes eight bytes as well: `None` stands for a record without an event time, or for a
/// watermark before the first. Sums and differences saturate at [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
///
/// ```
/// use std::time::Duration;
/// use strandline_state_api::Timestamp;
///
/// let noon = Timestamp::from_millis(43_200_000);
/// assert_eq!((noon + Duration::from_secs(1)).as_millis(), 43_201_000);
/// assert!(None < Some(Timestamp::MIN));
/// assert_eq!(size_of::<Option<Timestamp>>(), 8);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// The milliseconds with the sign bit flipped, which keeps their order and leaves zero for `None`.
    NonZeroU64,
);

const SIGN: u64 = 1 << 63;

impl Timestamp {
    /// The earliest instant: `i64::MIN + 1` milliseconds.
    pub const MIN: Self = Self(NonZeroU64::MIN);
    /// The end of time: a watermark of this instant closes the input (Flink: `Watermark.MAX_WATERMARK`).
    pub const MAX: Self = Self(NonZeroU64::MAX);
    /// The Unix epoch.
    pub const EPOCH: Self = Self::from_millis(0);

    /// Returns the instant `millis` milliseconds after the Unix epoch; `i64::MIN` counts as
    /// [`MIN`](Self::MIN).
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        match NonZeroU64::new(millis as u64 ^ SIGN) {
            Some(flipped) => Self(flipped),
            None => Self::MIN,
        }
    }

    /// Returns the number of milliseconds since the Unix epoch.
    #[inline]
    pub const fn as_millis(self) -> i64 {
        (self.0.get() ^ SIGN) as i64
    }

    /// Returns the time of the system clock.
    pub fn of_system_clock() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self::EPOCH + since,
            Err(before) => Self::EPOCH - before.duration(),
        }
    }

    /// Returns the instant `millis` milliseconds later, or earlier if `millis` is negative.
    #[inline]
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.as_millis().saturating_add(millis))
    }

    /// Returns the stored form of an optional instant: `i64::MIN` stands for `None`.
    #[inline]
    pub const fn to_stored(time: Option<Self>) -> i64 {
        match time {
            Some(time) => time.as_millis(),
            None => i64::MIN,
        }
    }

    /// Reads back what [`to_stored`](Self::to_stored) returned.
    #[inline]
    pub const fn from_stored(millis: i64) -> Option<Self> {
        if millis == i64::MIN { None } else { Some(Self::from_millis(millis)) }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        self.plus_millis(millis(duration))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        self.plus_millis(-millis(duration))
    }
}

impl From<i64> for Timestamp {
    #[inline]
    fn from(millis: i64) -> Self {
        Self::from_millis(millis)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_millis().fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_millis().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from_millis)
    }
}

/// The clock of a backend. A backend does not read the system clock: its driver sets these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateTime {
    /// The processing time, once known.
    pub processing_time: Option<Timestamp>,
    /// The watermark, after the first.
    pub watermark: Option<Timestamp>,
    /// The event time of the current record or timer, if it has one.
    pub timestamp: Option<Timestamp>,
}

impl StateTime {
    /// The clock before any time is known.
    pub const UNKNOWN: Self = Self { processing_time: None, watermark: None, timestamp: None };

    /// Returns the time by which values expire.
    #[inline]
    pub fn now(&self, domain: TimeDomain) -> Option<Timestamp> {
        match domain {
            TimeDomain::Event => self.watermark,
            TimeDomain::Processing => self.processing_time,
        }
    }

    /// Returns the time that stamps a write.
    #[inline]
    pub(crate) fn stamp(&self, domain: TimeDomain) -> Option<Timestamp> {
        match domain {
            TimeDomain::Event => self.timestamp.or(self.watermark),
            TimeDomain::Processing => self.processing_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_compare_as_their_milliseconds_do() {
        let millis = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
        for a in millis {
            for b in millis {
                let (x, y) = (Timestamp::from_stored(a), Timestamp::from_stored(b));
                assert_eq!(x.cmp(&y), a.cmp(&b), "{a} and {b}");
            }
            assert_eq!(Timestamp::to_stored(Timestamp::from_stored(a)), a);
        }
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
    }

    #[test]
    fn sums_saturate() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::EPOCH - Duration::from_millis(5), Timestamp::from_millis(-5));
    }
}
