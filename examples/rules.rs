//! Rules that change while data flows: orders above the limit that their category had at their time, exactly once into files.
//!
//! ```text
//! cargo run -p strandline-examples --bin rules -- ORDERS RULES OUTPUT_DIR STATE_DIR
//! ```
//!
//! Both inputs are CSV files with a header, or directories of them:
//!
//! ```text
//! time,user,category,amount          time,category,limit
//! 1000,ann,books,30                  0,books,20
//! 2500,bob,books,30                  2000,books,50
//! ```
//!
//! Every subtask gets every rule; an order goes to the subtask of its user, and waits there until both streams have passed
//! its time. So the result depends on the times alone (here: ann's order), not on which file is read faster. Kill it at any time and
//! run it again: each result is there once.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_connectors::{
    Column, ColumnType, CsvFiles, CsvRows, FileSink, FileSinkConfig, FileSource, Row, Value,
};
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, Pipeline, run};
use strandline_state_api::{
    BroadcastContext, BroadcastDescriptor, BroadcastOperator, BroadcastState, Context, DueTimer, Error,
    KeyedBackend, ListDescriptor, ListState, Open, Operator, Result, TimerDescriptor, TimerService,
};

/// The limit of each category from each time on: the same in every subtask. Orders wait for their time.
struct AboveLimit {
    limits: BroadcastState<(String, i64), i64>,
    waiting: ListState<(String, i64), i64>,
    due: TimerService<i64>,
}

impl AboveLimit {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, i64>) -> Result<Self> {
        Ok(Self {
            limits: ctx.broadcast(&BroadcastDescriptor::new("limits"))?,
            waiting: ctx.list(&ListDescriptor::new("waiting").namespaced())?,
            due: ctx.timers(&TimerDescriptor::event_time("due"))?,
        })
    }
}

impl<B: KeyedBackend<Key = String>> Operator<B> for AboveLimit {
    type In = (String, i64);
    type Out = (i64, String, String, i64);
    type Namespace = i64;

    fn process(&mut self, order: Self::In, ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
        let time = ctx.timestamp();
        ctx.state().list_in(self.waiting, &time).push(order)?;
        ctx.state().timers_in(self.due, &time).register(time)?;
        Ok(())
    }

    fn on_timer(&mut self, due: &DueTimer<String, i64>, ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
        let time = due.timer.namespace;
        let orders = ctx.state().list_in(self.waiting, &time).get()?.to_vec();
        ctx.state().list_in(self.waiting, &time).clear()?;
        let limits = ctx.broadcast(self.limits)?;
        for (category, amount) in orders {
            // Entries are in order, so the last one that fits is the newest.
            let limit = limits.iter().rev().find(|((of, from), _)| *of == category && *from <= time);
            if limit.is_some_and(|(_, limit)| amount > *limit) {
                ctx.emit((time, ctx.key().clone(), category, amount));
            }
        }
        Ok(())
    }
}

impl<B: KeyedBackend<Key = String>> BroadcastOperator<B> for AboveLimit {
    type Broadcast = (String, i64);

    fn process_broadcast(
        &mut self,
        (category, limit): Self::Broadcast,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        let from = ctx.timestamp();
        ctx.broadcast(self.limits)?.put((category, from), limit);
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, orders, rules, output, state] = &args[..] else {
        return Err(Error::invalid("usage: rules ORDERS RULES OUTPUT_DIR STATE_DIR"));
    };
    let int = |row: &Row, column| row.get(column).as_int().unwrap_or_default();
    let text = |row: &Row, column| row.get(column).as_text().unwrap_or_default().to_owned();

    let pipeline = Pipeline::new("above-limit", MemoryBackendFactory::default());
    let rules = pipeline
        .source("rules", FileSource::new(rules, columns(["time", "category", "limit"])))
        .timestamps(0, move |rule: &Row| int(rule, 0))
        .map(move |rule| (text(&rule, 1), int(&rule, 2)));
    pipeline
        .source("orders", FileSource::new(orders, columns(["time", "user", "category", "amount"])))
        .timestamps(1_000, move |order: &Row| int(order, 0))
        .key_by(move |order| (text(&order, 1), (text(&order, 2), int(&order, 3))))
        .connect_broadcast(rules)
        .process("above-limit", AboveLimit::open)
        .map(|(time, user, category, amount)| {
            let row = [Value::Int(time), Value::text(&user), Value::text(&category), Value::Int(amount)];
            Row(row.into_iter().collect())
        })
        .sink("results", FileSink::new(FileSinkConfig::new(output), CsvRows::new())?);

    let checkpoints = CheckpointConfig::new(Storage::open(state)?, Duration::from_millis(200));
    let config = JobConfig { parallelism: 2, checkpointing: Some(checkpoints), ..JobConfig::default() };
    let report = run(&pipeline, config, &JobControl::new())?;
    println!(
        "{:?}: {} orders, {} above their limit",
        report.outcome,
        report.done,
        report.emitted.values().sum::<u64>()
    );
    Ok(())
}

/// CSV files with these columns; all but names are numbers.
fn columns<const N: usize>(names: [&str; N]) -> CsvFiles {
    let kind = |name| if ["user", "category"].contains(&name) { ColumnType::Text } else { ColumnType::Int };
    CsvFiles::new(names.into_iter().map(|name| Column::new(name, kind(name))).collect())
}
