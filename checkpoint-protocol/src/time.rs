//! Time as a number that is handed in.

use std::fmt;
use std::time::Duration;

/// A point in time: milliseconds since an origin that the caller chooses once (the start of the process, the
/// epoch).
///
/// No machine of this crate reads a clock. Whoever drives one takes the time from a clock that never runs
/// backwards; a simulation or a model hands in any number it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The time `wait` later, at most the largest there is. A fraction of a millisecond counts as a whole
    /// one, so that a deadline is never early.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let millis = wait.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_never_early_and_never_overflow() {
        assert_eq!(Millis(5).after(Duration::from_micros(1)), Millis(6));
        assert_eq!(Millis(5).after(Duration::MAX), Millis(u64::MAX));
        assert_eq!(Millis(7).since(Millis(5)), Duration::from_millis(2));
        assert_eq!(Millis(5).since(Millis(7)), Duration::ZERO);
    }
}
