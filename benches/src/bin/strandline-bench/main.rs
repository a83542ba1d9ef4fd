//! The table of ratios that `make bench` prints.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::table::{Row, render};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

mod commit;
mod nexmark;
mod plan;
mod program;
#[cfg(feature = "rocksdb")]
mod raw;
mod w1;
mod w2;
mod w3;
mod w5;
mod windows;

use plan::{Backend, Plan, Workload};

/// Measures Strandline beside plain hash maps and plain files, in turns, so that the ratios hold on a noisy
/// machine.
#[derive(Debug, Parser)]
#[command(name = "strandline-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the workloads and prints one table, budgets first.
    Table(Table),
    /// Runs the queries of Nexmark with a checkpoint each second, and prints a table. The results of the first million
    /// events are compared with a plain computation.
    Nexmark(nexmark::Nexmark),
}

#[derive(Args, Debug)]
struct Table {
    /// Small sizes and short slices: to see that everything works. The figures mean little.
    #[arg(long)]
    quick: bool,
    /// Only these workloads.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,
    /// The state backends, one after the other. `rocksdb` is there when this program was built with that
    /// feature.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory")]
    backend: Vec<Backend>,
    /// Keys of the value states of W2. Default: 500000,10000000, or 500000,1000000 on RocksDB.
    #[arg(long, value_delimiter = ',')]
    keys: Vec<usize>,
    /// Keys of the list and map states of W2; sizes that do not fit into memory are left out. Default:
    /// 500000,10000000, or 100000 on RocksDB.
    #[arg(long, value_delimiter = ',')]
    collections: Vec<usize>,
    /// Keys of the reducing, aggregating and expiring states of W2. Default: 500000.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<usize>,
    /// Timers of W2 that are set at once. Default: 1000000,10000000, or 1000000 on RocksDB.
    #[arg(long, value_delimiter = ',')]
    timers: Vec<usize>,
    /// Only the operations of W2 whose name starts with one of these, as `value` or `mapUpdate`.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    operations: Vec<String>,
    /// Counters of W3. Default: 1000000,5000000,10000000, or 1000000,5000000 on RocksDB.
    #[arg(long, value_delimiter = ',')]
    counters: Vec<u64>,
    /// Records of each run of W1, and of the executor in W5. Default: 40000000, or 4000000 on RocksDB.
    #[arg(long)]
    records: Option<u64>,
    /// Pairs of runs of W1 with and without checkpoints, and of the executor beside the loop. Default: 3.
    #[arg(long)]
    runs: Option<usize>,
    /// The `strandline` program for W1. Built unless given.
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Writes the table, and every run of W1, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compares W2 and W5 by the time that passed, not by that of the processor: for a backend that waits, or
    /// works in several threads. Implied by RocksDB.
    #[arg(long)]
    wall: bool,
    /// Compares them by the processor time of the thread on RocksDB, too: for a machine that is busy with
    /// other things. What flushes and compactions take does not count then.
    #[arg(long, conflicts_with = "wall")]
    thread: bool,
    /// Fails when a budget is missed.
    #[arg(long)]
    strict: bool,
}

impl Table {
    fn wants(&self, workload: Workload) -> bool {
        self.only.is_empty() || self.only.contains(&workload)
    }
}

/// The results.
#[derive(Debug, Default)]
struct Measured {
    rows: Vec<Row>,
    runs: Vec<w1::Run>,
}

/// Prints progress to the standard error.
pub(crate) fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}

/// Measures one backend. `elsewhere` shares nothing with `factory`, as if it were on another machine.
fn measure<F: BackendFactory>(
    args: &Table,
    plan: &Plan,
    [factory, elsewhere]: [&F; 2],
    measured: &mut Measured,
) -> Result<()> {
    let mut rows = Vec::new();
    if args.wants(Workload::W2) {
        w2::measure(plan, factory, &mut rows)?;
    }
    if args.wants(Workload::W3) {
        w3::measure(plan, [factory, elsewhere], &mut rows)?;
    }
    if args.wants(Workload::W5) {
        w5::measure(plan, factory, &mut rows)?;
    }
    if args.wants(Workload::Windows) {
        windows::measure(plan, factory, &mut rows)?;
    }
    if args.wants(Workload::W1) {
        measured.runs.extend(w1::measure(plan, factory.name(), &mut rows)?);
    }
    measured.rows.extend(rows.into_iter().map(|row| row.of(factory.name())));
    Ok(())
}

fn of_backend(args: &Table, backend: Backend, measured: &mut Measured) -> Result<()> {
    let plan = Plan::new(args, backend);
    match backend {
        Backend::Memory => measure(args, &plan, [&MemoryBackendFactory::default(); 2], measured),
        #[cfg(feature = "rocksdb")]
        Backend::Rocksdb => {
            use strandline_backend_rocksdb::RocksOptions;
            use strandline_benches::rocks::factory;

            let ((here, _dir), (there, _other)) =
                (factory(RocksOptions::default())?, factory(RocksOptions::default())?);
            measure(args, &plan, [&here, &there], measured)?;
            if args.wants(Workload::Raw) {
                let mut rows = Vec::new();
                raw::measure(&plan, &mut rows)?;
                measured.rows.extend(rows.into_iter().map(|row| row.of("rocksdb")));
            }
            Ok(())
        }
    }
}

fn table(args: &Table) -> Result<ExitCode> {
    let mut measured = Measured::default();
    for backend in &args.backend {
        of_backend(args, *backend, &mut measured)?;
    }
    if let (Some(backend), true) = (args.backend.first(), args.wants(Workload::Commit)) {
        commit::measure(&Plan::new(args, *backend), &mut measured.rows)?;
    }
    let Measured { rows, runs } = measured;
    println!("{}", render(&rows));
    if args.quick {
        println!("Quick: the sizes are small, so neither figures nor budgets mean much.");
    }
    if let Some(path) = &args.json {
        let text = serde_json::json!({ "rows": rows, "w1": runs }).to_string();
        std::fs::write(path, text).map_err(|e| {
            Error::invalid("the table cannot be written").with("file", path.display()).caused_by(e)
        })?;
    }
    let missed = rows.iter().any(|row| row.holds() == Some(false));
    Ok(if missed && args.strict { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Table(args) => table(&args),
        Command::Nexmark(args) => args.run().map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
