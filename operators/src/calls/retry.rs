//! When a call starts again.

use std::fmt;
use std::time::Duration;

use strandline_state_api::Result;

use crate::window::millis;

/// Which calls start again, and after which pauses (Flink: `AsyncRetryStrategy`).
pub struct Retry<R> {
    /// How often a call starts at most.
    pub(super) attempts: u32,
    /// The first pause, and the longest, in milliseconds.
    first: i64,
    longest: i64,
    on: fn(&Result<R>) -> bool,
}

impl<R> Retry<R> {
    /// No call starts again.
    pub fn never() -> Self {
        Self::growing(1, Duration::ZERO, Duration::ZERO)
    }

    /// A call that fails starts again after `pause`, until it has started `attempts` times.
    pub fn fixed(attempts: u32, pause: Duration) -> Self {
        Self::growing(attempts, pause, pause)
    }

    /// A call that fails starts again after `first`, then after twice as long, and so on up to `longest`, until it
    /// has started `attempts` times.
    pub fn growing(attempts: u32, first: Duration, longest: Duration) -> Self {
        Self { attempts, first: millis(first), longest: millis(longest), on: |reply| reply.is_err() }
    }

    /// Sets after which replies a call starts again; unless set, after errors. An answer may be one that asks to
    /// try later, and an error one that stays.
    #[must_use]
    pub fn on(self, on: fn(&Result<R>) -> bool) -> Self {
        Self { on, ..self }
    }

    /// Returns the pause in milliseconds before the call starts again that has started `attempts` times; `None` where
    /// the reply stands.
    pub(super) fn pause(&self, attempts: u32, reply: &Result<R>) -> Option<i64> {
        if attempts >= self.attempts || !(self.on)(reply) {
            return None;
        }
        let doubled = 1i64.checked_shl(attempts.saturating_sub(1)).filter(|factor| *factor > 0);
        Some(self.first.saturating_mul(doubled.unwrap_or(i64::MAX)).min(self.longest))
    }
}

impl<R> Clone for Retry<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Retry<R> {}

impl<R> fmt::Debug for Retry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, first, longest, .. } = self;
        f.debug_struct("Retry")
            .field("attempts", attempts)
            .field("first", first)
            .field("longest", longest)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use strandline_state_api::Error;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry::<u8>::growing(90, Duration::from_millis(10), Duration::from_millis(75));
        let failed = Err(Error::invalid("no"));
        let pauses: Vec<_> = [1, 2, 3, 4, 70, 89, 90].map(|attempts| retry.pause(attempts, &failed)).into();
        assert_eq!(pauses, [Some(10), Some(20), Some(40), Some(75), Some(75), Some(75), None]);
        assert_eq!(retry.pause(1, &Ok(3)), None);
        assert_eq!(retry.on(|reply| matches!(reply, Ok(3))).pause(1, &Ok(3)), Some(10));
        assert_eq!(Retry::never().pause(1, &Err::<u8, _>(Error::invalid("no"))), None);
    }
}
