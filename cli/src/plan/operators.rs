//! The keyed operators of groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Column, Row, Value};
use strandline_state_api::backend::KeyedBackendExt;
use strandline_state_api::{
    Batch, Codec, Context, Error, ErrorKind, KeyedBackend, Open, Operator, Result, TimeWindow, Timer,
    TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

use super::Counters;
use super::accumulator::{Accumulators, Aggregates, GroupCodec, Overflow};
use super::key::GroupKey;
use super::windows::borders;
use crate::jobfile::{Emit, Group};

/// What all subtasks of a group share.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) keys: Vec<(usize, Column)>,
    pub(super) aggregates: Aggregates,
    codec: GroupCodec,
    /// Whether the group counts rows, computes nothing else and has no windows.
    counts: bool,
    /// Whether the group emits a row after each change.
    changes: bool,
    window_ms: Option<i64>,
    /// Whether the borders of windows are timestamps.
    moments: bool,
    /// Whether values are whole rows and late ones are emitted as they are; otherwise values are the arguments
    /// of the aggregates, and late ones are dropped.
    keeps_late: bool,
    late: Arc<AtomicU64>,
    /// Whether results that no column holds are left out; otherwise they fail the job.
    skip: bool,
}

impl Shape {
    /// `skip` is whether results are left out that no column holds.
    pub(super) fn new(group: &Group, counters: &mut Counters, skip: bool) -> Self {
        Self {
            keys: group.keys.clone(),
            aggregates: Aggregates::new(group),
            codec: GroupCodec::new(group),
            counts: group.counts_only(),
            changes: group.windows.is_none() && group.emit == Emit::Changes,
            window_ms: group.tumbling_ms(),
            moments: group.moments,
            keeps_late: group.keeps_late,
            late: counters.late_of(&group.id),
            skip,
        }
    }

    /// Declares the state of a group with keys of type `K`.
    fn state<K: GroupKey, V: 'static>(&self) -> ValueDescriptor<V>
    where
        GroupCodec: Codec<V>,
    {
        let state = ValueDescriptor::with_codec("group", self.codec.clone());
        state.describe_keys(K::description_of(&self.keys))
    }

    /// What travels beside the key of a row.
    pub(super) fn value(&self, row: Row) -> Row {
        if self.keeps_late { row } else { self.aggregates.arguments(&row) }
    }

    /// The result of a key.
    fn row<K: GroupKey>(&self, key: &K, accumulators: &Accumulators) -> Result<Emitted> {
        let mut row = Row::with_capacity(self.keys.len() + self.aggregates.width());
        key.append_to(&self.keys, &mut row);
        self.checked(key, self.aggregates.append_to(accumulators, &mut row), row)
    }

    #[inline]
    fn checked<K: GroupKey>(&self, key: &K, appended: Result<(), Overflow>, row: Row) -> Result<Emitted> {
        match appended {
            Ok(()) => Ok(Emitted::Result(row)),
            Err(_) if self.skip => Ok(Emitted::LeftOut),
            Err(overflow) => {
                let mut of_key = Row::default();
                key.append_to(&self.keys, &mut of_key);
                Err(overflow.of_key(&of_key.0))
            }
        }
    }

    /// The result of a group that only counts.
    pub(super) fn count<K: GroupKey>(&self, key: &K, count: u64) -> Row {
        let mut row = Row::with_capacity(self.keys.len() + 1);
        key.append_to(&self.keys, &mut row);
        row.push(Value::UInt(count));
        row
    }

    fn window<K: GroupKey>(
        &self,
        key: &K,
        window: &TimeWindow,
        accumulators: &Accumulators,
    ) -> Result<Emitted> {
        let mut row = Row::with_capacity(self.keys.len() + 2 + self.aggregates.width());
        key.append_to(&self.keys, &mut row);
        row.0.extend(borders(*window, self.moments));
        let appended = self.aggregates.append_to(accumulators, &mut row);
        let row = self.checked(key, appended, row);
        row.map_err(|error| error.with("window", window.start))
    }
}

/// Counts the keys of a key stream. It emits keys and counts, which become rows only where a later step needs
/// rows.
#[derive(Debug)]
pub(super) struct Counting {
    shape: Arc<Shape>,
    counts: ValueState<u64>,
}

impl Counting {
    pub(super) fn open<B: KeyedBackend>(shape: &Arc<Shape>, ctx: &mut Open<'_, B>) -> Result<Self> {
        let descriptor = shape.state::<u64, u64>();
        Ok(Self { shape: Arc::clone(shape), counts: ctx.register(&descriptor)? })
    }
}

impl Operator for Counting {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    #[inline]
    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let count = ctx.state(self.counts).update_or_default(increment)?;
        if self.shape.changes {
            ctx.emit((*ctx.key(), count));
        }
        Ok(())
    }

    fn on_end<B: KeyedBackend<Key = u64>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<(u64, u64)>,
    ) -> Result<()> {
        if self.shape.changes {
            return Ok(());
        }
        backend.for_each_value(self.counts, |key, (), count| {
            output.push((*key, *count), None);
            Ok(())
        })
    }
}

fn increment(count: &mut u64) -> u64 {
    *count += 1;
    *count
}

/// Aggregates the rows of each key. One operator serves groups of all shapes: each operator type costs
/// seconds of compile time, and the branch between the shapes always goes the same way.
#[derive(Debug)]
pub(super) struct Grouping<K> {
    shape: Arc<Shape>,
    state: GroupState,
    key: std::marker::PhantomData<fn(K)>,
}

/// What a group emits.
#[derive(Clone, Debug)]
pub(super) enum Emitted {
    Result(Row),
    /// A row that came after its window had closed.
    Late(Row),
    /// In the place of a result that no column holds.
    LeftOut,
}

/// The state of a group, by the shape of the group.
#[derive(Clone, Copy, Debug)]
enum GroupState {
    /// The number of rows: the most common group, with the smallest state.
    Counts(ValueState<u64>),
    /// Aggregates of all rows.
    Running(ValueState<Accumulators>),
    /// Aggregates of tumbling windows of event time. A window emits when the watermark passes its end; later
    /// rows are counted, and dropped or emitted as they are.
    Windowed { size: i64, windows: ValueState<Accumulators, TimeWindow>, timers: TimerService<TimeWindow> },
}

impl<K: GroupKey> Grouping<K> {
    pub(super) fn open<B: KeyedBackend<Key = K>>(
        shape: &Arc<Shape>,
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<Self> {
        let state = match shape.window_ms {
            Some(size) => {
                let windows = shape.state::<K, Accumulators>().namespaced();
                let windows = ctx.register(&windows)?;
                let timers = ctx.register(&TimerDescriptor::event_time("windows"))?;
                GroupState::Windowed { size, windows, timers }
            }
            None if shape.counts => GroupState::Counts(ctx.register(&shape.state::<K, u64>())?),
            None => GroupState::Running(ctx.register(&shape.state::<K, Accumulators>())?),
        };
        Ok(Self { shape: Arc::clone(shape), state, key: std::marker::PhantomData })
    }
}

impl<K: GroupKey> Operator for Grouping<K> {
    type Key = K;
    type In = Row;
    type Out = Emitted;
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        value: Row,
        ctx: &mut Context<'_, B, Emitted>,
    ) -> Result<()> {
        let (shape, key) = (&*self.shape, ctx.key());
        let emitted = match self.state {
            GroupState::Counts(counts) => {
                let count = ctx.state(counts).update_or_default(increment)?;
                shape.changes.then(|| Emitted::Result(shape.count(key, count)))
            }
            GroupState::Running(state) => {
                let change = |accumulators: &mut Accumulators| {
                    shape.aggregates.add(value, accumulators)?;
                    shape.changes.then(|| shape.row(key, accumulators)).transpose()
                };
                ctx.state(state).modify(|| shape.aggregates.initial(), change)??
            }
            GroupState::Windowed { size, windows, timers } => {
                let Some(time) = ctx.timestamp() else {
                    let message = "a row without an event time reached a window: check the column \
                                   `event_time` of the source";
                    return Err(Error::new(ErrorKind::User, message));
                };
                let window = TimeWindow::tumbling(time, size);
                if Some(window.max_timestamp()) <= ctx.watermark() {
                    shape.late.fetch_add(1, Ordering::Relaxed);
                    ctx.count_too_late();
                    if shape.keeps_late {
                        ctx.emit(Emitted::Late(value));
                    }
                    return Ok(());
                }
                let arguments = if shape.keeps_late { shape.aggregates.arguments(&value) } else { value };
                let mut is_new = false;
                let initial = || {
                    is_new = true;
                    shape.aggregates.initial()
                };
                let add = |accumulators: &mut Accumulators| shape.aggregates.add(arguments, accumulators);
                ctx.state_in(windows, &window).modify(initial, add)??;
                if is_new {
                    ctx.state_in(timers, &window).register(window.max_timestamp())?;
                }
                None
            }
        };
        if let Some(emitted) = emitted {
            ctx.emit(emitted);
        }
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, TimeWindow>,
        ctx: &mut Context<'_, B, Emitted>,
    ) -> Result<()> {
        let GroupState::Windowed { windows, .. } = self.state else { return Ok(()) };
        let window = &timer.namespace;
        let Some(accumulators) = ctx.state_in(windows, window).get()? else { return Ok(()) };
        let emitted = self.shape.window(&timer.key, window, accumulators)?;
        ctx.state_in(windows, window).clear()?;
        ctx.emit(emitted);
        Ok(())
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Emitted>,
    ) -> Result<()> {
        let shape = &*self.shape;
        match self.state {
            GroupState::Counts(counts) if !shape.changes => {
                backend.for_each_value(counts, |key, (), count| {
                    output.push(Emitted::Result(shape.count(key, *count)), None);
                    Ok(())
                })
            }
            GroupState::Running(state) if !shape.changes => {
                backend.for_each_value(state, |key, (), accumulators| {
                    output.push(shape.row(key, accumulators)?, None);
                    Ok(())
                })
            }
            // They have emitted everything by now.
            GroupState::Counts(_) | GroupState::Running(_) | GroupState::Windowed { .. } => Ok(()),
        }
    }
}
