//! Where sliding windows and their panes begin and end.

use strandline_state_api::TimeWindow;

use super::settings::Sliding;
use super::times::floor;

/// Where windows and panes begin and end, in milliseconds. A pane is as long as the greatest common divisor of size
/// and slide, so each window consists of whole panes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    size: i64,
    pub(super) slide: i64,
    offset: i64,
    pub(super) pane: i64,
}

impl Grid {
    pub(super) fn new(Sliding { size, slide, offset }: Sliding) -> Self {
        let (mut a, mut b) = (size, slide);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Self { size, slide, offset, pane: a }
    }

    /// Returns the start of the pane of a time.
    #[inline]
    pub(super) fn pane_of(&self, time: i64) -> i64 {
        floor(time, self.offset, self.pane)
    }

    /// Returns the first window that ends behind `time`.
    #[inline]
    pub(super) fn first_behind(&self, time: i64) -> TimeWindow {
        let since = time.saturating_sub(self.offset).saturating_sub(self.size);
        let end = time.saturating_sub(since.rem_euclid(self.slide)).saturating_add(self.slide);
        self.ending(end)
    }

    /// Returns the last window that contains `time`.
    #[inline]
    pub(super) fn last_with(&self, time: i64) -> TimeWindow {
        let start = floor(time, self.offset, self.slide);
        TimeWindow { start, end: start.saturating_add(self.size) }
    }

    fn ending(&self, end: i64) -> TimeWindow {
        TimeWindow { start: end.saturating_sub(self.size), end }
    }

    /// Returns the start of the part of a window that the window before it does not have.
    #[inline]
    pub(super) fn last_slide(&self, window: TimeWindow) -> i64 {
        window.end.saturating_sub(self.slide)
    }

    /// Returns the next window; at the end of time, the same.
    #[inline]
    pub(super) fn next(&self, window: TimeWindow) -> TimeWindow {
        self.ending(window.end.saturating_add(self.slide))
    }

    /// Returns the window behind `window` that fires next, where `first` is the first pane that is left; `None` at the
    /// end of time.
    pub(super) fn next_with(&self, window: TimeWindow, first: i64) -> Option<TimeWindow> {
        let (next, of_pane) = (self.next(window), self.first_behind(first));
        Some(if of_pane.end > next.end { of_pane } else { next }).filter(|next| next.end > window.end)
    }

    /// Returns the start of the first pane that windows behind `window` have, too.
    #[inline]
    pub(super) fn start_behind(&self, window: TimeWindow) -> i64 {
        window.start.saturating_add(self.slide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_consist_of_whole_panes() {
        for (size, slide, offset) in [(10, 4, 0), (10, 5, 3), (7, 7, 1), (60, 1, 0), (9, 6, -2)] {
            let grid = Grid::new(Sliding { size, slide, offset });
            for time in -50..50 {
                let windows: Vec<_> = (-200..200)
                    .map(|n| TimeWindow { start: offset + n * slide, end: offset + n * slide + size })
                    .filter(|window| window.start <= time && time < window.end)
                    .collect();
                let pane = grid.pane_of(time);
                assert!(pane <= time && time < pane + grid.pane);
                assert_eq!(windows.first(), Some(&grid.first_behind(time)), "{size} {slide} {offset} {time}");
                assert_eq!(grid.first_behind(pane), grid.first_behind(time));
                assert_eq!(windows.last(), Some(&grid.last_with(time)));
                assert_eq!(grid.last_with(pane), grid.last_with(time));
                assert!(windows.is_sorted_by(|a, b| grid.next(*a) == *b));
            }
        }
    }
}
