//! The table of Nexmark.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::Spread;
use strandline_benches::nexmark::expected::expected;
use strandline_benches::nexmark::{Events, Measured, Query, Settings, measure};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

use crate::plan::Backend;
use crate::progress;

/// What is compared with the plain computation.
const CHECKED_EVENTS: u64 = 1_000_000;

#[derive(Args, Debug)]
pub(crate) struct Nexmark {
    /// Only these queries.
    #[arg(value_enum)]
    queries: Vec<Query>,
    /// Events of each run that is measured.
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Subtasks of the source and of each operator, at most 16.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    parallelism: Vec<NonZeroU32>,
    /// Runs of each query.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Milliseconds from one checkpoint to the next; 0 for none.
    #[arg(long, default_value_t = 1_000)]
    interval: u64,
    /// The state backends.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory")]
    backend: Vec<Backend>,
}

impl Nexmark {
    /// Checks and measures the queries, and prints a row for each as it is done.
    pub(crate) fn run(&self) -> Result<()> {
        let queries = if self.queries.is_empty() { &Query::ALL[..] } else { &self.queries };
        println!("| query | backend | parallelism | events/s | events/s of one core | checkpoints | rows |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        for &query in queries {
            let events = self.events.min(CHECKED_EVENTS);
            let expected = expected(query, events);
            for &backend in &self.backend {
                match backend {
                    Backend::Memory => {
                        self.query(query, &MemoryBackendFactory::default(), (events, expected))?;
                    }
                    #[cfg(feature = "rocksdb")]
                    Backend::Rocksdb => {
                        use strandline_backend_rocksdb::RocksOptions;

                        let (factory, _dir) = strandline_benches::rocks::factory(RocksOptions::default())?;
                        self.query(query, &factory, (events, expected))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn query<F: BackendFactory>(&self, query: Query, factory: &F, checked: (u64, u64)) -> Result<()> {
        for &parallelism in &self.parallelism {
            progress(format_args!("{query}, {}, parallelism {parallelism}", factory.name()));
            let interval = (self.interval > 0).then(|| Duration::from_millis(self.interval));
            let settings = Settings { events: self.events, parallelism, interval, checked: false };
            check(query, factory, Settings { events: checked.0, checked: true, ..settings }, checked.1)?;
            let runs: Vec<Measured> = (0..self.runs.max(1))
                .map(|_| measure(query, factory.clone(), settings))
                .collect::<Result<_>>()?;
            print(query, factory.name(), parallelism, &runs);
        }
        Ok(())
    }
}

/// Compares the results of fewer events with those of the plain computation.
fn check<F: BackendFactory>(query: Query, factory: &F, settings: Settings, expected: u64) -> Result<()> {
    let measured = measure(query, factory.clone(), settings)?;
    if measured.digest == Some(expected) {
        return Ok(());
    }
    let found = measured.digest.unwrap_or_default();
    let message =
        format!("the digest of the results is {found:#x}, that of the plain computation {expected:#x}");
    Err(Error::corrupt(message).with("query", query).with("events", settings.events))
}

fn print(query: Query, backend: &str, parallelism: NonZeroU32, runs: &[Measured]) {
    let thousands = |of: fn(&Measured) -> Option<f64>| {
        let Spread { p5, p50, p95 } = Spread::of(runs.iter().filter_map(of).map(|rate| rate / 1e3));
        format!("{p50:.0} k ({p5:.0} to {p95:.0})")
    };
    let rate = thousands(|run| Some(run.rate));
    let of_core = thousands(|run| run.rate_of_core);
    let checkpoints = Spread::of(runs.iter().map(|run| run.checkpoints as f64)).p50;
    let rows = runs.first().map_or(0, |run| run.rows);
    println!("| {query} | {backend} | {parallelism} | {rate} | {of_core} | {checkpoints:.0} | {rows} |");
}

/// The greatest parallelism, in the help.
const _: () = assert!(Events::SPLITS == 16);
