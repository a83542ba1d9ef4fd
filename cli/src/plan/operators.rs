//! The keyed operators of groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Column, Row, Value};
use strandline_state_api::{
    Context, DueTimer, Error, ErrorKind, KeyHash, KeyedBackend, NO_TIMESTAMP, Open, Operator, Output, Result,
    TimeWindow, TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

use super::accumulator::{Accumulators, Aggregates, GroupCodec};
use super::key::GroupKey;
use crate::jobfile::Group;

/// What the operators of a group have in common.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) keys: Vec<(usize, Column)>,
    pub(super) aggregates: Aggregates,
    codec: GroupCodec,
    changes: bool,
    window_ms: i64,
    late: Arc<AtomicU64>,
}

impl Shape {
    pub(super) fn new(group: &Group, late: &Arc<AtomicU64>) -> Self {
        Self {
            keys: group.keys.clone(),
            aggregates: Aggregates::new(group),
            codec: GroupCodec::new(group),
            changes: super::tells_changes(group),
            window_ms: group.window_ms.unwrap_or(0),
            late: Arc::clone(late),
        }
    }

    fn row<K: GroupKey>(&self, key: &K, accumulators: &Accumulators) -> Row {
        let mut row = Row::with_capacity(self.keys.len() + self.aggregates.width());
        key.append_to(&self.keys, &mut row);
        self.aggregates.append_to(accumulators, &mut row);
        row
    }

    /// The result of a group that only counts.
    pub(super) fn count<K: GroupKey>(&self, key: &K, count: u64) -> Row {
        let mut row = Row::with_capacity(self.keys.len() + 1);
        key.append_to(&self.keys, &mut row);
        row.push(Value::UInt(count));
        row
    }
}

/// Counts the rows of each key: the most common group, with the smallest state. It emits keys and counts, which become
/// rows only where something wants rows.
#[derive(Debug)]
pub(super) struct Counting {
    shape: Arc<Shape>,
    counts: ValueState<u64>,
}

impl Counting {
    pub(super) fn open<B: KeyedBackend>(shape: &Arc<Shape>, ctx: &mut Open<'_, B>) -> Result<Self> {
        let descriptor = ValueDescriptor::with_codec("group", shape.codec.clone());
        Ok(Self { shape: Arc::clone(shape), counts: ctx.value(&descriptor)? })
    }
}

impl<K: GroupKey, B: KeyedBackend<Key = K>> Operator<B> for Counting {
    type In = ();
    type Out = (K, u64);
    type Namespace = ();

    #[inline]
    fn process(&mut self, (): (), ctx: &mut Context<'_, B, (K, u64)>) -> Result<()> {
        let count = ctx.state().value(self.counts).modify(
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )?;
        if self.shape.changes {
            ctx.emit((ctx.key().clone(), count));
        }
        Ok(())
    }

    fn on_end(&mut self, backend: &mut B, output: &mut Output<(K, u64)>) -> Result<()> {
        if self.shape.changes {
            return Ok(());
        }
        backend.value_for_each(self.counts, |key: &K, &(), count| {
            output.push((key.clone(), *count), NO_TIMESTAMP);
            Ok(())
        })
    }

    fn prefetch(&mut self, backend: &mut B, keys: &mut dyn Iterator<Item = (KeyHash, &K)>) -> Result<()> {
        backend.value_prefetch(self.counts, keys)
    }
}

/// Aggregates the rows of each key.
#[derive(Debug)]
pub(super) struct Running {
    shape: Arc<Shape>,
    state: ValueState<Accumulators>,
}

impl Running {
    pub(super) fn open<B: KeyedBackend>(shape: &Arc<Shape>, ctx: &mut Open<'_, B>) -> Result<Self> {
        let descriptor = ValueDescriptor::with_codec("group", shape.codec.clone());
        Ok(Self { shape: Arc::clone(shape), state: ctx.value(&descriptor)? })
    }
}

impl<K: GroupKey, B: KeyedBackend<Key = K>> Operator<B> for Running {
    type In = Row;
    type Out = Row;
    type Namespace = ();

    fn process(&mut self, arguments: Row, ctx: &mut Context<'_, B, Row>) -> Result<()> {
        let (shape, key) = (&*self.shape, ctx.key());
        let row = ctx.state().value(self.state).modify(
            || shape.aggregates.initial(),
            |accumulators| {
                shape.aggregates.add(arguments, accumulators)?;
                Ok::<_, Error>(shape.changes.then(|| shape.row(key, accumulators)))
            },
        )??;
        if let Some(row) = row {
            ctx.emit(row);
        }
        Ok(())
    }

    fn on_end(&mut self, backend: &mut B, output: &mut Output<Row>) -> Result<()> {
        if self.shape.changes {
            return Ok(());
        }
        backend.value_for_each(self.state, |key: &K, &(), accumulators| {
            output.push(self.shape.row(key, accumulators), NO_TIMESTAMP);
            Ok(())
        })
    }

    fn prefetch(&mut self, backend: &mut B, keys: &mut dyn Iterator<Item = (KeyHash, &K)>) -> Result<()> {
        backend.value_prefetch(self.state, keys)
    }
}

/// Aggregates the rows of each key in tumbling windows of event time. A window emits when the watermark passes its end; a
/// row that comes after that is dropped and counted.
#[derive(Debug)]
pub(super) struct Windowed {
    shape: Arc<Shape>,
    state: ValueState<Accumulators, TimeWindow>,
    timers: TimerService<TimeWindow>,
}

impl Windowed {
    pub(super) fn open<B: KeyedBackend>(
        shape: &Arc<Shape>,
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<Self> {
        let descriptor = ValueDescriptor::with_codec("group", shape.codec.clone()).namespaced();
        let state = ctx.value(&descriptor)?;
        let timers = ctx.timers(&TimerDescriptor::event_time("windows"))?;
        Ok(Self { shape: Arc::clone(shape), state, timers })
    }
}

impl<K: GroupKey, B: KeyedBackend<Key = K>> Operator<B> for Windowed {
    type In = Row;
    type Out = Row;
    type Namespace = TimeWindow;

    fn process(&mut self, arguments: Row, ctx: &mut Context<'_, B, Row>) -> Result<()> {
        let time = ctx.timestamp();
        if time == NO_TIMESTAMP {
            return Err(Error::new(ErrorKind::User, "a row without an event time came to a window"));
        }
        let window = TimeWindow::tumbling(time, self.shape.window_ms);
        if window.max_timestamp() <= ctx.watermark() {
            self.shape.late.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let aggregates = &self.shape.aggregates;
        let mut is_new = false;
        let initial = || {
            is_new = true;
            aggregates.initial()
        };
        let add = |accumulators: &mut Accumulators| aggregates.add(arguments, accumulators);
        ctx.state().value_in(self.state, &window).modify(initial, add)??;
        if is_new {
            ctx.state().timers_in(self.timers, &window).register(window.max_timestamp())?;
        }
        Ok(())
    }

    fn on_timer(&mut self, due: &DueTimer<K, TimeWindow>, ctx: &mut Context<'_, B, Row>) -> Result<()> {
        let window = &due.timer.namespace;
        let shape = &self.shape;
        let key = ctx.key();
        let Some(accumulators) = ctx.state().value_in(self.state, window).get()? else { return Ok(()) };
        let mut row = Row::with_capacity(shape.keys.len() + 2 + shape.aggregates.width());
        key.append_to(&shape.keys, &mut row);
        row.push(Value::Int(window.start));
        row.push(Value::Int(window.end));
        shape.aggregates.append_to(accumulators, &mut row);
        ctx.state().value_in(self.state, window).clear()?;
        ctx.emit(row);
        Ok(())
    }
}
