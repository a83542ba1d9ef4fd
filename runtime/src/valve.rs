//! The watermark of a task with several inputs.

use strandline_state_api::Timestamp;

/// Combines the watermarks of channels: the least of all that are not idle. It never falls. (Flink:
/// `StatusWatermarkValve`.)
///
/// A channel that was idle and whose watermark is behind the combined one does not count until it has caught
/// up. When all channels are idle, the combined watermark rises to the greatest of all.
#[derive(Debug)]
pub(crate) struct WatermarkValve {
    channels: Vec<ChannelTime>,
    watermark: Option<Timestamp>,
    idle: bool,
}

#[derive(Clone, Copy, Debug)]
struct ChannelTime {
    watermark: Option<Timestamp>,
    idle: bool,
    /// It has not been idle, or has caught up since.
    counts: bool,
}

/// What the task passes on: a watermark, and then that it is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) idle: bool,
}

impl WatermarkValve {
    pub(crate) fn new(channels: usize) -> Self {
        let channel = ChannelTime { watermark: None, idle: false, counts: true };
        Self { channels: vec![channel; channels], watermark: None, idle: false }
    }

    /// The watermark of the channel `at`, and whether nobody waits for it.
    pub(crate) fn channel(&self, at: usize) -> (Option<Timestamp>, bool) {
        self.channels.get(at).map_or((None, false), |channel| (channel.watermark, channel.idle))
    }

    /// How many channels there are.
    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Takes a watermark of the channel `at`, which is not idle then.
    pub(crate) fn watermark(&mut self, at: usize, watermark: Timestamp) -> Passed {
        let combined = self.watermark;
        let Some(channel) = self.channels.get_mut(at) else { return Passed::default() };
        let before = *channel;
        channel.watermark = before.watermark.max(Some(watermark));
        channel.idle = false;
        channel.counts = before.counts || channel.watermark >= combined;
        let wakes = std::mem::take(&mut self.idle);
        // Another channel has the least watermark, and still has it.
        if !wakes && before.counts && before.watermark > combined {
            return Passed::default();
        }
        let risen = self.combine();
        // A task that was idle shows that it is not any more, with the watermark that it had.
        let watermark = risen.or(wakes.then(|| self.watermark.unwrap_or(Timestamp::MIN)));
        Passed { watermark, idle: false }
    }

    /// Notes that nobody waits for the channel `at`.
    pub(crate) fn idle(&mut self, at: usize) -> Passed {
        let Some(channel) = self.channels.get_mut(at) else { return Passed::default() };
        if std::mem::replace(&mut channel.idle, true) {
            return Passed::default();
        }
        channel.counts = false;
        if !self.channels.iter().all(|channel| channel.idle) {
            return Passed { watermark: self.combine(), idle: false };
        }
        self.idle = true;
        let greatest = self.channels.iter().map(|channel| channel.watermark).max().flatten();
        Passed { watermark: self.rise(greatest), idle: true }
    }

    fn combine(&mut self) -> Option<Timestamp> {
        let counting = self.channels.iter().filter(|channel| channel.counts);
        let least = counting.map(|channel| channel.watermark).min().flatten();
        self.rise(least)
    }

    /// Returns the watermark to pass on if `to` is a new one.
    fn rise(&mut self, to: Option<Timestamp>) -> Option<Timestamp> {
        if to <= self.watermark {
            return None;
        }
        self.watermark = to;
        to
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_slowest_channel_decides_unless_it_is_idle() {
        let mut valve = WatermarkValve::new(3);
        let passed = |watermark: Option<i64>, idle| Passed { watermark: watermark.map(at), idle };
        assert_eq!(valve.watermark(0, at(5)), passed(None, false));
        assert_eq!(valve.watermark(1, at(7)), passed(None, false));
        assert_eq!(valve.idle(2), passed(Some(5), false));
        assert_eq!(valve.watermark(0, at(9)), passed(Some(7), false));
        assert_eq!(valve.watermark(2, at(2)), passed(None, false), "it is behind");
        assert_eq!(valve.watermark(1, at(8)), passed(Some(8), false), "and holds nobody back");
        assert_eq!(valve.watermark(2, at(8)), passed(None, false), "it has caught up");
        assert_eq!(valve.watermark(1, at(20)), passed(None, false), "and holds the others back");
        assert_eq!(valve.idle(0), passed(None, false));
        assert_eq!(valve.idle(0), passed(None, false));
        assert_eq!(valve.idle(2), passed(Some(20), false));
        assert_eq!(valve.idle(1), passed(None, true));
        assert_eq!(valve.watermark(0, at(9)), passed(Some(20), false), "it shows that it is not idle");
        assert_eq!(valve.watermark(0, Timestamp::MAX), passed(Some(i64::MAX), false));
    }

    #[test]
    fn the_greatest_watermark_passes_when_all_are_idle() {
        let mut valve = WatermarkValve::new(2);
        valve.watermark(0, at(5));
        assert_eq!(valve.idle(1), Passed { watermark: Some(at(5)), idle: false });
        valve.watermark(1, at(30));
        valve.idle(0);
        assert_eq!(valve.idle(1), Passed { watermark: None, idle: true });
        let mut valve = WatermarkValve::new(2);
        valve.watermark(0, at(5));
        assert_eq!(valve.idle(0), Passed::default());
        assert_eq!(valve.idle(1), Passed { watermark: Some(at(5)), idle: true });
    }

    proptest! {
        /// The shortcut for channels that are not the slowest never changes what passes.
        #[test]
        fn what_passes_is_the_least_that_counts(
            steps in proptest::collection::vec((0usize..4, proptest::option::weighted(0.8, 0i64..40)), 1..80),
        ) {
            let mut valve = WatermarkValve::new(4);
            let mut model = [(None, false, true); 4];
            let mut combined = None;
            for (channel, watermark) in steps {
                let (known, idle, counts) = &mut model[channel];
                let before = combined;
                match watermark {
                    Some(watermark) => {
                        *known = (*known).max(Some(watermark));
                        (*idle, *counts) = (false, *counts || *known >= combined);
                    }
                    None => (*idle, *counts) = (true, false),
                }
                let counting = model.iter().filter(|(_, _, counts)| *counts).map(|(known, _, _)| *known);
                let mut least = counting.min().flatten();
                if model.iter().all(|(_, idle, _)| *idle) {
                    least = model.iter().map(|(known, _, _)| *known).max().flatten();
                }
                combined = combined.max(least);
                match watermark {
                    Some(watermark) => valve.watermark(channel, at(watermark)),
                    None => valve.idle(channel),
                };
                prop_assert_eq!(valve.watermark, combined.map(at));
                prop_assert!(combined >= before);
            }
        }
    }
}
