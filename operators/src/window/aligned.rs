//! Tumbling windows and the global window: each record is in exactly one.

use std::fmt;

use strandline_state_api::backend::KeyedBackendExt as _;
use strandline_state_api::{
    Batch, Context, Error, KeyScope, KeyedBackend, Open, Operator, Result, StateKey, TimeDomain, TimeWindow,
    Timer, TimerDescriptor, TimerService, Timestamp, ValueDescriptor, ValueState,
};

use super::early::EarlyFirings;
use super::settings::{Aligned, Settings, TimeWindows};
use super::times::{Times, floor};
use super::{Firing, LateRow, WindowOutput, Windows};
use crate::Aggregate;

/// The window of all time. Its end is the end of time, which the watermark reaches with the end of the input.
const GLOBAL: TimeWindow = TimeWindow { start: i64::MIN, end: i64::MAX };

/// The operator of tumbling windows and of the global window.
pub struct AlignedWindows<K, A: Aggregate> {
    frame: Frame<K, A>,
    shape: Aligned,
}

/// What the operators of all windows with one accumulator share.
pub(super) struct Frame<K, A: Aggregate> {
    pub(super) aggregate: A,
    pub(super) settings: Settings,
    pub(super) times: Times,
    /// The accumulator of each window.
    pub(super) contents: ValueState<A::Accumulator, TimeWindow>,
    /// The timers at which windows fire and close.
    pub(super) ends: TimerService<TimeWindow>,
    pub(super) early: Option<EarlyFirings>,
    key: std::marker::PhantomData<fn(K)>,
}

/// The output of an operator for windows of time.
pub(super) type Output<K, A> = WindowOutput<K, TimeWindow, <A as Aggregate>::Out, <A as Aggregate>::In>;

impl<T: 'static> Windows<T> for TimeWindows<Aligned> {
    type Window = TimeWindow;
    type Operator<K: StateKey, A: Aggregate<In = T>> = AlignedWindows<K, A>;

    fn open<K, A, B>(&self, aggregate: &A, ctx: &mut Open<'_, B, TimeWindow>) -> Result<AlignedWindows<K, A>>
    where
        K: StateKey,
        A: Aggregate<In = T>,
        B: KeyedBackend<Key = K>,
    {
        if self.shape.size == Some(0) {
            return Err(Error::invalid("a window has at least 1 ms: choose a longer size"));
        }
        if self.shape.size.is_none() && self.settings.domain == TimeDomain::Processing {
            let message = "the global window has no time: leave out `in_processing_time`";
            return Err(Error::invalid(message));
        }
        Ok(AlignedWindows { frame: Frame::open(aggregate, &self.settings, ctx)?, shape: self.shape })
    }
}

impl<K: StateKey, A: Aggregate> AlignedWindows<K, A> {
    #[inline]
    fn window_of<B: KeyedBackend, O>(&self, ctx: &Context<'_, B, O>) -> Result<TimeWindow> {
        let Some(size) = self.shape.size else { return Ok(GLOBAL) };
        let time = self.frame.times.of_record(ctx)?.as_millis();
        let start = floor(time, self.shape.offset, size);
        Ok(TimeWindow { start, end: start.saturating_add(size) })
    }

    /// Fires a window at its end.
    fn end<B: KeyedBackend<Key = K>>(
        &self,
        window: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        let Frame { times, ends, .. } = self.frame;
        self.frame.fire(&window, window, Firing::OnTime, ctx)?;
        if self.frame.keeps() && times.lateness > 0 {
            ctx.state_in(ends, &window).register(times.closes_at(window))?;
        }
        Ok(())
    }

    fn fire_early<B: KeyedBackend<Key = K>>(
        &self,
        window: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        self.frame.fire(&window, window, Firing::Early, ctx)?;
        if !self.frame.keeps() {
            // Nothing is left of the window until its next record.
            let fires_at = self.frame.times.fires_at(window);
            ctx.state_in(self.frame.ends, &window).delete(fires_at)?;
        }
        Ok(())
    }
}

impl<K: StateKey, A: Aggregate> Operator for AlignedWindows<K, A> {
    type Key = K;
    type In = A::In;
    type Out = Output<K, A>;
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: A::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = self.window_of(ctx)?;
        let Frame { times, ends, .. } = self.frame;
        let now = times.now(ctx);
        if Some(times.closes_at(window)) <= now {
            self.frame.late(record, ctx);
            return Ok(());
        }
        let fires_at = times.fires_at(window);
        let is_due = Some(fires_at) <= now;
        if is_due && ctx.state_in(ends, &window).delete(fires_at)? {
            // After a restore a record may come before the timers that were due.
            self.end(window, ctx)?;
        }
        let is_new = self.frame.add(&window, record, ctx)?;
        if is_due {
            if is_new && self.frame.keeps() {
                ctx.state_in(ends, &window).register(times.closes_at(window))?;
            }
            return self.frame.fire(&window, window, Firing::Late, ctx);
        }
        if is_new {
            ctx.state_in(ends, &window).register(fires_at)?;
        }
        match self.frame.is_due(&window, window, ctx)? {
            true => self.fire_early(window, ctx),
            false => Ok(()),
        }
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = timer.namespace;
        if self.frame.is_early(timer) {
            return self.fire_early(window, ctx);
        }
        let times = self.frame.times;
        if timer.time == times.fires_at(window) {
            // Without allowed lateness the window closes with that, and leaves nothing.
            return self.end(window, ctx);
        }
        if timer.time == times.closes_at(window) {
            self.frame.clear(&window, ctx.scope())?;
        }
        Ok(())
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        if self.frame.times.domain == TimeDomain::Event {
            // The watermark has reached the end of time, and all windows have fired.
            return Ok(());
        }
        let Frame { contents, times, .. } = self.frame;
        backend.apply_to_all_namespaces(contents, |scope, window| {
            self.frame.finish(window, *window, times.fires_at(*window), scope, output)
        })
    }
}

impl<K: StateKey, A: Aggregate> Frame<K, A> {
    pub(super) fn open<B: KeyedBackend>(
        aggregate: &A,
        settings: &Settings,
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<Self> {
        settings.check()?;
        let contents = ValueDescriptor::evolving("contents", aggregate.storage()).namespaced();
        let contents = ctx.register(&contents)?;
        let ends = ctx.register(&ends(settings.domain))?;
        let early = EarlyFirings::open(settings.trigger, settings.domain, ctx)?;
        let times = Times { domain: settings.domain, lateness: settings.lateness };
        let (aggregate, settings) = (aggregate.clone(), settings.clone());
        Ok(Self { aggregate, settings, times, contents, ends, early, key: std::marker::PhantomData })
    }

    /// Whether a window keeps its accumulator when it fires.
    pub(super) fn keeps(&self) -> bool {
        !self.settings.trigger.purging
    }

    pub(super) fn is_early(&self, timer: &Timer<K, TimeWindow>) -> bool {
        self.early.is_some_and(|early| early.owns(timer.service))
    }

    pub(super) fn late<B: KeyedBackend<Key = K>>(
        &self,
        record: A::In,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) {
        late(&self.settings, record, ctx);
    }

    /// Adds a record; returns whether it is the first of its window.
    #[inline]
    pub(super) fn add<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        record: A::In,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<bool> {
        let (aggregate, mut is_new) = (&self.aggregate, false);
        let initial = || {
            is_new = true;
            aggregate.create()
        };
        ctx.state_in(self.contents, at).modify(initial, |contents| aggregate.add(contents, record))??;
        Ok(is_new)
    }

    /// Counts the record that has just come for the trigger; returns whether the window fires now.
    #[inline]
    pub(super) fn is_due<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        window: TimeWindow,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<bool> {
        match &self.early {
            Some(early) => early.record(ctx, at, self.times.fires_at(window)),
            None => Ok(false),
        }
    }

    /// Emits the result of a window, if it has records; `at` is the namespace of its accumulator.
    pub(super) fn fire<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        window: TimeWindow,
        firing: Firing,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        if let Some(early) = &self.early
            && !early.fired(ctx.scope(), at)?
            && firing == Firing::Early
        {
            return Ok(());
        }
        let contents = ctx.state_in(self.contents, at);
        let last = firing == Firing::OnTime && self.times.lateness == 0;
        let value = if last || !self.keeps() {
            contents.take()?.map(|contents| self.aggregate.result(&contents)).transpose()?
        } else {
            contents.get()?.map(|contents| self.aggregate.result(contents)).transpose()?
        };
        if let Some(value) = value {
            let output = WindowOutput::of(ctx.key(), window, value, firing);
            match window == GLOBAL {
                // The end of all time is no time of a result.
                true => ctx.emit(output),
                false => ctx.emit_at(output, window.max_timestamp()),
            }
        }
        Ok(())
    }

    /// Emits the result of a window as the input ends, and removes the window with its timer.
    pub(super) fn finish<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        window: TimeWindow,
        timer: Timestamp,
        scope: &mut KeyScope<'_, B>,
        output: &mut Batch<Output<K, A>>,
    ) -> Result<()> {
        if let Some(contents) = scope.state_in(self.contents, at).get()? {
            let value = self.aggregate.result(contents)?;
            let result = WindowOutput::of(scope.key(), window, value, Firing::OnTime);
            output.push(result, window.max_timestamp());
        }
        scope.state_in(self.ends, at).delete(timer)?;
        self.clear(at, scope)
    }

    /// Removes what a window has left.
    pub(super) fn clear<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<()> {
        if let Some(early) = &self.early {
            early.fired(scope, at)?;
        }
        scope.state_in(self.contents, at).clear()?;
        Ok(())
    }
}

/// Declares the timers at which windows fire and close.
pub(super) fn ends(domain: TimeDomain) -> TimerDescriptor<TimeWindow> {
    match domain {
        TimeDomain::Event => TimerDescriptor::event_time("ends"),
        TimeDomain::Processing => TimerDescriptor::processing_time("ends"),
    }
}

/// Counts and emits a record that came too late.
#[cold]
pub(super) fn late<B: KeyedBackend, W, R, T>(
    settings: &Settings,
    record: T,
    ctx: &mut Context<'_, B, WindowOutput<B::Key, W, R, T>>,
) {
    ctx.count_too_late();
    if settings.emits_late {
        let key = ctx.key().clone();
        ctx.emit(WindowOutput::Late(LateRow { key, record }));
    }
}

impl<K, A: Aggregate + fmt::Debug> fmt::Debug for AlignedWindows<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedWindows")
            .field("shape", &self.shape)
            .field("aggregate", &self.frame.aggregate)
            .finish_non_exhaustive()
    }
}
