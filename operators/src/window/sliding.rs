//! Sliding windows over shared panes.

use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::backend::KeyedBackendExt as _;
use strandline_state_api::{
    Batch, Context, Error, KeyScope, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey,
    TimeDomain, TimeWindow, Timer, TimerService, Timestamp,
};

use super::aligned::{Output, ends, late};
use super::firing_panes::{Computed, FiringPanes};
use super::folds::KeptFolds;
use super::grid::Grid;
use super::settings::{Settings, Sliding, TimeWindows};
use super::times::Times;
use super::{Firing, WindowOutput, Windows};
use crate::Aggregate;

/// How many windows of a key fire at most before other keys have their turn, and a snapshot may be cut.
const MOST_WINDOWS: usize = 256;
/// The folds of a key with more panes are kept from one window to the next.
const FEW_PANES: usize = 8;

/// The operator of sliding windows.
///
/// The panes of a key are a map by their starts. A record changes one pane. Of the windows that have not fired, only
/// the next one has a timer: when it fires, all windows of the key that are due by then fire with it, and the timer
/// moves on to the next one that has a pane.
///
/// Where accumulators own no memory (numbers, not collections), the operator keeps folds of keys with many
/// panes, in a memory of its own that is bounded: then a window costs one or two merges. They follow from the panes
/// and are no part of the state.
pub struct SlidingWindows<K, A: Aggregate> {
    aggregate: A,
    settings: Settings,
    times: Times,
    panes: MapState<i64, A::Accumulator>,
    ends: TimerService<TimeWindow>,
    grid: Grid,
    kept: KeptFolds<K, A::Accumulator>,
    /// Kept for its memory.
    firing: FiringPanes<A::Accumulator>,
    key: PhantomData<fn(K)>,
}

impl<T: 'static> Windows<T> for TimeWindows<Sliding> {
    type Window = TimeWindow;
    type Operator<K: StateKey, A: Aggregate<In = T>> = SlidingWindows<K, A>;

    fn open<K, A, B>(&self, aggregate: &A, ctx: &mut Open<'_, B, TimeWindow>) -> Result<SlidingWindows<K, A>>
    where
        K: StateKey,
        A: Aggregate<In = T>,
        B: KeyedBackend<Key = K>,
    {
        let Self { shape, settings } = self;
        settings.check()?;
        if shape.slide == 0 || shape.slide > shape.size {
            let message = "sliding windows start at least every 1 ms and at most one size apart: choose a \
                           slide between";
            return Err(Error::invalid(message).with("size", shape.size).with("slide", shape.slide));
        }
        if settings.trigger.is_early() || settings.trigger.purging {
            let message = "sliding windows share their panes, so they fire at their ends only and do not \
                           purge: leave out the trigger, or choose a shorter slide";
            return Err(Error::invalid(message));
        }
        let panes = ctx.register(&MapDescriptor::evolving("panes", aggregate.storage()))?;
        let ends = ctx.register(&ends(settings.domain))?;
        Ok(SlidingWindows {
            aggregate: aggregate.clone(),
            settings: settings.clone(),
            times: Times { domain: settings.domain, lateness: settings.lateness },
            panes,
            ends,
            grid: Grid::new(*shape),
            kept: KeptFolds::default(),
            firing: FiringPanes::new(),
            key: PhantomData,
        })
    }
}

impl<K: StateKey, A: Aggregate> SlidingWindows<K, A> {
    /// Fires the windows of the key that are due, from `window` on, and registers the timer of the next one.
    fn fire<B: KeyedBackend<Key = K>>(
        &mut self,
        mut window: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        let Self { aggregate, times, panes, ends, grid, kept, firing, .. } = self;
        let (key, now) = (ctx.key(), times.now(ctx));
        let hash = key.key_hash();
        firing.begin();
        let was_kept = FiringPanes::<A::Accumulator>::FOLDS && kept.take(hash, key, firing.folds());
        let is_due = |window: TimeWindow| Some(times.fires_at(window)) <= now;
        let mut lasts = true;
        for fired in 1.. {
            let of = (&*aggregate, *grid, *panes);
            let Computed { value, begins, expires, next } =
                firing.compute(of, window, is_due, ctx.scope())?;
            if begins && fired > 1 {
                // The first record of a pane has registered a timer for its first window.
                ctx.state_in(*ends, &window).delete(times.fires_at(window))?;
            }
            if let Some(value) = value {
                let output = WindowOutput::of(key, window, value, Firing::OnTime);
                ctx.emit_at(output, window.max_timestamp());
            }
            if expires && times.lateness > 0 {
                ctx.state_in(*ends, &window).register(times.closes_at(window))?;
            }
            let Some(next) = next else {
                lasts = false;
                break;
            };
            if fired == MOST_WINDOWS || !is_due(next) {
                ctx.state_in(*ends, &next).register(times.fires_at(next))?;
                break;
            }
            window = next;
        }
        if times.lateness == 0 {
            for start in firing.take_expired() {
                ctx.state(*panes).remove(&start)?;
            }
        }
        if lasts && (was_kept || firing.has_read_more_than(FEW_PANES)) {
            kept.keep(hash, key, firing.folds());
        } else if was_kept {
            kept.forget(hash, key);
        }
        Ok(())
    }

    /// Fires the windows of the key whose timers are due and have not fired: after a restore a record may come
    /// before them, and would change the panes of windows for which it is late.
    fn catch_up<B: KeyedBackend<Key = K>>(
        &mut self,
        now: Option<Timestamp>,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        let mut window = self.first_pane(ctx.scope())?.map(|first| self.grid.first_behind(first));
        while let Some(current) = window.filter(|window| Some(self.times.fires_at(*window)) <= now) {
            if ctx.state_in(self.ends, &current).delete(self.times.fires_at(current))? {
                self.fire(current, ctx)?;
            }
            window = Some(self.grid.next(current)).filter(|next| next.end > current.end);
        }
        Ok(())
    }

    fn first_pane<B: KeyedBackend<Key = K>>(&self, scope: &mut KeyScope<'_, B>) -> Result<Option<i64>> {
        let mut first = None;
        scope.state(self.panes).for_each(|start, _| {
            first = Some(first.map_or(*start, |first: i64| first.min(*start)));
            Ok(())
        })?;
        Ok(first)
    }

    /// Corrects the windows of a late record that have fired and not closed; returns the first behind them.
    fn correct<B: KeyedBackend<Key = K>>(
        &mut self,
        mut window: TimeWindow,
        last: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<TimeWindow> {
        let now = self.times.now(ctx);
        self.firing.begin();
        while window.end <= last.end && Some(self.times.fires_at(window)) <= now {
            if Some(self.times.closes_at(window)) > now {
                self.firing.read(self.panes, window.start, ctx.scope())?;
                if let Some(value) = self.firing.merged(&self.aggregate, window)? {
                    let output = WindowOutput::of(ctx.key(), window, value, Firing::Late);
                    ctx.emit_at(output, window.max_timestamp());
                }
            }
            let next = self.grid.next(window);
            if next.end == window.end {
                break;
            }
            window = next;
        }
        Ok(window)
    }
}

impl<K: StateKey, A: Aggregate> Operator for SlidingWindows<K, A> {
    type Key = K;
    type In = A::In;
    type Out = Output<K, A>;
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: A::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = self.times.of_record(ctx)?.as_millis();
        let now = self.times.now(ctx);
        let last = self.grid.last_with(time);
        if Some(self.times.closes_at(last)) <= now {
            late(&self.settings, record, ctx);
            return Ok(());
        }
        let pane = self.grid.pane_of(time);
        let mut first = self.grid.first_behind(pane);
        let is_due = Some(self.times.fires_at(first)) <= now;
        if is_due {
            self.catch_up(now, ctx)?;
            // The record changes a pane of windows that have fired.
            self.kept.forget(ctx.key().key_hash(), ctx.key());
        }
        let (aggregate, mut is_new) = (&self.aggregate, false);
        let initial = || {
            is_new = true;
            aggregate.create()
        };
        let add = |pane: &mut A::Accumulator| aggregate.add(pane, record);
        ctx.state(self.panes).modify(pane, initial, add)??;
        if is_due {
            first = self.correct(first, last, ctx)?;
        }
        if is_new {
            if first.end <= last.end {
                ctx.state_in(self.ends, &first).register(self.times.fires_at(first))?;
            } else {
                ctx.state_in(self.ends, &last).register(self.times.closes_at(last))?;
            }
        }
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = timer.namespace;
        if timer.time == self.times.fires_at(window) {
            return self.fire(window, ctx);
        }
        // It has closed.
        let behind = self.grid.start_behind(window);
        let mut expired = Vec::new();
        ctx.state(self.panes).for_each(|start, _| {
            if *start < behind {
                expired.push(*start);
            }
            Ok(())
        })?;
        expired.iter().try_for_each(|start| ctx.state(self.panes).remove(start).map(drop))
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        if self.times.domain == TimeDomain::Event {
            // The watermark has reached the end of time, and all windows have fired.
            return Ok(());
        }
        let Self { aggregate, times, panes, ends, grid, firing, .. } = self;
        let (panes, ends) = (*panes, *ends);
        backend.apply_to_all_keys(panes, &(), |scope| {
            firing.begin();
            firing.read(panes, i64::MIN, scope)?;
            let mut window = firing.first_from(i64::MIN).map(|first| grid.first_behind(first));
            // The first window with a timer is the first that has not fired.
            let mut fires = false;
            while let Some(current) = window {
                fires |= scope.state_in(ends, &current).delete(times.fires_at(current))?;
                if fires && let Some(value) = firing.merged(aggregate, current)? {
                    let result = WindowOutput::of(scope.key(), current, value, Firing::OnTime);
                    output.push(result, current.max_timestamp());
                }
                window = firing.next_with_pane(*grid, current);
            }
            scope.state(panes).clear().map(drop)
        })
    }
}

impl<K, A: Aggregate + fmt::Debug> fmt::Debug for SlidingWindows<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingWindows")
            .field("grid", &self.grid)
            .field("aggregate", &self.aggregate)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}
