//! Windows and a join: what each user orders in a minute, and the orders that nobody pays within an hour.
//!
//! ```text
//! cargo run -p strandline-examples --bin unpaid -- ORDERS PAYMENTS OUTPUT_DIR STATE_DIR
//! ```
//!
//! Both inputs are CSV files with a header, or directories of them, with times in milliseconds:
//!
//! ```text
//! time,order,user,cents              time,order,cents
//! 1000,1,ann,3000                    2000,1,3000
//! 2500,2,bob,1500
//! ```
//!
//! Kill the program at any time and run it again: the output holds each result once.

use std::time::Duration;

use strandline::connectors::{
    Column, ColumnType, CsvFiles, CsvRows, FileSink, FileSinkConfig, FileSource, Row, Value,
};
use strandline::operators::join::{IntervalJoin, JoinKind, Joined};
use strandline::operators::window::TimeWindows;
use strandline::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, orders, payments, output, state] = &args[..] else {
        return Err(Error::invalid("usage: unpaid ORDERS PAYMENTS OUTPUT_DIR STATE_DIR"));
    };
    let time = |row: &Row| row.get(0).as_int().map(Timestamp::from_millis);
    let int = |row: &Row, column| row.get(column).as_int().unwrap_or_default();
    let user = |row: &Row| row.get(2).as_text().unwrap_or_default().to_owned();
    let files = |name: &str| -> Result<_> {
        FileSink::new(FileSinkConfig::new(format!("{output}/{name}")), CsvRows::new())
    };

    let pipeline = Pipeline::new("unpaid", MemoryBackend::factory());
    let payments = pipeline
        .source("payments", FileSource::new(payments, columns(["time", "order", "cents"])))
        .timestamps(Duration::from_secs(5), time);
    let (by_user, by_order) = pipeline
        .source("orders", FileSource::new(orders, columns(["time", "order", "user", "cents"])))
        .timestamps(Duration::from_secs(5), time)
        .fork();
    by_user
        .key_by(move |order| (user(&order), int(&order, 3)))
        .window(TimeWindows::tumbling(MINUTE))
        .reduce("per-minute", |sum, cents| *sum += cents)
        .map(|sum| {
            Row::from_iter([Value::text(&sum.key), Value::Int(sum.window.start), Value::Int(sum.value)])
        })
        .sink("sums", files("sums")?);
    by_order
        .connect(payments)
        .key_by(move |order| (int(&order, 1), int(&order, 3)), move |paid| (int(&paid, 1), int(&paid, 2)))
        .interval_join("unpaid", IntervalJoin::between(0, HOUR_MS).kind(JoinKind::Left))
        .flat_map(|(order, joined), out| {
            if let Joined::Left(cents) = joined {
                out.emit(Row::from_iter([Value::Int(order), Value::Int(cents)]));
            }
        })
        .sink("orders-unpaid", files("unpaid")?);

    let checkpoints = CheckpointConfig::new(Storage::open(state)?, Duration::from_millis(200));
    let config = JobConfig::default().parallelism(2).checkpointing(checkpoints);
    let report = run(&pipeline, config, &JobControl::new())?;
    println!(
        "{:?}: {} sums, {} unpaid",
        report.outcome, report.emitted["sums"], report.emitted["orders-unpaid"]
    );
    Ok(())
}

/// CSV files with these columns; all but the user are numbers.
fn columns<const N: usize>(names: [&str; N]) -> CsvFiles {
    let kind = |name| if name == "user" { ColumnType::Text } else { ColumnType::Int };
    CsvFiles::new(names.into_iter().map(|name| Column::new(name, kind(name))).collect())
}
