//! Time-to-live: state that goes by itself (Flink: `StateTtlConfig`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::format::{StateKind, StateMeta, list};
use crate::{Codec, Error, NO_TIMESTAMP, Result, TimeDomain};

/// The stamp of a value that was written when no time was known: it does not expire before it is stamped.
const UNSTAMPED: i64 = i64::MIN;

/// How long the values of a state live, and what becomes of them then.
///
/// Values, reducing and aggregating state expire as a whole; the elements of a list and the entries of a map each for
/// itself. Nothing expires before its time, and with [`Visibility::Never`] nothing is seen after it, whether it has been
/// removed or not. It expires at `stamp + duration`, that instant included.
///
/// It is part of the program and not of the state: a job that resumes may change the duration, and may give a state a
/// time-to-live or take it away. What was stored without one counts as fresh until it is written or, with
/// [`Refresh::OnReadAndWrite`], read.
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

/// What gives a value a new lease of life (Flink: `UpdateType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refresh {
    /// That it is made or written.
    #[default]
    OnWrite,
    /// That it is read, too.
    OnReadAndWrite,
}

/// Whether an expired value is seen (Flink: `StateVisibility`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Never. An access that finds one removes it.
    #[default]
    Never,
    /// As long as it has not been cleaned up.
    UntilCleaned,
}

/// How expired values leave that nobody accesses.
///
/// What a backend does not have it leaves out: only one on RocksDB compacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Entries that are looked at for each record, round and round; 0 for none (Flink: `cleanupIncrementally`, for each
    /// access). 2 unless set, where a backend does not clean up better.
    pub per_record: u32,
    /// Snapshots that write everything leave out what has expired (Flink: `cleanupFullSnapshot`). On unless set.
    pub in_full_snapshots: bool,
    /// RocksDB leaves out what has expired whenever it compacts (Flink: `cleanupInRocksdbCompactFilter`). On unless set.
    pub in_compactions: bool,
}

impl Cleanup {
    /// Only what is accessed is ever removed.
    pub const ON_ACCESS_ONLY: Self = Self { per_record: 0, in_full_snapshots: false, in_compactions: false };
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { per_record: 2, in_full_snapshots: true, in_compactions: true }
    }
}

impl Ttl {
    /// By the clock of the machine, as in Flink. `duration` counts in milliseconds; a state with one below 1 ms is refused
    /// when it is registered.
    pub fn processing_time(duration: Duration) -> Self {
        Self::new(duration, TimeDomain::Processing)
    }

    /// By the time of the records: a value is stamped with the timestamp of the record that writes it and expires when the
    /// watermark has come far enough, so that the result does not depend on when the job runs.
    pub fn event_time(duration: Duration) -> Self {
        Self::new(duration, TimeDomain::Event)
    }

    fn new(duration: Duration, domain: TimeDomain) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (refresh, visibility, cleanup) = <_>::default();
        Self { millis, domain, refresh, visibility, cleanup }
    }

    /// Sets what gives a value a new lease of life.
    #[must_use]
    pub fn refresh(self, refresh: Refresh) -> Self {
        Self { refresh, ..self }
    }

    /// Sets whether an expired value is seen.
    #[must_use]
    pub fn visibility(self, visibility: Visibility) -> Self {
        Self { visibility, ..self }
    }

    /// Sets how expired values leave that nobody accesses.
    #[must_use]
    pub fn cleanup(self, cleanup: Cleanup) -> Self {
        Self { cleanup, ..self }
    }

    /// How long a value lives, in milliseconds.
    pub fn millis(&self) -> i64 {
        self.millis
    }

    /// Which time it goes by.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }

    /// How expired values leave that nobody accesses.
    pub fn cleanup_options(&self) -> Cleanup {
        self.cleanup
    }

    /// Whether something with this stamp has expired.
    #[inline]
    pub fn expired(&self, stamp: i64, clock: &StateTime) -> bool {
        stamp != UNSTAMPED && stamp.saturating_add(self.millis) <= clock.now(self.domain)
    }

    /// Whether something with this stamp is hidden.
    #[inline]
    pub(crate) fn hides(&self, stamp: i64, clock: &StateTime) -> bool {
        self.visibility == Visibility::Never && self.expired(stamp, clock)
    }

    /// The stamp after a read.
    #[inline]
    pub(crate) fn after_read(&self, stamp: i64, clock: &StateTime) -> i64 {
        match self.refresh {
            Refresh::OnWrite => stamp,
            Refresh::OnReadAndWrite => stamp.max(clock.stamp(self.domain)),
        }
    }

    #[inline]
    pub(crate) fn refreshes_on_read(&self) -> bool {
        self.refresh == Refresh::OnReadAndWrite
    }

    #[inline]
    pub(crate) fn stamp(&self, clock: &StateTime) -> i64 {
        clock.stamp(self.domain)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.millis > 0 {
            return Ok(());
        }
        Err(Error::invalid("a time-to-live must be one millisecond at least; for none, leave it out"))
    }
}

/// What time it is for a backend, as whoever drives it says. A backend has no clock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTime {
    /// Milliseconds since the epoch; `i64::MIN` before it is known.
    pub processing_time: i64,
    /// The watermark; `i64::MIN` before the first.
    pub watermark: i64,
    /// The event time of the record or timer at hand; [`NO_TIMESTAMP`] where there is none.
    pub timestamp: i64,
}

impl StateTime {
    /// When nothing is known yet.
    pub const UNKNOWN: Self =
        Self { processing_time: i64::MIN, watermark: i64::MIN, timestamp: NO_TIMESTAMP };

    /// The time by which values expire.
    #[inline]
    pub fn now(&self, domain: TimeDomain) -> i64 {
        match domain {
            TimeDomain::Event => self.watermark,
            TimeDomain::Processing => self.processing_time,
        }
    }

    /// The time of a write.
    #[inline]
    fn stamp(&self, domain: TimeDomain) -> i64 {
        match domain {
            TimeDomain::Event if self.timestamp != NO_TIMESTAMP => self.timestamp,
            TimeDomain::Event => self.watermark,
            TimeDomain::Processing => self.processing_time,
        }
    }
}

impl Default for StateTime {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// A value and when it was last used: how backends hold what has a time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed<V> {
    /// In milliseconds; `i64::MIN` where no time was known.
    pub stamp: i64,
    /// The value.
    pub value: V,
}

impl<V> Timed<V> {
    /// A value that is fresh as long as it is not touched.
    pub(crate) fn unstamped(value: V) -> Self {
        Self { stamp: UNSTAMPED, value }
    }
}

/// Eight bytes of stamp, little endian, then the value in the codec of the state.
pub(crate) struct TimedCodec<V>(pub(crate) Arc<dyn Codec<V>>);

/// What the codec of a state with a time-to-live has in front of its name.
pub(crate) const TIMED: &str = "ttl8+";

impl<V: 'static> Codec<Timed<V>> for TimedCodec<V> {
    fn id(&self) -> String {
        format!("{TIMED}{}", self.0.id())
    }

    fn encode(&self, value: &Timed<V>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&value.stamp.to_le_bytes());
        self.0.encode(&value.value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Timed<V>> {
        let (stamp, value) = split_stamp(bytes)?;
        Ok(Timed { stamp, value: self.0.decode(value)? })
    }

    fn is_self_describing(&self) -> bool {
        self.0.is_self_describing()
    }
}

/// Takes the stamp off an encoded value with a time-to-live.
pub(crate) fn split_stamp(bytes: &[u8]) -> Result<(i64, &[u8])> {
    let Some((stamp, value)) = bytes.split_first_chunk() else {
        return Err(Error::corrupt(format!("{} bytes are too few for a stamp and a value", bytes.len())));
    };
    Ok((i64::from_le_bytes(*stamp), value))
}

/// For backends: how to see whether a value that they hold, of type `V`, has expired.
pub struct Expiry<V> {
    ttl: Ttl,
    stamp: fn(&V) -> i64,
}

impl<V> Expiry<Timed<V>> {
    pub(crate) fn new(ttl: Ttl) -> Self {
        Self { ttl, stamp: |timed| timed.stamp }
    }
}

impl<V> Expiry<V> {
    /// How long values live.
    pub fn ttl(&self) -> &Ttl {
        &self.ttl
    }

    /// Whether a value has expired.
    #[inline]
    pub fn expired(&self, value: &V, clock: &StateTime) -> bool {
        self.ttl.expired((self.stamp)(value), clock)
    }

    /// The same of an encoded value (for lists: of an element). One that is too short has not: it is told when it is read.
    #[inline]
    pub fn expired_bytes(ttl: &Ttl, bytes: &[u8], clock: &StateTime) -> bool {
        split_stamp(bytes).is_ok_and(|(stamp, _)| ttl.expired(stamp, clock))
    }
}

impl<V> Clone for Expiry<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Expiry<V> {}

impl<V> fmt::Debug for Expiry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ttl.fmt(f)
    }
}

/// For backends: what of the encoded values of a snapshot has expired, and is left out of it.
///
/// By the time of its barrier: after a restore the watermark is that of then, and what lived then must live again.
#[derive(Clone, Debug, Default)]
pub struct Trimming {
    clock: StateTime,
    /// By name.
    states: BTreeMap<String, Ttl>,
}

/// What is left of an encoded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// All of it.
    Whole,
    /// A part of a list, which was written to the buffer.
    Part,
    /// Nothing.
    Gone,
}

impl Trimming {
    /// Nothing expires yet, and it is `clock`.
    pub fn at(clock: StateTime) -> Self {
        Self { clock, states: BTreeMap::new() }
    }

    /// Adds a state, if it asks for it.
    pub fn add(&mut self, name: &str, ttl: Ttl) {
        if ttl.cleanup_options().in_full_snapshots {
            self.states.insert(name.to_owned(), ttl);
        }
    }

    /// Whether it leaves out nothing at all.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// What is left of a value of a state; `part` is replaced by the rest of a list that is trimmed.
    pub fn trim(&self, state: &StateMeta, value: &[u8], part: &mut Vec<u8>) -> Trimmed {
        let Some(ttl) = self.states.get(&state.name) else { return Trimmed::Whole };
        let expired = |bytes| Expiry::<()>::expired_bytes(ttl, bytes, &self.clock);
        if state.kind != StateKind::List {
            return if expired(value) { Trimmed::Gone } else { Trimmed::Whole };
        }
        part.clear();
        let mut all = true;
        for element in list::elements(value) {
            match element {
                Ok(element) if expired(element) => all = false,
                Ok(element) => list::push(part, element),
                // It is told when it is read.
                Err(_) => return Trimmed::Whole,
            }
        }
        match (all, part.is_empty()) {
            (true, _) => Trimmed::Whole,
            (false, true) => Trimmed::Gone,
            (false, false) => Trimmed::Part,
        }
    }
}

/// Of states whose values stay until they are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lasting;

/// Of states whose values have a time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring(pub Ttl);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(now: i64) -> StateTime {
        StateTime { processing_time: now, ..StateTime::UNKNOWN }
    }

    #[test]
    fn the_instant_of_expiry_is_included_and_sums_saturate() {
        let ttl = Ttl::processing_time(Duration::from_millis(10));
        assert!(!ttl.expired(5, &at(14)));
        assert!(ttl.expired(5, &at(15)));
        assert!(!ttl.expired(5, &StateTime::UNKNOWN));
        assert!(!ttl.expired(UNSTAMPED, &at(i64::MAX - 1)), "what has no stamp is fresh");
        let forever = Ttl::processing_time(Duration::MAX);
        assert!(!forever.expired(5, &at(i64::MAX - 1)));
        assert!(forever.expired(5, &at(i64::MAX)));
    }

    #[test]
    fn event_time_stamps_with_the_record_and_expires_with_the_watermark() {
        let ttl = Ttl::event_time(Duration::from_millis(10));
        let clock = StateTime { processing_time: 1_000_000, watermark: 100, timestamp: 120 };
        assert_eq!(ttl.stamp(&clock), 120);
        assert_eq!(ttl.stamp(&StateTime { timestamp: NO_TIMESTAMP, ..clock }), 100);
        assert!(!ttl.expired(91, &clock));
        assert!(ttl.expired(90, &clock));
    }

    #[test]
    fn a_duration_of_nothing_is_refused() {
        assert!(Ttl::processing_time(Duration::from_micros(999)).check().is_err());
        assert!(Ttl::processing_time(Duration::from_millis(1)).check().is_ok());
    }
}
