//! A pipeline built in code: the words of a text in tumbling windows of lines, exactly once into files.
//!
//! ```text
//! cargo run -p strandline-examples --bin pipeline -- TEXT OUTPUT_DIR STATE_DIR
//! ```
//!
//! Kill it at any time and run it again: the finished files in `OUTPUT_DIR` hold each result once.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_connectors::{CsvRows, FileSink, FileSinkConfig, FileSource, Row, TextLines, Value};
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, Pipeline, run};
use strandline_state_api::{
    Context, DueTimer, Error, KeyedBackend, Open, Operator, Result, TimeDomain, TimeWindow, TimerDescriptor,
    TimerService, ValueDescriptor, ValueState,
};

/// Counts each word in windows of event time, and emits the count when the watermark passes the end of the window.
struct WindowedCount {
    size: i64,
    counts: ValueState<u64, TimeWindow>,
    ends: TimerService<TimeWindow>,
}

impl WindowedCount {
    fn open<B: KeyedBackend>(size: i64, ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self> {
        Ok(Self {
            size,
            counts: ctx.value(&ValueDescriptor::new("counts").namespaced())?,
            ends: ctx.timers(&TimerDescriptor::event_time("window-ends"))?,
        })
    }
}

impl<B: KeyedBackend<Key = String>> Operator<B> for WindowedCount {
    type In = ();
    type Out = (TimeWindow, String, u64);
    type Namespace = TimeWindow;

    fn process(&mut self, _: (), ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
        let window = TimeWindow::tumbling(ctx.timestamp(), self.size);
        let n = ctx.state().value_in(self.counts, &window).modify(
            || 0,
            |n| {
                *n += 1;
                *n
            },
        )?;
        if n == 1 {
            ctx.state().timers_in(self.ends, &window).register(window.max_timestamp())?;
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        due: &DueTimer<String, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        debug_assert_eq!(due.domain, TimeDomain::Event);
        let window = due.timer.namespace;
        let count = ctx.state().value_in(self.counts, &window).get()?.copied().unwrap_or(0);
        ctx.state().value_in(self.counts, &window).clear()?;
        ctx.emit((window, due.timer.key.clone(), count));
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, text, output, state] = &args[..] else {
        return Err(Error::invalid("usage: pipeline TEXT OUTPUT_DIR STATE_DIR"));
    };
    let pipeline = Pipeline::new("windowed-words", MemoryBackendFactory::default());
    pipeline
        .source("lines", FileSource::new(text, TextLines))
        // The length of a line stands in for its time: a text has no other.
        .timestamps(1_000, |line: &Row| line.get(0).as_text().map_or(0, |text| text.len() as i64))
        .flat_map(|line: Row, out| {
            line.get(0)
                .as_text()
                .into_iter()
                .flat_map(str::split_whitespace)
                .for_each(|w| out.emit(w.to_owned()));
        })
        .key_by(|word| (word, ()))
        .process("count", |ctx| WindowedCount::open(10, ctx))
        .map(|(window, word, count)| {
            Row([Value::Int(window.start), Value::text(&word), Value::UInt(count)].into_iter().collect())
        })
        .sink("counts", FileSink::new(FileSinkConfig::new(output), CsvRows::new())?);

    let checkpoints = CheckpointConfig::new(Storage::open(state)?, Duration::from_millis(200));
    let config = JobConfig { parallelism: 2, checkpointing: Some(checkpoints), ..JobConfig::default() };
    let report = run(&pipeline, config, &JobControl::new())?;
    println!(
        "{:?}: {} windows closed, {} checkpoints",
        report.outcome,
        report.done,
        report.checkpoints.len()
    );
    Ok(())
}
