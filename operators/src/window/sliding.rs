//! Sliding windows over shared panes.

use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::backend::KeyedBackendExt as _;
use strandline_state_api::{
    Batch, Context, Error, KeyScope, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey,
    TimeDomain, TimeWindow, Timer, TimerService, Timestamp,
};

use super::aligned::{Output, ends, late};
use super::settings::{Settings, Sliding, TimeWindows};
use super::times::{Times, floor};
use super::{Firing, WindowOutput, Windows};
use crate::Aggregate;

/// The operator of sliding windows.
///
/// The panes of a key are a map by their starts. A pane is as long as the greatest common divisor of size and
/// slide, so each window consists of whole panes. A record changes one pane, and a firing reads the panes of its
/// key once. Of the windows that have not fired, only the next one has a timer: when it fires, it registers the
/// one behind it that has a pane.
pub struct SlidingWindows<K, A: Aggregate> {
    aggregate: A,
    settings: Settings,
    times: Times,
    panes: MapState<i64, A::Accumulator>,
    ends: TimerService<TimeWindow>,
    grid: Grid,
    /// The panes of a window that fires, and those that go with it; kept for their memory.
    merged: Vec<(i64, A::Accumulator)>,
    expired: Vec<i64>,
    key: PhantomData<fn(K)>,
}

/// Where windows and panes begin and end, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Grid {
    size: i64,
    slide: i64,
    offset: i64,
    pane: i64,
}

impl Grid {
    fn new(Sliding { size, slide, offset }: Sliding) -> Self {
        let (mut a, mut b) = (size, slide);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Self { size, slide, offset, pane: a }
    }

    /// Returns the start of the pane of a time.
    #[inline]
    fn pane_of(&self, time: i64) -> i64 {
        floor(time, self.offset, self.pane)
    }

    /// Returns the first window that ends behind `time`.
    #[inline]
    fn first_behind(&self, time: i64) -> TimeWindow {
        let since = time.saturating_sub(self.offset).saturating_sub(self.size);
        let end = time.saturating_sub(since.rem_euclid(self.slide)).saturating_add(self.slide);
        self.ending(end)
    }

    /// Returns the last window that contains `time`.
    #[inline]
    fn last_with(&self, time: i64) -> TimeWindow {
        let start = floor(time, self.offset, self.slide);
        TimeWindow { start, end: start.saturating_add(self.size) }
    }

    fn ending(&self, end: i64) -> TimeWindow {
        TimeWindow { start: end.saturating_sub(self.size), end }
    }

    fn next(&self, window: TimeWindow) -> TimeWindow {
        self.ending(window.end.saturating_add(self.slide))
    }
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
            merged: Vec::new(),
            expired: Vec::new(),
            key: PhantomData,
        })
    }
}

impl<K: StateKey, A: Aggregate> SlidingWindows<K, A> {
    /// Computes the result of a window, and notes the panes that no later window has in `expired`. Returns the
    /// start of the first pane that later windows have, too.
    fn merge<B: KeyedBackend<Key = K>>(
        &mut self,
        window: TimeWindow,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<(Option<A::Out>, Option<i64>)> {
        let Self { merged, expired, grid, .. } = self;
        merged.clear();
        expired.clear();
        let behind = window.start.saturating_add(grid.slide);
        let mut next = None;
        scope.state(self.panes).for_each(|start, pane| {
            if window.start <= *start && *start < window.end {
                merged.push((*start, pane.clone()));
            }
            if *start < behind {
                expired.push(*start);
            } else {
                next = Some(next.map_or(*start, |next: i64| next.min(*start)));
            }
            Ok(())
        })?;
        merged.sort_unstable_by_key(|(start, _)| *start);
        let mut panes = merged.drain(..).map(|(_, pane)| pane);
        let Some(mut all) = panes.next() else { return Ok((None, next)) };
        for pane in panes {
            self.aggregate.merge(&mut all, pane)?;
        }
        Ok((Some(self.aggregate.result(&all)?), next))
    }

    fn remove_expired<B: KeyedBackend<Key = K>>(&mut self, scope: &mut KeyScope<'_, B>) -> Result<()> {
        for start in self.expired.drain(..) {
            scope.state(self.panes).remove(&start)?;
        }
        Ok(())
    }

    /// Returns the window behind `window` that fires next, where `first` is the first pane that is left.
    fn behind(&self, window: TimeWindow, first: i64) -> TimeWindow {
        let (next, of_pane) = (self.grid.next(window), self.grid.first_behind(first));
        if of_pane.end > next.end { of_pane } else { next }
    }

    /// Fires a window at its end, and registers the timer of the next one.
    fn end<B: KeyedBackend<Key = K>>(
        &mut self,
        window: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        let (value, next) = self.merge(window, ctx.scope())?;
        if let Some(value) = value {
            let output = WindowOutput::of(ctx.key(), window, value, Firing::OnTime);
            ctx.emit_at(output, window.max_timestamp());
        }
        if let Some(first) = next {
            let next = self.behind(window, first);
            ctx.state_in(self.ends, &next).register(self.times.fires_at(next))?;
        }
        if self.times.lateness == 0 {
            return self.remove_expired(ctx.scope());
        }
        if !self.expired.is_empty() {
            ctx.state_in(self.ends, &window).register(self.times.closes_at(window))?;
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
                self.end(current, ctx)?;
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
        while window.end <= last.end && Some(self.times.fires_at(window)) <= now {
            if Some(self.times.closes_at(window)) > now {
                let (value, _) = self.merge(window, ctx.scope())?;
                if let Some(value) = value {
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
            return self.end(window, ctx);
        }
        // It has closed.
        let behind = window.start.saturating_add(self.grid.slide);
        let expired = &mut self.expired;
        expired.clear();
        ctx.state(self.panes).for_each(|start, _| {
            if *start < behind {
                expired.push(*start);
            }
            Ok(())
        })?;
        self.remove_expired(ctx.scope())
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
        let (panes, ends) = (self.panes, self.ends);
        backend.apply_to_all_keys(panes, &(), |scope| {
            let mut window = self.first_pane(scope)?.map(|first| self.grid.first_behind(first));
            // The first window with a timer is the first that has not fired.
            let mut fires = false;
            while let Some(current) = window {
                fires |= scope.state_in(ends, &current).delete(self.times.fires_at(current))?;
                let (value, next) = self.merge(current, scope)?;
                if let Some(value) = value.filter(|_| fires) {
                    let result = WindowOutput::of(scope.key(), current, value, Firing::OnTime);
                    output.push(result, current.max_timestamp());
                }
                self.remove_expired(scope)?;
                window = next.map(|first| self.behind(current, first));
            }
            Ok(())
        })
    }
}

impl<K, A: Aggregate + fmt::Debug> fmt::Debug for SlidingWindows<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlidingWindows")
            .field("grid", &self.grid)
            .field("aggregate", &self.aggregate)
            .finish_non_exhaustive()
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
