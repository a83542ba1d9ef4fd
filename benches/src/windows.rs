//! Windows of 60 s: the operator of tumbling ones beside one that is written by hand, and sliding ones, of which one
//! starts every second, beside tumbling ones.

use std::fmt;

use strandline_connectors::keys::mix;
use strandline_operators::Count;
use strandline_operators::window::{TimeWindows, WindowOutput, Windows};
use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::host::{KeyedProcess, Steps};
use strandline_state_api::{
    Batch, Context, Keyed, KeyedBackend, Open, Operator, Result, TimeWindow, Timer, TimerDescriptor,
    TimerService, Timestamp, ValueDescriptor, ValueState,
};

use crate::compare::Subject;

/// The size of the windows, in seconds.
const SIZE: u64 = 60;

/// How often keys have records, in event time. Records are spread evenly over time; the keys come in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// The name of the load, for the table.
    pub name: &'static str,
    /// The number of keys.
    pub keys: u64,
    /// The number of records in a second, of all keys.
    pub per_second: u64,
    /// By how many milliseconds of event time the watermark rises at once.
    pub step: u64,
}

impl Load {
    /// From many records of a key in a slide to one in a window; the last one catches up, so that the watermark passes
    /// several slides at once.
    pub const ALL: [Self; 5] = [
        Self::new("100 records/s of a key", 100, 10_000, 200),
        Self::new("1 record/s of a key", 10_000, 10_000, 200),
        Self::new("a record of a key in 10 s", 20_000, 2_000, 200),
        Self::new("a record of a key in 60 s", 60_000, 1_000, 200),
        Self::new("a record of a key in 60 s, watermarks each 10 s", 60_000, 1_000, 10_000),
    ];
    /// For tests.
    pub const SMALL: Self = Self::new("small", 50, 20, 1_000);

    const fn new(name: &'static str, keys: u64, per_second: u64, step: u64) -> Self {
        Self { name, keys, per_second, step }
    }

    /// Returns whether keys have many records in a slide, so that the results are few beside the records.
    pub fn is_dense(self) -> bool {
        self.per_second / self.keys >= 10
    }

    fn between_watermarks(self) -> u64 {
        self.per_second * self.step / 1_000
    }

    /// Returns how many records a window has: a slice of a comparison.
    fn of_window(self) -> u64 {
        self.per_second * SIZE
    }

    fn key(self, record: u64) -> u64 {
        mix(record) % self.keys
    }

    fn time(self, record: u64) -> i64 {
        (record * 1000 / self.per_second) as i64
    }
}

/// An operator with windows, and the records that it counts.
pub struct Windowed<F: BackendFactory, O: Operator> {
    process: KeyedProcess<O, F::Backend<u64>>,
    load: Load,
    next: u64,
    keys: Vec<(u64, i64)>,
    output: Batch<O::Out>,
    /// Returns the number of records in a result.
    count: fn(&O::Out) -> u64,
    /// How many windows a record is in.
    overlap: u64,
}

/// The hand-written windows.
///
/// # Errors
/// What the factory fails with.
pub fn by_hand<F: BackendFactory>(factory: &F, load: Load) -> Result<Windowed<F, ByHand>> {
    Windowed::new(factory, load, ByHand::open, |(_, _, count)| *count, 1)
}

/// The operator of tumbling windows.
///
/// # Errors
/// What the factory fails with.
pub fn tumbling<F: BackendFactory>(
    factory: &F,
    load: Load,
) -> Result<Windowed<F, impl Operator<Key = u64, In = ()> + use<F>>> {
    let windows = TimeWindows::tumbling(std::time::Duration::from_secs(SIZE));
    Windowed::new(factory, load, |ctx| windows.open::<u64, _, _>(&Count::new(), ctx), of_result, 1)
}

/// The operator of sliding windows.
///
/// # Errors
/// What the factory fails with.
pub fn sliding<F: BackendFactory>(
    factory: &F,
    load: Load,
) -> Result<Windowed<F, impl Operator<Key = u64, In = ()> + use<F>>> {
    let second = std::time::Duration::from_secs(1);
    let windows = TimeWindows::sliding(second * SIZE as u32, second);
    Windowed::new(factory, load, |ctx| windows.open::<u64, _, _>(&Count::new(), ctx), of_result, SIZE)
}

fn of_result(output: &WindowOutput<u64, TimeWindow, u64, ()>) -> u64 {
    match output {
        WindowOutput::Result(result) => result.value,
        WindowOutput::Late(_) => 0,
    }
}

impl<F: BackendFactory, O: Operator<Key = u64, In = ()>> Windowed<F, O> {
    fn new(
        factory: &F,
        load: Load,
        open: impl FnOnce(&mut Open<'_, F::Backend<u64>, O::Namespace>) -> Result<O>,
        count: fn(&O::Out) -> u64,
        overlap: u64,
    ) -> Result<Self> {
        let backend = factory.create(BackendScope::whole("windows")?)?;
        let process = KeyedProcess::open(open, backend, Vec::new())?;
        Ok(Self { process, load, next: 0, keys: Vec::new(), output: Batch::new(), count, overlap })
    }

    /// Counts the next records, and raises the watermark step by step. Returns the records in all windows
    /// that fired, divided by the number of windows that each is in.
    fn count(&mut self, records: u64) -> Result<u64> {
        let Self { process, load, next, keys, output, count, overlap } = self;
        let (end, mut sum) = (*next + records, 0);
        while *next < end {
            keys.clear();
            let until = end.min(*next + load.between_watermarks());
            keys.extend((*next..until).map(|record| (load.key(record), load.time(record))));
            *next = until;
            for (key, time) in keys.iter() {
                process.process(Keyed::new(key), (), Some((*time).into()), output)?;
            }
            // No record with the time of the last one follows in another second.
            let watermark = Timestamp::from_millis(keys.last().map_or(0, |(_, time)| *time - 1));
            while process.advance_watermark(watermark, usize::MAX, output)? == Steps::More {}
            sum += output.records().iter().map(*count).sum::<u64>();
            output.clear();
        }
        Ok(sum / *overlap)
    }
}

impl<F: BackendFactory, O: Operator<Key = u64, In = ()>> Subject<Load> for Windowed<F, O> {
    fn slice(&self, load: Load) -> usize {
        load.of_window() as usize
    }

    /// Fills the windows before the first slice.
    fn ready(&mut self, load: Load) -> Result<()> {
        while self.next < 2 * load.of_window() {
            self.count(load.of_window())?;
        }
        Ok(())
    }

    fn work(&mut self, load: Load) -> Result<u64> {
        self.count(load.of_window())
    }
}

impl<F: BackendFactory, O: Operator> fmt::Debug for Windowed<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windowed").field("load", &self.load).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Tumbling windows as a program writes them (`examples/pipeline.rs`).
#[derive(Debug)]
pub struct ByHand {
    counts: ValueState<u64, TimeWindow>,
    ends: TimerService<TimeWindow>,
}

impl ByHand {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self> {
        Ok(Self {
            counts: ctx.register(&ValueDescriptor::new("counts").namespaced())?,
            ends: ctx.register(&TimerDescriptor::event_time("window-ends"))?,
        })
    }
}

impl Operator for ByHand {
    type Key = u64;
    type In = ();
    type Out = (TimeWindow, u64, u64);
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = ctx.timestamp().unwrap_or(Timestamp::EPOCH);
        let window = TimeWindow::tumbling(time, SIZE as i64 * 1000);
        ctx.state_in(self.counts, &window).update_or_default(|n| *n += 1)?;
        ctx.state_in(self.ends, &window).register(window.max_timestamp())?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        timer: &Timer<u64, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let count = ctx.state_in(self.counts, &timer.namespace).take()?.unwrap_or(0);
        ctx.emit((timer.namespace, timer.key, count));
        Ok(())
    }
}
