//! A pipeline of a user's own inside `#[tokio::main]`: it counts the words of a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use strandline::connectors::{
    CsvRows, FileSink, FileSinkConfig, FileSource, Row, TextLines, Throttled, Value,
};
use strandline::prelude::*;
use strandline::runtime::JobEvent;

use crate::support::tell;

const LINES: u64 = 6_000;
const WORDS: u64 = 200;

struct Count {
    counts: ValueState<u64>,
}

impl Operator for Count {
    type Key = String;
    type In = ();
    type Out = (String, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = String>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let n = ctx.state(self.counts).update_or_default(|n| {
            *n += 1;
            *n
        })?;
        ctx.emit((ctx.key().clone(), n));
        Ok(())
    }
}

/// The words of `text` in the working directory, at most `rate` lines a second.
pub(crate) fn pipeline(dir: &Path, rate: Option<u64>) -> Result<Pipeline<MemoryBackendFactory>> {
    let pipeline = Pipeline::new("words", MemoryBackend::factory());
    let source = FileSource::new(dir.join("text"), TextLines).split_size(4096);
    pipeline
        .source("lines", Throttled::new(source, rate))
        .map(|line: Row| line.get(0).as_text().unwrap_or("").to_owned())
        .key_by(|word| (word, ()))
        .process("count", |ctx| Ok(Count { counts: ctx.register(&ValueDescriptor::new("counts"))? }))
        .map(|(word, n)| Row::from_iter([Value::text(&word), Value::UInt(n)]))
        .sink("counts", FileSink::new(FileSinkConfig::new(dir.join("results")), CsvRows::new())?);
    Ok(pipeline)
}

/// The program.
#[tokio::main]
pub(crate) async fn program(storage: &str) -> Result<()> {
    let checkpoints = CheckpointConfig::new(Storage::open(storage)?, Duration::from_millis(20));
    let observer = |event: &JobEvent| match event {
        JobEvent::Started { from, .. } => tell(format_args!("starts from {from:?}")),
        JobEvent::CheckpointCompleted(report) => tell(format_args!("checkpoint {}", report.checkpoint)),
        _ => {}
    };
    let config = JobConfig::default().parallelism(2).checkpointing(checkpoints).observer(Arc::new(observer));
    let pipeline = pipeline(Path::new(""), Some(LINES / 3))?;
    run_async(&pipeline, config, &JobControl::new()).await.map(drop)
}

fn word(line: u64) -> String {
    format!("w{}", line * line % WORDS)
}

/// Writes the text.
pub(crate) fn write_text(dir: &Path) {
    let text: String = (0..LINES).map(|line| word(line) + "\n").collect();
    std::fs::write(dir.join("text"), text).unwrap();
}

/// Each word has each of its counts exactly once in the results.
pub(crate) fn assert_exact(dir: &Path) {
    let mut counts = BTreeMap::new();
    let count = |line: u64| {
        let n: &mut u64 = counts.entry(word(line)).or_default();
        *n += 1;
        format!("{},{n}", word(line))
    };
    let mut expected: Vec<_> = (0..LINES).map(count).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.join("results")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if [".part.owner", ".part.committing"].contains(&name) {
            continue;
        }
        assert!(name.starts_with("part-"), "{name} was left behind");
        found.extend(std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned));
    }
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected);
}
