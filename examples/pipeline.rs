//! A pipeline built in code: the words of a text in tumbling windows of lines, exactly once into files.
//!
//! ```text
//! cargo run -p strandline-examples --bin pipeline -- TEXT OUTPUT_DIR STATE_DIR
//! ```
//!
//! Kill it at any time and run it again: the finished files in `OUTPUT_DIR` hold each result once.

use std::time::Duration;

use strandline::connectors::{CsvRows, FileSink, FileSinkConfig, FileSource, Row, TextLines, Value};
use strandline::prelude::*;

/// Counts each word in windows of event time, and emits the count when the watermark passes the end of the
/// window.
struct WindowedCount {
    size: i64,
    counts: ValueState<u64, TimeWindow>,
    ends: TimerService<TimeWindow>,
}

impl WindowedCount {
    fn open<B: KeyedBackend>(size: i64, ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self> {
        Ok(Self {
            size,
            counts: ctx.register(&ValueDescriptor::new("counts").namespaced())?,
            ends: ctx.register(&TimerDescriptor::event_time("window-ends"))?,
        })
    }
}

impl Operator for WindowedCount {
    type Key = String;
    type In = ();
    type Out = (TimeWindow, String, u64);
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = String>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = ctx.timestamp().unwrap_or(Timestamp::EPOCH);
        let window = TimeWindow::tumbling(time, self.size);
        ctx.state_in(self.counts, &window).update_or_default(|n| *n += 1)?;
        // Registered with each word of the window, the timer still fires once.
        ctx.state_in(self.ends, &window).register(window.max_timestamp())?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = String>>(
        &mut self,
        timer: &Timer<String, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let count = ctx.state_in(self.counts, &timer.namespace).take()?.unwrap_or(0);
        ctx.emit((timer.namespace, timer.key.clone(), count));
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, text, output, state] = &args[..] else {
        return Err(Error::invalid("usage: pipeline TEXT OUTPUT_DIR STATE_DIR"));
    };
    let pipeline = Pipeline::new("windowed-words", MemoryBackend::factory());
    // The length of a line stands in for its time: a text has no other.
    let lines = FileSource::new(text, TextLines).event_time(Duration::from_secs(1), |line: &Row| {
        line.get(0).as_text().map(|text| Timestamp::from_millis(text.len() as i64))
    });
    pipeline
        .source("lines", lines)
        .flat_map(|line: Row, out| {
            for word in line.get(0).as_text().unwrap_or("").split_whitespace() {
                out.emit(word.to_owned());
            }
        })
        .key_by(|word| (word, ()))
        .process("count", |ctx| WindowedCount::open(10, ctx))
        .map(|(window, word, count)| {
            Row::from_iter([Value::Int(window.start), Value::text(&word), Value::UInt(count)])
        })
        .sink("counts", FileSink::new(FileSinkConfig::new(output), CsvRows::new())?);

    let checkpoints = CheckpointConfig::new(Storage::open(state)?, Duration::from_millis(200));
    let config = JobConfig::default().parallelism(2).checkpointing(checkpoints);
    let report = run(&pipeline, config, &JobControl::new())?;
    let results: u64 = report.emitted.values().sum();
    println!("{:?}: {} words, {results} results", report.outcome, report.done);
    Ok(())
}
