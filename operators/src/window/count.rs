//! Windows of a number of records.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use strandline_state_api::backend::KeyedBackendExt as _;
use strandline_state_api::{
    Batch, Context, Error, KeyScope, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey,
    TimeWindow, ValueDescriptor, ValueState,
};

use super::{Firing, WindowOutput, WindowResult, Windows};
use crate::Aggregate;

/// Windows of a number of records of a key (Flink: `countWindow`).
///
/// A window fires when it has its records, without regard to time. At the end of the input the next window of
/// each key fires with what it has, if records have come since the last firing.
#[derive(Clone, Copy, Debug)]
pub struct CountWindows {
    size: u64,
    slide: u64,
}

/// A window of a number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountWindow {
    /// The number of its records: the size of the windows, or fewer at the beginning of a key and at the end
    /// of the input.
    pub records: u64,
}

impl CountWindows {
    /// Windows of `size` records that follow each other. A key that has fired leaves no state.
    pub const fn tumbling(size: u64) -> Self {
        Self { size, slide: size }
    }

    /// Windows of the last `size` records, after every `slide` records.
    pub const fn sliding(size: u64, slide: u64) -> Self {
        Self { size, slide }
    }
}

/// The operator of count windows. Like [`SlidingWindows`](super::SlidingWindows) it folds a record once, into
/// a pane that windows share.
pub struct CountWindowing<K, A: Aggregate> {
    aggregate: A,
    windows: CountWindows,
    /// The number of records of a pane.
    pane: u64,
    progress: ValueState<Progress>,
    panes: MapState<u64, A::Accumulator>,
    key: PhantomData<fn(K)>,
}

/// What a key has seen.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// All records of the key, from when its state was created.
    records: u64,
    /// The first pane that is left.
    first: u64,
}

impl<T: 'static> Windows<T> for CountWindows {
    type Window = CountWindow;
    type Operator<K: StateKey, A: Aggregate<In = T>> = CountWindowing<K, A>;

    fn open<K, A, B>(&self, aggregate: &A, ctx: &mut Open<'_, B, TimeWindow>) -> Result<CountWindowing<K, A>>
    where
        K: StateKey,
        A: Aggregate<In = T>,
        B: KeyedBackend<Key = K>,
    {
        let Self { size, slide } = *self;
        if slide == 0 || slide > size {
            let message = "count windows have at least one record and begin at most one size apart";
            return Err(Error::invalid(message).with("size", size).with("slide", slide));
        }
        let (mut pane, mut rest) = (size, slide);
        while rest > 0 {
            (pane, rest) = (rest, pane % rest);
        }
        Ok(CountWindowing {
            aggregate: aggregate.clone(),
            windows: *self,
            pane,
            progress: ctx.register(&ValueDescriptor::new("progress"))?,
            panes: ctx.register(&MapDescriptor::evolving("panes", aggregate.storage()))?,
            key: PhantomData,
        })
    }
}

type Fired<K, A> = WindowResult<K, CountWindow, <A as Aggregate>::Out>;

impl<K: StateKey, A: Aggregate> CountWindowing<K, A> {
    /// Computes the result of the window that fires next, from the records that it has, and removes the panes
    /// that no later window has.
    fn fire<B: KeyedBackend<Key = K>>(
        &self,
        Progress { records, first }: Progress,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<Option<Fired<K, A>>> {
        let CountWindows { size, slide } = self.windows;
        let end = records.next_multiple_of(slide);
        let start = end.saturating_sub(size);
        let mut all: Option<A::Accumulator> = None;
        for index in start / self.pane..records.div_ceil(self.pane) {
            let Some(pane) = scope.state(self.panes).get(&index)?.cloned() else { continue };
            match &mut all {
                Some(all) => self.aggregate.merge(all, pane)?,
                None => all = Some(pane),
            }
        }
        let left = (end + slide).saturating_sub(size) / self.pane;
        if slide == size {
            scope.state(self.panes).clear()?;
            scope.state(self.progress).clear()?;
        } else if left > first {
            for index in first..left {
                scope.state(self.panes).remove(&index)?;
            }
            scope.state(self.progress).put(Progress { records, first: left })?;
        }
        let Some(all) = all else { return Ok(None) };
        let (key, value) = (scope.key().clone(), self.aggregate.result(&all)?);
        let window = CountWindow { records: records - start };
        Ok(Some(WindowResult { key, window, value, firing: Firing::OnTime }))
    }
}

impl<K: StateKey, A: Aggregate> Operator for CountWindowing<K, A> {
    type Key = K;
    type In = A::In;
    type Out = WindowOutput<K, CountWindow, A::Out, A::In>;
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: A::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let progress = ctx.state(self.progress).update_or_default(|progress| {
            progress.records += 1;
            *progress
        })?;
        let (aggregate, pane) = (&self.aggregate, (progress.records - 1) / self.pane);
        let add = |pane: &mut A::Accumulator| aggregate.add(pane, record);
        ctx.state(self.panes).modify(pane, || aggregate.create(), add)??;
        if progress.records.is_multiple_of(self.windows.slide)
            && let Some(result) = self.fire(progress, ctx.scope())?
        {
            ctx.emit(WindowOutput::Result(result));
        }
        Ok(())
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        let (state, panes) = (self.progress, self.panes);
        backend.apply_to_all_keys(state, &(), |scope| {
            let Some(progress) = scope.state(state).get()?.copied() else { return Ok(()) };
            if !progress.records.is_multiple_of(self.windows.slide)
                && let Some(result) = self.fire(progress, scope)?
            {
                output.push(WindowOutput::Result(result), None);
            }
            scope.state(panes).clear()?;
            scope.state(state).clear()?;
            Ok(())
        })
    }
}

impl<K, A: Aggregate + fmt::Debug> fmt::Debug for CountWindowing<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountWindowing")
            .field("windows", &self.windows)
            .field("aggregate", &self.aggregate)
            .finish_non_exhaustive()
    }
}
