//! The time of a loop: what expires, and which timers are due.

use strandline_state_api::backend::{CheckpointedBackend, TimerEntry, Timers};
use strandline_state_api::{
    Error, KeyedBackend, Result, StateKey, TimeDomain, Timer, TimerService, Timestamp,
};

use super::worker::Worker;

/// Keys between two steps of the clean-up of state that expires.
const CLEANING_PAUSE: usize = 256;

/// The time of a loop.
#[derive(Debug, Default)]
pub(super) struct LoopTime {
    /// Whether a state has a time-to-live.
    pub(super) expires: bool,
    /// Whether the loop sets the processing time itself; otherwise the system clock does.
    is_set: bool,
    pub(super) watermark: Option<Timestamp>,
    /// The watermark before the current one: what a timer that is due sees at least.
    before: Option<Timestamp>,
    /// Keys that were visited since the last clean-up.
    uncleaned: usize,
    /// The error of a clean-up; the next checkpoint returns it.
    pub(super) failed: Option<Error>,
}

impl LoopTime {
    /// A record of some key passes.
    #[inline]
    pub(super) fn pass<B: KeyedBackend>(&mut self, backend: &mut B) {
        if self.expires {
            self.tick(backend);
            self.clean_up(backend);
        }
    }

    /// Reads the system clock, unless the loop sets the time.
    fn tick<B: KeyedBackend>(&mut self, backend: &mut B) {
        if !self.is_set {
            // A clock that is set back does not make values younger.
            let now = Some(Timestamp::of_system_clock());
            let clock = backend.clock();
            clock.processing_time = clock.processing_time.max(now);
        }
    }

    fn clean_up<B: KeyedBackend>(&mut self, backend: &mut B) {
        self.uncleaned += 1;
        if self.uncleaned == CLEANING_PAUSE {
            self.uncleaned = 0;
            if let Err(error) = backend.clean_up(CLEANING_PAUSE) {
                self.failed.get_or_insert(error);
            }
        }
    }

    pub(super) fn restore<B: KeyedBackend>(&mut self, backend: &mut B, watermark: Option<Timestamp>) {
        (self.watermark, self.before) = (watermark, watermark);
        backend.clock().watermark = watermark;
    }
}

/// Time.
impl<B: CheckpointedBackend, R> Worker<B, R> {
    /// Sets the processing time, which does not go back. From then on the loop goes by the times that it
    /// sets; until then it goes by the system clock.
    pub fn set_time(&mut self, now: impl Into<Timestamp>) {
        self.time.is_set = true;
        let clock = self.backend.clock();
        clock.processing_time = clock.processing_time.max(Some(now.into()));
    }

    /// Sets the event time of the record that comes next: it stamps the values of states with a time-to-live
    /// in event time. `None` for a record without one.
    pub fn set_timestamp(&mut self, timestamp: Option<Timestamp>) {
        self.backend.clock().timestamp = timestamp;
    }

    /// Raises the watermark: values expire by it, and [`due`](Self::due) returns the event timers up to it.
    /// It does not go back, and is part of every checkpoint.
    pub fn set_watermark(&mut self, watermark: impl Into<Timestamp>) {
        let watermark = Some(watermark.into());
        if self.time.watermark < watermark {
            self.time.before = self.time.watermark;
            self.time.watermark = watermark;
            self.backend.clock().watermark = watermark;
        }
    }

    /// The watermark, after the first.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.time.watermark
    }

    /// Removes and returns the earliest timer of `service` that the watermark, or the processing time, has
    /// reached. Call it until it returns `None`:
    ///
    /// ```text
    /// job.set_watermark(watermark);
    /// while let Some(timer) = job.due(ends)? {
    ///     let count = job.at(&timer.key).state(counts).take()?;
    /// }
    /// ```
    ///
    /// State that expires after the time of a timer is still visible to that timer, even if the watermark has
    /// jumped further.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) before the restore, and for a service of another
    /// loop; those of a store beneath the backend.
    pub fn due<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<Timer<B::Key, N>>> {
        self.check_restored()?;
        let is_event_time = service.domain() == TimeDomain::Event;
        if !is_event_time {
            self.time.tick(&mut self.backend);
        }
        let up_to = match service.domain() {
            TimeDomain::Event => self.time.watermark,
            TimeDomain::Processing => self.backend.clock().processing_time,
        };
        let popped = match up_to {
            Some(up_to) => self.backend.timers::<N>(service.id())?.pop(up_to)?,
            None => None,
        };
        let clock = self.backend.clock();
        clock.timestamp = popped.as_ref().map(|timer| timer.time);
        if is_event_time {
            clock.watermark = match clock.timestamp {
                Some(time) => self.time.before.max(Some(time)),
                None => self.time.watermark,
            };
        }
        Ok(popped.map(|TimerEntry { time, key, namespace, .. }| Timer { time, key, namespace, service }))
    }

    /// The time of the earliest pending timer of `service`.
    ///
    /// # Errors
    /// As [`due`](Self::due).
    pub fn next_timer<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<Timestamp>> {
        self.check_restored()?;
        self.backend.timers::<N>(service.id())?.next()
    }
}
