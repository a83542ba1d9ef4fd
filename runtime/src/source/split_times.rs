//! The event time of a source that reads several splits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use strandline_state_api::Timestamp;

use super::{SourceTime, Watermarks};

/// Keeps the event time of each split of one subtask, for sources that know the times of their records
/// (Flink: `WatermarkOutputMultiplexer`).
///
/// The watermark of the subtask is that of its slowest split. A split of which nothing is known holds it back,
/// so that a source may read its splits one after another; better it reads the [slowest](Self::slowest) first,
/// and looks at the first record of a split ([`observe`](Self::observe)) before it reads it: then windows
/// close as early as they can. A split holds nothing back once it is [finished](Self::finish), or once it has
/// [waited](Self::wait) for records for the idle timeout.
///
/// ```
/// use std::time::{Duration, Instant};
/// use strandline_runtime::source::{SplitTimes, Watermarks};
/// use strandline_state_api::Timestamp;
///
/// let (day, now) = (|n: i64| Timestamp::from_millis(n * 86_400_000), Instant::now());
/// let mut times = SplitTimes::new(Watermarks::delayed(Duration::from_millis(9)));
/// times.open(0, None);
/// times.open(1, None);
/// times.observe(0, day(2));
/// assert_eq!(times.time(now).watermark, None, "nothing is known of split 1");
/// times.observe(1, day(1));
/// assert_eq!(times.slowest(), Some(1));
/// assert_eq!(times.time(now).watermark, Some(day(1).plus_millis(-10)));
/// times.finish(1);
/// assert_eq!(times.time(now).watermark, Some(day(2).plus_millis(-10)));
/// ```
#[derive(Clone, Debug)]
pub struct SplitTimes {
    watermarks: Watermarks,
    /// The greatest time of each split that holds the watermark back.
    splits: BTreeMap<usize, SplitTime>,
    /// Those that have records to read, the slowest first.
    readable: BTreeSet<(Option<Timestamp>, usize)>,
    /// Those that wait for records, the slowest first.
    waiting: BTreeSet<(Option<Timestamp>, usize)>,
    /// Since when each of them waits.
    since: BTreeSet<(Instant, usize)>,
    /// The greatest time of all splits that were opened.
    greatest: Option<Timestamp>,
    /// What [`time`](Self::time) returned last.
    watermark: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct SplitTime {
    greatest: Option<Timestamp>,
    waits_since: Option<Instant>,
}

impl SplitTimes {
    /// The times of a subtask without splits.
    pub fn new(watermarks: Watermarks) -> Self {
        Self {
            watermarks,
            splits: BTreeMap::new(),
            readable: BTreeSet::new(),
            waiting: BTreeSet::new(),
            since: BTreeSet::new(),
            greatest: None,
            watermark: None,
        }
    }

    /// Begins with all records up to `greatest` behind the subtask.
    pub fn begin_at(&mut self, greatest: Option<Timestamp>) {
        self.greatest = self.greatest.max(greatest);
        self.watermark = self.watermark.max(greatest.map(|greatest| self.watermarks.behind(greatest)));
    }

    /// Adds a split that has records to read, or one that waits for them and has some again. `greatest` is
    /// the greatest time of its records that were read, in an earlier run, too.
    pub fn open(&mut self, split: usize, greatest: Option<Timestamp>) {
        let known = self.remove(split).and_then(|known| known.greatest);
        let greatest = known.max(greatest);
        self.greatest = self.greatest.max(greatest);
        self.splits.insert(split, SplitTime { greatest, waits_since: None });
        self.readable.insert((greatest, split));
    }

    /// Takes the time of a record of `split`, read or about to be read next.
    pub fn observe(&mut self, split: usize, time: Timestamp) {
        let Some(known) = self.splits.get_mut(&split) else { return };
        if known.greatest >= Some(time) {
            return;
        }
        let set = if known.waits_since.is_some() { &mut self.waiting } else { &mut self.readable };
        set.remove(&(known.greatest, split));
        set.insert((Some(time), split));
        known.greatest = Some(time);
        self.greatest = self.greatest.max(Some(time));
    }

    /// Notes that everything of `split` was read, and that more may come.
    pub fn wait(&mut self, split: usize, now: Instant) {
        let Some(known) = self.splits.get_mut(&split).filter(|known| known.waits_since.is_none()) else {
            return;
        };
        known.waits_since = Some(now);
        let place = (known.greatest, split);
        self.readable.remove(&place);
        self.waiting.insert(place);
        self.since.insert((now, split));
    }

    /// Removes a split of which no record follows.
    pub fn finish(&mut self, split: usize) {
        self.remove(split);
    }

    fn remove(&mut self, split: usize) -> Option<SplitTime> {
        let known = self.splits.remove(&split)?;
        match known.waits_since {
            None => self.readable.remove(&(known.greatest, split)),
            Some(since) => {
                self.since.remove(&(since, split));
                self.waiting.remove(&(known.greatest, split))
            }
        };
        Some(known)
    }

    /// Returns the split to read next: of those that have records to read the one with the least time.
    pub fn slowest(&self) -> Option<usize> {
        self.readable.first().map(|(_, split)| *split)
    }

    /// Returns the greatest time of `split`; `None` when nothing is known of it.
    pub fn greatest(&self, split: usize) -> Option<Timestamp> {
        self.splits.get(&split)?.greatest
    }

    /// Returns the least of the greatest times of the splits that hold the watermark back. The inner `None`
    /// stands for a split of which nothing is known, the outer for no split.
    pub fn least(&self) -> Option<Option<Timestamp>> {
        let (readable, waiting) = (self.readable.first(), self.waiting.first());
        readable.into_iter().chain(waiting).map(|(greatest, _)| *greatest).min()
    }

    /// Returns the event time of the subtask, and gives up waiting for splits that were silent for the idle
    /// timeout. Watermarks never fall. A subtask for which no split is left to wait is idle, and its watermark
    /// is that behind everything it has read.
    pub fn time(&mut self, now: Instant) -> SourceTime {
        let timeout = self.watermarks.idle_timeout().unwrap_or(Duration::MAX);
        while let Some(&(since, split)) = self.since.first()
            && now.saturating_duration_since(since) >= timeout
        {
            self.remove(split);
        }
        let least = self.least();
        let greatest = least.unwrap_or(self.greatest);
        let watermark = greatest.map(|greatest| self.watermarks.behind(greatest));
        self.watermark = self.watermark.max(watermark);
        SourceTime { watermark: self.watermark, idle: least.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_millis(3);
    const TIMEOUT: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_silent_split_holds_back_until_the_timeout_and_again_when_it_speaks() {
        let start = Instant::now();
        let mut times = SplitTimes::new(Watermarks::delayed(Duration::ZERO).idle_after(TIMEOUT));
        for (split, time) in [(0, 10), (1, 50)] {
            times.open(split, None);
            times.observe(split, at(time));
        }
        times.wait(0, start);
        let of = |watermark, idle| SourceTime { watermark: Some(at(watermark)), idle };
        assert_eq!((times.time(start), times.slowest()), (of(9, false), Some(1)));
        assert_eq!(times.time(start + TIMEOUT), of(49, false));
        times.open(0, Some(at(10)));
        times.observe(0, at(12));
        assert_eq!((times.time(start + TIMEOUT), times.slowest()), (of(49, false), Some(0)));
        times.wait(0, start + TIMEOUT);
        times.wait(1, start + TIMEOUT);
        assert_eq!(times.time(start + 2 * TIMEOUT), of(49, true));
    }

    proptest! {
        /// The watermark is the least of the open splits' greatest times, whatever happens in what order.
        #[test]
        fn the_slowest_open_split_decides(
            steps in proptest::collection::vec((0usize..4, 0u8..4, 0i64..50), 1..60),
        ) {
            let now = Instant::now();
            let mut times = SplitTimes::new(Watermarks::delayed(DELAY));
            let mut model: BTreeMap<usize, (Option<i64>, bool)> = BTreeMap::new();
            let mut greatest = None;
            let mut before = None;
            for (split, what, time) in steps {
                match what {
                    0 => {
                        times.open(split, None);
                        model.entry(split).or_insert((None, false)).1 = false;
                    }
                    1 => {
                        times.observe(split, at(time));
                        if let Some((known, _)) = model.get_mut(&split) {
                            *known = (*known).max(Some(time));
                            greatest = greatest.max(*known);
                        }
                    }
                    2 => {
                        times.wait(split, now);
                        if let Some((_, waits)) = model.get_mut(&split) {
                            *waits = true;
                        }
                    }
                    _ => {
                        times.finish(split);
                        model.remove(&split);
                    }
                }
                let least = model.values().map(|(known, _)| *known).min();
                let wanted = least.unwrap_or(greatest).map(|least| at(least - 4));
                before = before.max(wanted);
                prop_assert_eq!(times.time(now), SourceTime { watermark: before, idle: model.is_empty() });
                let readable = model.iter().filter(|(_, (_, waits))| !waits);
                let slowest = readable.map(|(split, (known, _))| (*known, *split)).min();
                prop_assert_eq!(times.slowest(), slowest.map(|(_, split)| split));
            }
        }
    }
}
