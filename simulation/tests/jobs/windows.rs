//! A job with event time, timers, operator state, two sources, two keyed operators and two sinks.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::Pipeline;
use strandline_simulation::Job;
use strandline_state_api::{
    Context, KeyedBackend, ListDescriptor, ListState, Open, Operator, Result, SerdeCodec, TimeWindow, Timer,
    TimerDescriptor, TimerService, Timestamp, ValueDescriptor, ValueState,
};

use crate::common::Count;

const RECORDS: i64 = 80;
const WINDOW: i64 = 10;

/// Sums in windows of event time.
struct WindowSum {
    sums: ValueState<i64, TimeWindow>,
    timers: TimerService<TimeWindow>,
}

impl WindowSum {
    fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self> {
        Ok(Self {
            sums: ctx.register(&ValueDescriptor::new("sums").namespaced())?,
            timers: ctx.register(&TimerDescriptor::event_time("windows"))?,
        })
    }
}

impl Operator for WindowSum {
    type Key = u64;
    type In = i64;
    type Out = (u64, i64, i64);
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        value: i64,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = TimeWindow::tumbling(ctx.timestamp().unwrap_or(Timestamp::EPOCH), WINDOW);
        ctx.state_in(self.sums, &window).update_or_default(|sum| *sum += value)?;
        ctx.state_in(self.timers, &window).register(window.max_timestamp())?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        timer: &Timer<u64, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = timer.namespace;
        let sum = ctx.state_in(self.sums, &window).get()?.copied();
        ctx.state_in(self.sums, &window).clear()?;
        let key = *ctx.key();
        // A record behind the watermark would fire its window twice: the output would show it.
        ctx.emit((key, window.start, sum.unwrap_or_default()));
        Ok(())
    }
}

/// Keeps an element for each record of a key, and puts out how many there are.
struct Collect(ListState<i64>);

impl Collect {
    fn open<B: KeyedBackend<Key = i64>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self(ctx.register(&ListDescriptor::new("values"))?))
    }
}

impl Operator for Collect {
    type Key = i64;
    type In = i64;
    type Out = (i64, usize);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = i64>>(
        &mut self,
        _: i64,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        // All are the same: the state of a job must not depend on the order in which records come.
        let element = *ctx.key();
        ctx.state(self.0).push(element)?;
        let values = ctx.state(self.0).get()?.len();
        ctx.emit((*ctx.key(), values));
        Ok(())
    }
}

pub(crate) fn windows() -> Job {
    Job::new(|world| {
        let pipeline = Pipeline::new("windows", MemoryBackendFactory::default());
        let events = |first: i64| {
            let at = move |n: i64| Some(Timestamp::from_millis(n));
            (0..RECORDS / 2).map(move |n| ((first + n * 7) % 23, at(n)))
        };
        let one = pipeline.source("one", world.timed_input(events(1), 3));
        let two = pipeline.source("two", world.timed_input(events(5), 2));
        let (events, counted) = one.union(two).fork();
        let sums = events
            .key_by(|value| ((value % 5) as u64, value))
            .codec(SerdeCodec)
            .process("sums", WindowSum::open);
        let (sums, windows) = sums.fork();
        sums.sink("sums-out", world.output("sums"));
        windows
            .key_by(|(_, start, sum)| (start, sum))
            .codec(SerdeCodec)
            .process("collect", Collect::open)
            .sink("windows-out", world.output("windows"));
        counted
            .key_by(|value| ((value % 7) as u64, ()))
            .codec(SerdeCodec)
            .process("count", Count::open)
            .sink("counts-out", world.output("counts"));
        pipeline
    })
}
