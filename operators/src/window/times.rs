//! When a window fires and closes, and which time counts.

use strandline_state_api::{
    Context, Error, ErrorKind, KeyedBackend, Result, TimeDomain, TimeWindow, Timestamp,
};

/// Returns the last instant at or before `time` that is a multiple of `step` behind `offset`.
#[inline]
pub(crate) fn floor(time: i64, offset: i64, step: i64) -> i64 {
    time.saturating_sub(time.saturating_sub(offset).rem_euclid(step))
}

/// When a window fires and closes, and which time counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) domain: TimeDomain,
    /// In milliseconds.
    pub(crate) lateness: i64,
}

impl Times {
    /// Returns the time by which a record belongs to its windows.
    #[inline]
    pub(crate) fn of_record<B: KeyedBackend, O>(self, ctx: &Context<'_, B, O>) -> Result<Timestamp> {
        match self.domain {
            TimeDomain::Event => ctx.timestamp().ok_or_else(no_event_time),
            TimeDomain::Processing => ctx.processing_time().ok_or_else(no_processing_time),
        }
    }

    /// Returns the time that fires and closes windows.
    #[inline]
    pub(crate) fn now<B: KeyedBackend, O>(self, ctx: &Context<'_, B, O>) -> Option<Timestamp> {
        match self.domain {
            TimeDomain::Event => ctx.watermark(),
            TimeDomain::Processing => ctx.processing_time(),
        }
    }

    /// Returns when a window fires: in event time with the watermark of its last instant, which no record at
    /// or before can follow; in processing time one instant later, as records of the last instant may still
    /// come in it.
    #[inline]
    pub(crate) fn fires_at(self, window: TimeWindow) -> Timestamp {
        match self.domain {
            TimeDomain::Event => window.max_timestamp(),
            TimeDomain::Processing => Timestamp::from_millis(window.end),
        }
    }

    /// Returns when nothing of a window is left.
    #[inline]
    pub(crate) fn closes_at(self, window: TimeWindow) -> Timestamp {
        self.fires_at(window).plus_millis(self.lateness)
    }
}

#[cold]
fn no_event_time() -> Error {
    let message = "a record without an event time reached an operator of event time, such as a window: assign times \
                   at the source or with `timestamps`, or use processing time";
    Error::new(ErrorKind::User, message)
}

#[cold]
fn no_processing_time() -> Error {
    Error::invalid("the host has not set the processing time, which the operator needs")
}
