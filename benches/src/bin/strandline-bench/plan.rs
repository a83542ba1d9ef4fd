//! The workloads and their sizes.

use std::path::PathBuf;

use clap::ValueEnum;
use strandline_benches::table::Budget;
use strandline_benches::{Clock, Effort};

use crate::Table;

/// A workload of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// State access.
    W2,
    /// Snapshot and restore.
    W3,
    /// Making checkpoints exist.
    Commit,
    /// What the embedding API and the executor cost.
    W5,
    /// Tumbling and sliding windows.
    Windows,
    /// The keyed count, through the binary.
    W1,
    /// RocksDB itself beside the backend; part of the backend `rocksdb`.
    #[cfg(feature = "rocksdb")]
    Raw,
}

/// A state backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// Native values in memory.
    Memory,
    /// Embedded RocksDB.
    #[cfg(feature = "rocksdb")]
    Rocksdb,
}

/// The sizes that suit a backend.
struct Sizes {
    keys: &'static [usize],
    collections: &'static [usize],
    kinds: &'static [usize],
    timers: &'static [usize],
    counters: &'static [u64],
    records: u64,
}

impl Backend {
    fn sizes(self, quick: bool) -> Sizes {
        match (self, quick) {
            (Self::Memory, true) => Sizes {
                keys: &[100_000],
                collections: &[20_000],
                kinds: &[50_000],
                timers: &[100_000],
                counters: &[100_000],
                records: 4_000_000,
            },
            (Self::Memory, false) => Sizes {
                keys: &[500_000, 10_000_000],
                collections: &[500_000, 10_000_000],
                kinds: &[500_000],
                timers: &[1_000_000, 10_000_000],
                counters: &[1_000_000, 5_000_000, 10_000_000],
                records: 40_000_000,
            },
            #[cfg(feature = "rocksdb")]
            (Self::Rocksdb, true) => Sizes {
                keys: &[50_000],
                collections: &[5_000],
                kinds: &[20_000],
                timers: &[20_000],
                counters: &[50_000],
                records: 1_000_000,
            },
            #[cfg(feature = "rocksdb")]
            (Self::Rocksdb, false) => Sizes {
                keys: &[500_000, 1_000_000],
                collections: &[100_000],
                kinds: &[500_000],
                timers: &[1_000_000],
                counters: &[1_000_000, 5_000_000],
                records: 4_000_000,
            },
        }
    }

    /// Returns whether it waits, or works in threads of its own, so that only the time that passed is its
    /// cost.
    fn waits(self) -> bool {
        self != Self::Memory
    }
}

/// The sizes and the effort for one backend.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) backend: Backend,
    pub(crate) effort: Effort,
    pub(crate) quick: bool,
    pub(crate) keys: Vec<usize>,
    pub(crate) collections: Vec<usize>,
    /// Keys of the reducing, aggregating and expiring states.
    pub(crate) kinds: Vec<usize>,
    /// Timers that are set at once.
    pub(crate) timers: Vec<usize>,
    /// How the names of the operations of W2 start; empty for all.
    pub(crate) operations: Vec<String>,
    pub(crate) counters: Vec<u64>,
    pub(crate) records: u64,
    pub(crate) runs: usize,
    pub(crate) program: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn new(args: &Table, backend: Backend) -> Self {
        fn or<T: Clone>(given: &[T], usual: &[T]) -> Vec<T> {
            if given.is_empty() { usual.to_vec() } else { given.to_vec() }
        }
        let quick = args.quick;
        let sizes = backend.sizes(quick);
        let wall = args.wall || backend.waits() && !args.thread;
        let clock = if wall { Clock::Wall } else { Clock::Thread };
        let effort = if quick { Effort::QUICK } else { Effort::FULL };
        Self {
            backend,
            effort: effort.by(clock),
            quick,
            keys: or(&args.keys, sizes.keys),
            collections: or(&args.collections, sizes.collections),
            kinds: or(&args.kinds, sizes.kinds),
            timers: or(&args.timers, sizes.timers),
            operations: args.operations.clone(),
            counters: or(&args.counters, sizes.counters),
            records: args.records.unwrap_or(sizes.records),
            runs: args.runs.unwrap_or(if quick { 1 } else { 3 }).max(1),
            program: args.program.clone(),
        }
    }

    /// Returns the operations of W2 that are to be measured.
    pub(crate) fn chosen<Op: Copy>(
        &self,
        all: impl IntoIterator<Item = Op>,
        name: fn(Op) -> &'static str,
    ) -> Vec<Op> {
        let wanted = |op: &Op| {
            let name = name(*op);
            self.operations.is_empty() || self.operations.iter().any(|start| name.starts_with(start.as_str()))
        };
        all.into_iter().filter(wanted).collect()
    }

    /// A promise that only the memory backend makes.
    pub(crate) fn in_memory(&self, budget: Budget) -> Option<Budget> {
        (self.backend == Backend::Memory).then_some(budget)
    }
}
