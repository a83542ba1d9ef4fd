//! Builds a state of many entries, stores, restores and rescales it, and prints what each step took.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::large::{Step, run};
use strandline_state_api::Result;

/// Builds a state of many entries, stores it, restores it, rescales it from one subtask to two and back, and
/// checks every entry.
#[derive(Debug, Parser)]
#[command(name = "strandline-large")]
struct Cli {
    /// How many entries.
    #[arg(long, default_value_t = 20_000_000)]
    entries: u64,
    /// The state backend.
    #[arg(long, value_enum, default_value = "memory")]
    backend: Backend,
    /// Bytes of memory for RocksDB.
    #[arg(long, default_value_t = 128 << 20)]
    memory: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    Memory,
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

fn print(step: &Step) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let (written, full) = (step.written.map_or(String::new(), mib), step.full.map_or(String::new(), mib));
    let (seconds, resident) = (step.took.as_secs_f64(), mib(step.resident));
    println!("{:<24} {seconds:>9.3} s  {written:>12}  {full:>12}  {resident:>12}", step.what);
}

fn measure(cli: &Cli) -> Result<()> {
    println!("{:<24} {:>11}  {:>12}  {:>12}  {:>12}", "", "time", "written", "of", "resident");
    match cli.backend {
        Backend::Memory => run(&MemoryBackendFactory::default(), cli.entries, print),
        #[cfg(feature = "rocksdb")]
        Backend::Rocksdb => {
            use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};

            let directory = strandline_benches::scratch::directory()?;
            let mut options = RocksOptions::default();
            options.directory = Some(directory.path().to_path_buf());
            options.memory = cli.memory;
            run(&RocksBackendFactory::new(options)?, cli.entries, print)
        }
    }
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
