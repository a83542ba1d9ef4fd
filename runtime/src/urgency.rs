//! What keeps a task from waiting for room in a channel while a barrier wants to overtake records.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::sync::lock;

/// No barrier wants to overtake anything.
const NEVER: u64 = u64::MAX;

/// From when on a task should come back to its loop, because the barrier that waits there may overtake
/// records then. Until it does, its messages may exceed the room of channels, within bounds.
#[derive(Debug)]
pub(crate) struct Urgency {
    epoch: Instant,
    /// In microseconds after the epoch.
    at: AtomicU64,
    /// The thread of the task.
    thread: Mutex<Option<Thread>>,
}

impl Urgency {
    /// Creates one for a task that waits as long as it must. `now` is the time that `raise` is about.
    pub(crate) fn new(now: Instant) -> Self {
        Self { epoch: now, at: AtomicU64::new(NEVER), thread: Mutex::new(None) }
    }

    /// Makes the calling thread the one that is woken.
    pub(crate) fn attach(&self) {
        *lock(&self.thread) = Some(thread::current());
    }

    /// Lets the task wait no longer than until `at`.
    pub(crate) fn raise(&self, at: Instant) {
        let micros = at.saturating_duration_since(self.epoch).as_micros();
        let micros = u64::try_from(micros).unwrap_or(NEVER - 1);
        if self.at.fetch_min(micros, SeqCst) > micros
            && let Some(thread) = &*lock(&self.thread)
        {
            thread.unpark();
        }
    }

    /// Lets the task wait again: it looks for barriers next.
    pub(crate) fn calm(&self) {
        if self.at.load(SeqCst) != NEVER {
            self.at.store(NEVER, SeqCst);
        }
    }

    /// From when on the task should not wait.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.at.load(SeqCst) {
            NEVER => None,
            micros => Some(self.epoch + Duration::from_micros(micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_counts_until_the_task_looks() {
        let start = Instant::now();
        let urgency = Urgency::new(start);
        assert_eq!(urgency.until(), None);
        urgency.raise(start + Duration::from_millis(5));
        urgency.raise(start + Duration::from_millis(9));
        assert_eq!(urgency.until(), Some(start + Duration::from_millis(5)));
        urgency.raise(start);
        assert_eq!(urgency.until(), Some(start));
        urgency.calm();
        assert_eq!(urgency.until(), None);
    }
}
