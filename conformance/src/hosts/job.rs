//! One job for all hosts: orders wait for their time, are rated by rules that reach every subtask, and are summed
//! up in windows, into files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use strandline_checkpoint_storage::Storage;
use strandline_connectors::{CsvRows, FileSink, FileSinkConfig, Row, Value};
use strandline_operators::Reduce;
use strandline_operators::window::{TimeWindows, Windows};
use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus, SourceTime};
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, JobEvent, Pipeline};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::*;

const WINDOW: i64 = 1_000;
const KEYS: u64 = 50;
const RULES: u64 = 7;

/// Its time, key, rule and amount.
pub type Order = (i64, u64, u64, u64);

fn order(n: u64) -> Order {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17;
    ((n + mixed % 40) as i64, mixed % KEYS, mixed % RULES, 1 + mixed % 9)
}

/// From which time on a rule multiplies by what.
fn rules() -> Vec<(u64, i64, u64)> {
    let of_each = [(0, 2, 1), (2_500, 1, 3)];
    let at =
        |(from, base, step): (i64, u64, u64)| (0..RULES).map(move |rule| (rule, from, base + step * rule));
    of_each.into_iter().flat_map(at).collect()
}

fn factor(rule: u64, time: i64) -> u64 {
    let known = rules().into_iter().filter(|(of, from, _)| *of == rule && *from <= time);
    known.map(|(_, from, factor)| (from, factor)).max().unwrap().1
}

/// Returns the lines that the files hold in the end, sorted.
pub fn expected(orders: u64) -> Vec<String> {
    let mut sums: BTreeMap<(i64, u64), u64> = BTreeMap::new();
    for (time, key, rule, amount) in (0..orders).map(order) {
        *sums.entry((time.div_euclid(WINDOW) * WINDOW, key)).or_default() += amount * factor(rule, time);
    }
    let mut lines: Vec<_> =
        sums.into_iter().map(|((start, key), sum)| format!("{start},{key},{sum}")).collect();
    lines.sort();
    lines
}

/// Returns the lines of all finished files of a directory, sorted.
pub fn written(output: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(output).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Orders in splits, up to a gate.
#[derive(Clone, Debug)]
pub struct Orders {
    /// How many there are.
    pub orders: u64,
    /// How many of each split may be read.
    pub gate: Arc<AtomicU64>,
    /// The least time between two batches.
    pub pause: Duration,
    /// How many records are read until one batch fails, once.
    pub fuse: Arc<AtomicI64>,
}

/// The splits of [`Orders`].
pub const SPLITS: u64 = 6;

impl Orders {
    /// All of so many orders, as fast as they are taken.
    pub fn new(orders: u64) -> Self {
        Self {
            orders,
            gate: Arc::new(AtomicU64::new(u64::MAX)),
            pause: Duration::ZERO,
            fuse: Arc::new(AtomicI64::new(i64::MAX)),
        }
    }

    /// So many orders, of which at first no more than `gate` of each split may be read.
    pub fn gated(orders: u64, gate: u64) -> Self {
        let all = Self::new(orders);
        all.gate.store(gate, SeqCst);
        all
    }
}

/// Reads some of the splits.
#[derive(Debug)]
pub struct OrderReader {
    of: Orders,
    mine: Vec<(u64, u64)>,
    turn: usize,
}

impl SourceFactory for Orders {
    type Source = OrderReader;

    fn open(&self, context: SourceContext<(u64, u64)>) -> Result<OrderReader> {
        let mut positions: BTreeMap<u64, u64> = (0..SPLITS).map(|split| (split, 0)).collect();
        positions.extend(context.restored.unwrap_or_default());
        let is_mine =
            |(split, _): &(u64, u64)| split % u64::from(context.parallelism) == u64::from(context.subtask);
        Ok(OrderReader { of: self.clone(), mine: positions.into_iter().filter(is_mine).collect(), turn: 0 })
    }
}

impl Source for OrderReader {
    type Out = Order;
    type Position = (u64, u64);

    fn poll(&mut self, max: usize, output: &mut Batch<Order>) -> Result<SourceStatus> {
        let gate = self.of.gate.load(SeqCst);
        let mut ended = true;
        for _ in 0..self.mine.len() {
            self.turn = (self.turn + 1) % self.mine.len();
            let (split, position) = &mut self.mine[self.turn];
            let all = (self.of.orders + SPLITS - 1 - *split) / SPLITS;
            // The splits go on together, so that none is far behind in time.
            let end = all.min(gate).min(*position + (max as u64).min(16));
            if *position < end {
                for order in (*position..end).map(|n| order(n * SPLITS + *split)) {
                    output.push(order, Some(Timestamp::from_millis(order.0)));
                }
                let read = (end - *position) as i64;
                *position = end;
                if (0..read).contains(&(self.of.fuse.fetch_sub(read, SeqCst) - 1)) {
                    return Err(Error::new(ErrorKind::Unavailable, "injected failure"));
                }
                std::thread::sleep(self.of.pause);
                return Ok(SourceStatus::More);
            }
            ended &= *position == all;
        }
        Ok(if ended { SourceStatus::End } else { SourceStatus::Idle })
    }

    /// That of the slowest split: subtasks that were not equally fast may have left them far from each other.
    fn time(&mut self) -> Option<SourceTime> {
        let next = self.mine.iter().map(|(split, position)| position * SPLITS + split);
        let least = next.filter(|n| *n < self.of.orders).min();
        let watermark = least.map(|n| Timestamp::from_millis(n as i64 - 1));
        Some(SourceTime { watermark, idle: false })
    }

    fn positions(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.mine.clone())
    }
}

/// The rules, once.
#[derive(Clone)]
struct Rules;

struct RuleReader(Option<u64>);

impl SourceFactory for Rules {
    type Source = RuleReader;

    fn open(&self, context: SourceContext<u64>) -> Result<RuleReader> {
        let read = context.restored.unwrap_or_default().iter().sum();
        Ok(RuleReader((context.subtask == 0).then_some(read)))
    }
}

impl Source for RuleReader {
    type Out = (u64, i64, u64);
    type Position = u64;

    fn poll(&mut self, _: usize, output: &mut Batch<Self::Out>) -> Result<SourceStatus> {
        let all = rules();
        if let Some(read) = &mut self.0
            && let Some(rule) = all.get(*read as usize)
        {
            output.push(*rule, None);
            *read += 1;
            return Ok(SourceStatus::More);
        }
        Ok(SourceStatus::End)
    }

    fn positions(&self) -> Result<Vec<u64>> {
        Ok(self.0.into_iter().collect())
    }
}

/// Keeps each order until its time has come on both sides, and rates it then. Fails where time is out of order.
struct Rate {
    rules: BroadcastState<(u64, i64), u64>,
    waiting: ListState<(u64, u64), i64>,
    due: TimerService<i64>,
    /// The time of the newest timer of a key.
    fired: ValueState<i64>,
}

impl Rate {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, i64>) -> Result<Self> {
        Ok(Self {
            rules: ctx.register(&BroadcastDescriptor::new("rules"))?,
            waiting: ctx.register(&ListDescriptor::new("waiting").namespaced())?,
            due: ctx.register(&TimerDescriptor::event_time("due"))?,
            fired: ctx.register(&ValueDescriptor::new("fired"))?,
        })
    }
}

impl Operator for Rate {
    type Key = u64;
    type In = (u64, u64);
    type Out = (u64, u64);
    type Namespace = i64;

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        order: Self::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = ctx.timestamp().unwrap().as_millis();
        if ctx.watermark().is_some_and(|watermark| watermark.as_millis() >= time) {
            let message = "an order came behind the watermark, which its source sends after it";
            return Err(Error::new(ErrorKind::User, message));
        }
        ctx.state_in(self.waiting, &time).push(order)?;
        ctx.state_in(self.due, &time).register(time).map(drop)
    }

    fn on_timer<B: KeyedBackend<Key = u64>>(
        &mut self,
        timer: &Timer<u64, i64>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let before = ctx.state(self.fired).get()?.copied();
        let is_due = ctx.watermark().is_some_and(|watermark| watermark >= timer.time);
        if !is_due || before.is_some_and(|before| before >= timer.namespace) {
            let message = "a timer fired before its time, or before an earlier one of its key";
            return Err(Error::new(ErrorKind::User, message));
        }
        ctx.state(self.fired).put(timer.namespace)?;
        let rules = ctx.broadcast(self.rules)?;
        for (rule, amount) in ctx.state_in(self.waiting, &timer.namespace).take()? {
            let known = rules.iter().rev().find(|((of, from), _)| *of == rule && *from <= timer.namespace);
            let (_, factor) = known.expect("both sides have passed the time of the rule");
            ctx.emit((timer.key, amount * factor));
        }
        Ok(())
    }
}

impl BroadcastOperator for Rate {
    type Broadcast = (u64, i64, u64);

    fn process_broadcast<B: KeyedBackend<Key = u64>>(
        &mut self,
        (rule, from, factor): Self::Broadcast,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        ctx.broadcast(self.rules)?.put((rule, from), factor);
        Ok(())
    }
}

/// The pipeline of the job: into files in the directory `output`.
pub fn pipeline<F: BackendFactory>(factory: F, orders: &Orders, output: &Path) -> Pipeline<F> {
    let pipeline = Pipeline::new("rated", factory);
    let rules = pipeline
        .source("rules", Rules)
        .timestamps(Duration::ZERO, |(_, from, _)| Timestamp::from_millis(*from))
        .codec(SerdeCodec);
    let windows = TimeWindows::tumbling(Duration::from_millis(WINDOW as u64));
    pipeline
        .source("orders", orders.clone())
        .key_by(|(_, key, rule, amount): Order| (key, (rule, amount)))
        .codec(SerdeCodec)
        .connect_broadcast(rules)
        .process("rate", Rate::open)
        .key_by(|(key, rated)| (key, rated))
        .codec(SerdeCodec)
        .process("sums", move |ctx| windows.open(&Reduce::new(|sum: &mut u64, more: u64| *sum += more), ctx))
        .flat_map(|output, out| {
            if let Some(result) = output.result() {
                let (start, key, sum) = (result.window.start, result.key, result.value);
                out.emit(Row::from_iter([Value::Int(start), Value::UInt(key), Value::UInt(sum)]));
            }
        })
        .sink("results", FileSink::new(FileSinkConfig::new(output), CsvRows::new()).unwrap());
    pipeline
}

/// Checkpoints in the directory `state`, this often, and small batches.
pub fn config(state: &Path, interval: Duration) -> JobConfig {
    let storage = Storage::in_dir(state).unwrap();
    JobConfig::default().batch_size(64).checkpointing(CheckpointConfig::new(storage, interval))
}

/// Stops the job gracefully when so many checkpoints are complete.
pub fn stop_after(config: JobConfig, checkpoints: u64) -> (JobConfig, JobControl) {
    let (control, seen) = (JobControl::new(), AtomicU64::new(0));
    let of_observer = control.clone();
    let config = config.observer(Arc::new(move |event: &JobEvent| {
        if matches!(event, JobEvent::CheckpointCompleted(_)) && seen.fetch_add(1, SeqCst) + 1 >= checkpoints {
            of_observer.stop();
        }
    }));
    (config, control)
}
