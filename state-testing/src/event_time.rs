//! The event time of a record in a test.

use strandline_state_api::Timestamp;

/// The event time of a record: a number of milliseconds, a [`Timestamp`], or an optional one; `None` stands
/// for a record without an event time.
///
/// ```
/// use strandline_state_api::Timestamp;
/// use strandline_state_testing::EventTime;
///
/// assert_eq!(1_000.event_time(), Some(Timestamp::from_millis(1_000)));
/// assert_eq!(None.event_time(), None);
/// ```
pub trait EventTime {
    /// Returns the event time.
    fn event_time(self) -> Option<Timestamp>;
}

impl EventTime for i64 {
    fn event_time(self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(self))
    }
}

impl EventTime for Timestamp {
    fn event_time(self) -> Option<Timestamp> {
        Some(self)
    }
}

impl EventTime for Option<Timestamp> {
    fn event_time(self) -> Option<Timestamp> {
        self
    }
}
