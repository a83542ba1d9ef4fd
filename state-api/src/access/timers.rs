//! Access to timers.

use super::{Entry, StateHandle};
use crate::backend::{KeyedBackend, StateId, Timers};
use crate::state::TimerService;
use crate::{Result, StateKey, Timestamp};

/// Access to the timers of one key and namespace.
///
/// # Errors
/// Those of [`ValueAccess`](super::ValueAccess).
#[derive(Debug)]
pub struct TimerAccess<'a, B: KeyedBackend, N> {
    entry: Entry<'a, B, N>,
    service: TimerService<N>,
}

impl<N: StateKey> StateHandle for TimerService<N> {
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = TimerAccess<'a, B, N>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> TimerAccess<'_, B, N> {
        TimerAccess { entry, service: self }
    }
}

impl<B: KeyedBackend, N: StateKey> TimerAccess<'_, B, N> {
    /// Registers a timer that is due at `time`; returns whether the timer is new.
    #[inline]
    pub fn register(self, time: impl Into<Timestamp>) -> Result<bool> {
        let (backend, at) = self.entry.open()?;
        backend.timers::<N>(self.service.id)?.register(at, time.into())
    }

    /// Deletes the timer that is due at `time`; returns whether one existed.
    #[inline]
    pub fn delete(self, time: impl Into<Timestamp>) -> Result<bool> {
        let (backend, at) = self.entry.open()?;
        backend.timers::<N>(self.service.id)?.delete(at, time.into())
    }
}
