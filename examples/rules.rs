//! Rules that change while data flows: writes the orders above the limit that their category had at their
//! time, exactly once, into files.
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
//! Every subtask receives every rule; an order goes to the subtask of its user, and waits there until both
//! streams have passed its time. So the result depends on the times alone (here it is ann's order), and not
//! on which file is read faster. Kill the program at any time and run it again: the output holds each result
//! once.

use std::time::Duration;

use strandline::connectors::{
    Column, ColumnType, CsvFiles, CsvRows, FileSink, FileSinkConfig, FileSource, Row, Value,
};
use strandline::prelude::*;

/// Emits the orders above their limit. Every subtask has the limit of each category from each time on, and
/// each order waits for its time.
struct AboveLimit {
    limits: BroadcastState<(String, i64), i64>,
    waiting: ListState<(String, i64), i64>,
    due: TimerService<i64>,
}

impl AboveLimit {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B, i64>) -> Result<Self> {
        Ok(Self {
            limits: ctx.register(&BroadcastDescriptor::new("limits"))?,
            waiting: ctx.register(&ListDescriptor::new("waiting").namespaced())?,
            due: ctx.register(&TimerDescriptor::event_time("due"))?,
        })
    }
}

impl Operator for AboveLimit {
    type Key = String;
    type In = (String, i64);
    type Out = (i64, String, String, i64);
    type Namespace = i64;

    fn process<B: KeyedBackend<Key = String>>(
        &mut self,
        order: Self::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = millis(ctx.timestamp());
        ctx.state_in(self.waiting, &time).push(order)?;
        ctx.state_in(self.due, &time).register(time)?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = String>>(
        &mut self,
        timer: &Timer<String, i64>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = timer.namespace;
        let limits = ctx.broadcast(self.limits)?;
        for (category, amount) in ctx.state_in(self.waiting, &time).take()? {
            // Entries are in order, so the last one that fits is the newest.
            let limit = limits.iter().rev().find(|((of, from), _)| *of == category && *from <= time);
            if limit.is_some_and(|(_, limit)| amount > *limit) {
                ctx.emit((time, timer.key.clone(), category, amount));
            }
        }
        Ok(())
    }
}

impl BroadcastOperator for AboveLimit {
    type Broadcast = (String, i64);

    fn process_broadcast<B: KeyedBackend<Key = String>>(
        &mut self,
        (category, limit): Self::Broadcast,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        let from = millis(ctx.timestamp());
        ctx.broadcast(self.limits)?.put((category, from), limit);
        Ok(())
    }
}

/// Every record has a timestamp here: the pipeline assigns them.
fn millis(time: Option<Timestamp>) -> i64 {
    time.unwrap_or(Timestamp::EPOCH).as_millis()
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, orders, rules, output, state] = &args[..] else {
        return Err(Error::invalid("usage: rules ORDERS RULES OUTPUT_DIR STATE_DIR"));
    };
    let time = |row: &Row| row.get(0).as_int().map(Timestamp::from_millis);
    let int = |row: &Row, column| row.get(column).as_int().unwrap_or_default();
    let text = |row: &Row, column| row.get(column).as_text().unwrap_or_default().to_owned();

    let pipeline = Pipeline::new("above-limit", MemoryBackend::factory());
    let rules = pipeline
        .source("rules", FileSource::new(rules, columns(["time", "category", "limit"])))
        .timestamps(Duration::ZERO, time)
        .map(move |rule| (text(&rule, 1), int(&rule, 2)));
    pipeline
        .source("orders", FileSource::new(orders, columns(["time", "user", "category", "amount"])))
        .timestamps(Duration::from_secs(1), time)
        .key_by(move |order| (text(&order, 1), (text(&order, 2), int(&order, 3))))
        .connect_broadcast(rules)
        .process("above-limit", AboveLimit::open)
        .map(|(time, user, category, amount)| {
            Row::from_iter([Value::Int(time), Value::text(&user), Value::text(&category), Value::Int(amount)])
        })
        .sink("results", FileSink::new(FileSinkConfig::new(output), CsvRows::new())?);

    let checkpoints = CheckpointConfig::new(Storage::open(state)?, Duration::from_millis(200));
    let config = JobConfig::default().parallelism(2).checkpointing(checkpoints);
    let report = run(&pipeline, config, &JobControl::new())?;
    let results: u64 = report.emitted.values().sum();
    println!("{:?}: {} orders, {results} above their limit", report.outcome, report.done);
    Ok(())
}

/// CSV files with these columns; all but names are numbers.
fn columns<const N: usize>(names: [&str; N]) -> CsvFiles {
    let kind = |name| if ["user", "category"].contains(&name) { ColumnType::Text } else { ColumnType::Int };
    CsvFiles::new(names.into_iter().map(|name| Column::new(name, kind(name))).collect())
}
