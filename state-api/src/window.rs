//! Time windows, the namespaces of windowed state.

use serde::{Deserialize, Serialize};

use crate::{KeyHash, Result, StateKey, Timestamp};

/// The time from `start` up to but not including `end`, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// The first millisecond of the window.
    pub start: i64,
    /// The first millisecond after the window.
    pub end: i64,
}

impl TimeWindow {
    /// Returns the tumbling window of `size` milliseconds that contains `time`; windows start at multiples of
    /// `size`.
    ///
    /// A `size` below 1 counts as 1. Bounds saturate at the ends of time.
    #[inline]
    pub fn tumbling(time: impl Into<Timestamp>, size: i64) -> Self {
        let (time, size) = (time.into().as_millis(), size.max(1));
        let start = time.saturating_sub(time.rem_euclid(size));
        Self { start, end: start.saturating_add(size) }
    }

    /// Returns the last instant of the window, at which its event-time timer is due.
    #[inline]
    pub fn max_timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.end.saturating_sub(1))
    }
}

impl StateKey for TimeWindow {
    const WIDTH: Option<usize> = Some(16);

    fn codec() -> String {
        "window".into()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        (self.start, self.end).encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        <(i64, i64)>::decode(bytes).map(|(start, end)| Self { start, end })
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut encoded = [0; 16];
        encoded[..8].copy_from_slice(&(self.start ^ i64::MIN).to_be_bytes());
        encoded[8..].copy_from_slice(&(self.end ^ i64::MIN).to_be_bytes());
        KeyHash::of_encoded(&encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_tile_time_below_zero_too() {
        assert_eq!(TimeWindow::tumbling(7, 5), TimeWindow { start: 5, end: 10 });
        assert_eq!(TimeWindow::tumbling(-1, 5), TimeWindow { start: -5, end: 0 });
        assert_eq!(TimeWindow::tumbling(-5, 5), TimeWindow { start: -5, end: 0 });
        assert_eq!(TimeWindow::tumbling(0, 5).max_timestamp(), Timestamp::from_millis(4));
        assert_eq!(TimeWindow::tumbling(i64::MAX, 10).end, i64::MAX);
    }

    #[test]
    fn the_short_cut_hash_is_the_hash_of_the_encoding() {
        let window = TimeWindow { start: -12, end: 99 };
        let mut encoded = Vec::new();
        window.encode(&mut encoded);
        assert_eq!(window.key_hash(), KeyHash::of_encoded(&encoded));
        assert_eq!(TimeWindow::decode(&encoded).unwrap(), window);
    }
}
