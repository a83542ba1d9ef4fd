//! Firings before the end of a window.

use serde::{Deserialize, Serialize};
use strandline_state_api::{
    Context, KeyScope, KeyedBackend, Open, Result, TimeDomain, TimeWindow, TimerDescriptor, TimerService,
    Timestamp, ValueDescriptor, ValueState,
};

use super::settings::Trigger;
use super::times::floor;

/// What has come to a window since it fired.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Pending {
    records: u64,
    /// The early timer of the window, if it has one.
    timer: Option<i64>,
}

/// The early firings of a window operator. A window has state here from its first record after a firing to the
/// next firing.
#[derive(Clone, Copy, Debug)]
pub(super) struct EarlyFirings {
    trigger: Trigger,
    /// The time of the windows, which need not be that of the interval.
    windows: TimeDomain,
    pending: ValueState<Pending, TimeWindow>,
    timers: Option<(i64, TimerService<TimeWindow>)>,
}

impl EarlyFirings {
    /// Registers what the trigger of windows in a time needs; `None` where it never fires early.
    pub(super) fn open<B: KeyedBackend>(
        trigger: Trigger,
        windows: TimeDomain,
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<Option<Self>> {
        if !trigger.is_early() {
            return Ok(None);
        }
        let pending = ctx.register(&ValueDescriptor::new("pending").namespaced())?;
        let timers = match trigger.every {
            None => None,
            Some((interval, TimeDomain::Event)) => {
                Some((interval, ctx.register(&TimerDescriptor::event_time("early"))?))
            }
            Some((interval, TimeDomain::Processing)) => {
                Some((interval, ctx.register(&TimerDescriptor::processing_time("early"))?))
            }
        };
        Ok(Some(Self { trigger, windows, pending, timers }))
    }

    /// Returns whether a timer is one of an early firing.
    pub(super) fn owns(&self, service: TimerService<TimeWindow>) -> bool {
        self.timers.is_some_and(|(_, timers)| timers == service)
    }

    /// Counts a record of a window; returns whether the window fires now. `at` is the namespace of the
    /// window, and `fires_at` the end of it.
    pub(super) fn record<B: KeyedBackend, O>(
        &self,
        ctx: &mut Context<'_, B, O>,
        at: &TimeWindow,
        fires_at: Timestamp,
    ) -> Result<bool> {
        let next = self.timers.and_then(|(interval, timers)| {
            let now = match timers.domain() {
                TimeDomain::Event => ctx.timestamp().max(ctx.watermark())?,
                TimeDomain::Processing => ctx.processing_time()?,
            };
            Some((floor(now.as_millis(), 0, interval).saturating_add(interval), timers))
        });
        // At its end the window fires anyway. Instants of different times do not compare.
        let next = next.filter(|(time, timers)| {
            timers.domain() != self.windows || Timestamp::from_millis(*time) < fires_at
        });
        let most = self.trigger.records;
        let (fires, timer) = ctx.state_in(self.pending, at).update_or_default(|pending| {
            pending.records += 1;
            let timer = next.filter(|_| pending.timer.is_none());
            if let Some((time, _)) = timer {
                pending.timer = Some(time);
            }
            (most.is_some_and(|most| pending.records >= most), timer)
        })?;
        if let Some((time, timers)) = timer.filter(|_| !fires) {
            ctx.state_in(timers, at).register(time)?;
        }
        Ok(fires)
    }

    /// Forgets what has come to a window, as it fires; returns whether anything had.
    pub(super) fn fired<B: KeyedBackend>(
        &self,
        scope: &mut KeyScope<'_, B>,
        at: &TimeWindow,
    ) -> Result<bool> {
        let Some(pending) = scope.state_in(self.pending, at).take()? else { return Ok(false) };
        if let (Some(time), Some((_, timers))) = (pending.timer, self.timers) {
            scope.state_in(timers, at).delete(time)?;
        }
        Ok(true)
    }

    /// Moves what has come to a window to another one, into which the window merges.
    pub(super) fn merge<B: KeyedBackend>(
        &self,
        scope: &mut KeyScope<'_, B>,
        into: &TimeWindow,
        from: &TimeWindow,
    ) -> Result<()> {
        let Some(other) = scope.state_in(self.pending, from).take()? else { return Ok(()) };
        let timer = scope.state_in(self.pending, into).update_or_default(|pending| {
            pending.records += other.records;
            if pending.timer.is_none() {
                pending.timer = other.timer;
                return other.timer;
            }
            None
        })?;
        let Some((_, timers)) = self.timers else { return Ok(()) };
        if let Some(time) = other.timer {
            scope.state_in(timers, from).delete(time)?;
        }
        if let Some(time) = timer {
            scope.state_in(timers, into).register(time)?;
        }
        Ok(())
    }
}
