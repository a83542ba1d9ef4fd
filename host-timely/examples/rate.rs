//! How fast one job is on the executor and on timely dataflow: counters by key, with and without checkpoints.
//!
//! ```text
//! cargo run --release -p strandline-host-timely --example rate -- [RECORDS]
//! ```

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_connectors::DiscardSink;
use strandline_connectors::keys::{Distribution, KeyStream, KeyStreamConfig};
use strandline_host_timely::Cluster;
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, Pipeline};
use strandline_state_api::*;

struct Count(ValueState<u64>);

impl Operator for Count {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let n = ctx.state(self.0).update_or_default(|n| {
            *n += 1;
            *n
        })?;
        ctx.emit((*ctx.key(), n));
        Ok(())
    }
}

/// Runs the job; returns millions of records a second.
fn rate(records: u64, on_timely: bool, parallelism: u32, interval: Option<Duration>) -> Result<f64> {
    let keys = KeyStreamConfig { records, keys: 1_000_000, distribution: Distribution::Uniform, seed: 42 };
    let pipeline = Pipeline::new("rate", MemoryBackendFactory::default());
    pipeline
        .source("keys", KeyStream::new(keys)?)
        .key_by(|key: u64| (key, ()))
        .process("count", |ctx: &mut Open<'_, _>| Ok(Count(ctx.register(&ValueDescriptor::new("count"))?)))
        .sink("counts", DiscardSink::new());
    let mut config = JobConfig::default().parallelism(parallelism);
    if let Some(interval) = interval {
        config = config.checkpointing(CheckpointConfig::new(Storage::in_memory()?, interval));
    }
    let control = JobControl::new();
    let report = if on_timely {
        strandline_host_timely::run(&pipeline, &Cluster::local(parallelism), config, &control)?
    } else {
        Some(strandline_runtime::run(&pipeline, config, &control)?)
    };
    let took = report.map(|report| report.last_done - report.first_done).unwrap_or_default();
    Ok(records as f64 / took.as_secs_f64() / 1e6)
}

fn main() -> Result<()> {
    let records = std::env::args().nth(1).and_then(|records| records.parse().ok()).unwrap_or(10_000_000);
    println!("{records} records, 1,000,000 keys, in millions a second");
    for (parallelism, interval) in [(1, None), (1, Some(1)), (2, None), (2, Some(1))] {
        let interval = interval.map(Duration::from_secs);
        let executor = rate(records, false, parallelism, interval)?;
        let timely = rate(records, true, parallelism, interval)?;
        let ratio = timely / executor;
        println!(
            "P={parallelism}, checkpoints {interval:?}: executor {executor:.2}, timely {timely:.2}, ratio {ratio:.2}"
        );
    }
    Ok(())
}
