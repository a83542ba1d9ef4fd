//! When checkpoints start, how long they may take, how many may fail.

use std::time::Duration;

/// The rules of a [`Coordinator`](super::Coordinator).
///
/// The defaults are Flink's (`execution.checkpointing.*`): on demand only, no pause, ten minutes, one at a
/// time, no failure tolerated, 1,000 requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Time from one periodic checkpoint to the next; `None`, or zero, for checkpoints on demand only.
    pub interval: Option<Duration>,
    /// Time from the start of the job to its first periodic checkpoint; `None` for one interval. Hand in a
    /// random part of the interval where many jobs start together.
    pub initial_delay: Option<Duration>,
    /// Time from one periodic checkpoint to the next while sources [have a
    /// backlog](super::Coordinator::set_backlog); `None` for the same as otherwise, zero for no periodic
    /// checkpoints meanwhile.
    pub backlog_interval: Option<Duration>,
    /// The least time between the end of a checkpoint, complete or not, and the start of a periodic one. What
    /// an operator, a person or a program asks for does not wait for it.
    pub min_pause: Duration,
    /// How long a checkpoint may take from its trigger to its last acknowledgement before it is aborted. The
    /// commit that follows is not bound by it: a commit under way may already have happened.
    pub timeout: Duration,
    /// How many checkpoints may be under way at once; 0 counts as 1. One savepoint and one final checkpoint
    /// may run beside them.
    pub max_concurrent: u32,
    /// How many checkpoints in a row may fail before the job does; `u32::MAX` for any number.
    pub tolerable_failures: u32,
    /// How many requests may wait at once; a more urgent one takes the place of the last.
    pub max_requests: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            interval: None,
            initial_delay: None,
            backlog_interval: None,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            max_concurrent: 1,
            tolerable_failures: 0,
            max_requests: 1_000,
        }
    }
}

impl Policy {
    /// A checkpoint every `interval`, the rest as by default.
    pub fn every(interval: Duration) -> Self {
        Self { interval: Some(interval), ..Self::default() }
    }

    /// The interval, with a backlog or without, if there is one that can be kept.
    pub(super) fn period(&self, backlog: bool) -> Option<Duration> {
        let interval = match self.backlog_interval {
            Some(of_backlog) if backlog => self.interval.and(Some(of_backlog)),
            _ => self.interval,
        };
        interval.filter(|interval| *interval >= Duration::from_millis(1))
    }

    /// The concurrency in effect.
    pub(super) fn concurrency(&self) -> usize {
        self.max_concurrent.max(1) as usize
    }
}
