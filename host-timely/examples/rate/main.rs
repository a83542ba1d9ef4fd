//! How fast one job is on the executor and on timely dataflow: counters by key, with and without checkpoints, in one
//! process and in two; beside a program of timely alone.
//!
//! ```text
//! cargo run --release -p strandline-host-timely --example rate -- [RECORDS] [ROUNDS]
//! ```

mod floor;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_connectors::DiscardSink;
use strandline_connectors::keys::{Distribution, KeyStream, KeyStreamConfig};
use strandline_host_timely::{Cluster, Processes};
use strandline_runtime::{CheckpointConfig, JobConfig, JobControl, Pipeline};
use strandline_state_api::*;
use timely::communication::Config;

/// How this program starts itself as one of two processes.
const PROCESS: &str = "STRANDLINE_RATE_PROCESS";

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

#[derive(Clone, Copy, Debug)]
enum On {
    Executor(u32),
    /// Workers of one process.
    Workers(u32),
    /// Two processes, of one worker each.
    Processes,
}

fn stream(records: u64) -> Result<KeyStream> {
    KeyStream::new(KeyStreamConfig {
        records,
        keys: 1_000_000,
        distribution: Distribution::Uniform,
        seed: 42,
    })
}

/// Runs the job; returns millions of records a second, where this process has the report.
fn run(records: u64, on: &Cluster, is_timely: bool, checkpoints: Option<&Path>) -> Result<Option<f64>> {
    let pipeline = Pipeline::new("rate", MemoryBackendFactory::default());
    pipeline
        .source("keys", stream(records)?)
        .key_by(|key: u64| (key, ()))
        .codec(SerdeCodec)
        .process("count", |ctx: &mut Open<'_, _>| Ok(Count(ctx.register(&ValueDescriptor::new("count"))?)))
        .sink("counts", DiscardSink::new());
    let mut config = JobConfig::default().parallelism(on.parallelism());
    if let Some(directory) = checkpoints {
        let each_second = CheckpointConfig::new(Storage::in_dir(directory)?, Duration::from_secs(1));
        config = config.checkpointing(each_second);
    }
    let control = JobControl::new();
    let report = if is_timely {
        strandline_host_timely::run(&pipeline, on, config, &control)?
    } else {
        Some(strandline_runtime::run(&pipeline, config, &control)?)
    };
    let rate = |took: Duration| records as f64 / took.as_secs_f64() / 1e6;
    Ok(report.map(|report| rate(report.last_done - report.first_done)))
}

fn rate(records: u64, on: On, checkpoints: bool) -> Result<f64> {
    let failed = |error| Error::new(ErrorKind::Unavailable, "no place for checkpoints").caused_by(error);
    let directory = tempfile::tempdir().map_err(failed)?;
    let checkpoints = checkpoints.then(|| directory.path());
    let ran = match on {
        On::Executor(parallelism) => run(records, &Cluster::local(parallelism), false, checkpoints)?,
        On::Workers(workers) => run(records, &Cluster::local(workers), true, checkpoints)?,
        On::Processes => Some(two_processes("job", records, checkpoints).map_err(failed)?),
    };
    Ok(ran.unwrap_or_default())
}

/// The rate of the job, or of the floor, in two processes.
fn two_processes(what: &str, records: u64, checkpoints: Option<&Path>) -> std::io::Result<f64> {
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let addresses = format!("{},{}", one.local_addr()?, two.local_addr()?);
    drop((one, two));
    let start = |process| {
        let checkpoints = checkpoints.map(|path| path.display().to_string()).unwrap_or_default();
        let setup = format!("{what}|{process}|{addresses}|{records}|{checkpoints}");
        Command::new(std::env::current_exe()?)
            .env(PROCESS, setup)
            .stdout(std::process::Stdio::piped())
            .spawn()
    };
    let (first, second) = (start(0)?, start(1)?);
    let printed = first.wait_with_output()?;
    second.wait_with_output()?;
    let rate = String::from_utf8_lossy(&printed.stdout).lines().next_back().unwrap_or_default().parse();
    rate.map_err(|_| std::io::Error::other("a process has failed"))
}

/// Is one of two processes.
fn process(setup: &str) -> Result<()> {
    let wrong = || Error::invalid("the processes are started by this program");
    let [what, process, addresses, records, checkpoints] = *setup.split('|').collect::<Vec<_>>() else {
        return Err(wrong());
    };
    let (process, records) =
        (process.parse::<usize>().map_err(|_| wrong())?, records.parse().map_err(|_| wrong())?);
    let rate = if what == "floor" {
        let addresses: Vec<_> = addresses.split(',').map(str::to_owned).collect();
        let rate = floor::rate(&stream(records)?, records, of_processes(process, addresses))?;
        (process == 0).then_some(rate)
    } else {
        let cluster = Cluster::of_processes(1, Processes::new(addresses.split(','), process as u32, "rate"));
        let checkpoints = (!checkpoints.is_empty()).then(|| Path::new(checkpoints));
        run(records, &cluster, true, checkpoints)?
    };
    rate.iter().for_each(|rate| println!("{rate}"));
    Ok(())
}

/// One worker in each process.
fn of_processes(process: usize, addresses: Vec<String>) -> Config {
    Config::Cluster { threads: 1, process, addresses, report: false, zerocopy: false }
}

fn floor(records: u64, on: On) -> Result<f64> {
    match on {
        On::Executor(workers) | On::Workers(workers) => {
            floor::rate(&stream(records)?, records, Config::Process(workers as usize))
        }
        On::Processes => two_processes("floor", records, None)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "no second process").caused_by(error)),
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn main() -> Result<()> {
    if let Ok(setup) = std::env::var(PROCESS) {
        return process(&setup);
    }
    let number = |at| std::env::args().nth(at).and_then(|number| number.parse().ok());
    let (records, rounds) = (number(1).unwrap_or(40_000_000), number(2).unwrap_or(5));
    println!("{records} records, 1,000,000 keys; medians of {rounds} rounds, in millions a second");
    for (parallelism, on) in [(1, On::Workers(1)), (2, On::Workers(2)), (2, On::Processes)] {
        for checkpoints in [false, true] {
            let (mut executors, mut timelys, mut floors) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                executors.push(rate(records, On::Executor(parallelism), checkpoints)?);
                timelys.push(rate(records, on, checkpoints)?);
                floors.push(floor(records, on)?);
            }
            let ratios = |of: &[f64]| median(timelys.iter().zip(of).map(|(ours, of)| ours / of).collect());
            let (to_executor, to_floor) = (ratios(&executors), ratios(&floors));
            let of = if checkpoints { "checkpoints each second" } else { "no checkpoints" };
            println!(
                "{on:?}, {of}: executor {:.2}, timely {:.2} ({to_executor:.2} of it), timely alone {:.2} ({:.2} of \
                 its time)",
                median(executors),
                median(timelys),
                median(floors),
                1.0 / to_floor
            );
        }
    }
    Ok(())
}
