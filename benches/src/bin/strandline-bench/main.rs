//! The table of ratios that `make bench` prints.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::table::{Row, render};
use strandline_benches::{Clock, Effort};
use strandline_state_api::{BackendFactory, Error, Result};

mod commit;
mod program;
mod w1;
mod w2;
mod w3;
mod w5;

/// Measures Strandline beside plain hash maps and plain files, in turns, so that the ratios hold on a noisy machine.
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
}

/// A workload of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// State access.
    W2,
    /// Snapshot and restore.
    W3,
    /// Making checkpoints exist.
    Commit,
    /// What the embedding API and the executor cost.
    W5,
    /// The keyed count, through the binary.
    W1,
}

/// A state backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// Native values in memory.
    Memory,
}

#[derive(Args, Debug)]
struct Table {
    /// Small sizes and short slices: to see that everything works. The figures mean little.
    #[arg(long)]
    quick: bool,
    /// Only these workloads.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Workload>,
    /// The state backend.
    #[arg(long, value_enum, default_value = "memory")]
    backend: Backend,
    /// Keys of the value states of W2. Default: 500000,10000000.
    #[arg(long, value_delimiter = ',')]
    keys: Vec<usize>,
    /// Keys of the list and map states of W2; sizes that do not fit into memory are left out. Default: 500000,10000000.
    #[arg(long, value_delimiter = ',')]
    collections: Vec<usize>,
    /// Counters of W3. Default: 1000000,5000000,10000000.
    #[arg(long, value_delimiter = ',')]
    counters: Vec<u64>,
    /// Records of each run of W1, and of the executor in W5. Default: 40000000.
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
    /// Compares W2 and W5 by the time that passed, not by that of the processor: for a backend that waits, or works in several
    /// threads.
    #[arg(long)]
    wall: bool,
    /// Fails when a budget is missed.
    #[arg(long)]
    strict: bool,
}

/// How much is done.
#[derive(Clone, Debug)]
struct Plan {
    effort: Effort,
    quick: bool,
    keys: Vec<usize>,
    collections: Vec<usize>,
    counters: Vec<u64>,
    records: u64,
    runs: usize,
    program: Option<PathBuf>,
}

impl Plan {
    fn new(args: &Table) -> Self {
        fn or<T: Clone>(given: &[T], quick: bool, small: &[T], usual: &[T]) -> Vec<T> {
            match (given, quick) {
                ([], true) => small.to_vec(),
                ([], false) => usual.to_vec(),
                (given, _) => given.to_vec(),
            }
        }
        let quick = args.quick;
        let effort = if quick { Effort::QUICK } else { Effort::FULL };
        Self {
            effort: effort.by(if args.wall { Clock::Wall } else { Clock::Thread }),
            quick,
            keys: or(&args.keys, quick, &[100_000], &[500_000, 10_000_000]),
            collections: or(&args.collections, quick, &[20_000], &[500_000, 10_000_000]),
            counters: or(&args.counters, quick, &[100_000], &[1_000_000, 5_000_000, 10_000_000]),
            records: args.records.unwrap_or(if quick { 4_000_000 } else { 40_000_000 }),
            runs: args.runs.unwrap_or(if quick { 1 } else { 3 }).max(1),
            program: args.program.clone(),
        }
    }
}

/// Tells on the standard error what is going on.
pub(crate) fn progress(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}

fn measure<F: BackendFactory>(args: &Table, factory: &F) -> Result<(Vec<Row>, Vec<w1::Run>)> {
    let plan = Plan::new(args);
    let wanted = |workload| args.only.is_empty() || args.only.contains(&workload);
    let (mut rows, mut runs) = (Vec::new(), Vec::new());
    if wanted(Workload::W2) {
        w2::measure(&plan, factory, &mut rows)?;
    }
    if wanted(Workload::W3) {
        w3::measure(&plan, factory, &mut rows)?;
    }
    if wanted(Workload::Commit) {
        commit::measure(&plan, &mut rows)?;
    }
    if wanted(Workload::W5) {
        w5::measure(&plan, factory, &mut rows)?;
    }
    if wanted(Workload::W1) {
        runs = w1::measure(&plan, factory.name(), &mut rows)?;
    }
    Ok((rows, runs))
}

fn table(args: &Table) -> Result<ExitCode> {
    let (rows, runs) = match args.backend {
        Backend::Memory => measure(args, &MemoryBackendFactory::default())?,
    };
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
    let Command::Table(args) = Cli::parse().command;
    match table(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
