//! The whole conformance suite, in each mode of the backend.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::OnceLock;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions, Tune};
use strandline_conformance::{Capabilities, Subject, backend, backend_tests};
use tempfile::TempDir;

/// A directory for the databases.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    // In memory where the machine has such a directory: the cases open thousands of databases, and none tests
    // the disk.
    DIRECTORY.get_or_init(|| TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()).path()
}

/// Small files and little memory. Local copies are off, as cases damage the store and expect an error.
fn factory(write_back: f64, memory: usize) -> RocksBackendFactory {
    let mut options = RocksOptions::default();
    options.directory = Some(directory().to_path_buf());
    options.memory = memory;
    options.write_back = write_back;
    options.local_copies = false;
    options.statistics = false;
    // A compaction in the middle of a case that counts bytes would add to them.
    let calm = |options: &mut rocksdb::Options| {
        options.set_level_zero_file_num_compaction_trigger(40);
        options.set_level_zero_slowdown_writes_trigger(80);
        options.set_level_zero_stop_writes_trigger(120);
    };
    RocksBackendFactory::new(options).unwrap().tuned(Tune::new(calm))
}

fn capabilities() -> Capabilities {
    Capabilities {
        portable_increments: false,
        keeps_older_forms: false,
        counts_entries: false,
        ..Capabilities::default()
    }
}

mod write_back {
    use super::*;
    backend_tests!(factory(0.25, 64 << 20), capabilities());
}

mod write_through {
    use super::*;
    backend_tests!(factory(0.0, 64 << 20), capabilities());
}

/// The table holds a few hundred entries, so that it evicts all the time.
mod tiny_table {
    use super::*;
    backend_tests!(factory(0.004, 8 << 20), capabilities());
}

fn both() -> (Subject<RocksBackendFactory>, Subject<MemoryBackendFactory>) {
    let rocks = Subject::new(factory(0.25, 64 << 20)).with_capabilities(capabilities());
    (rocks, Subject::new(MemoryBackendFactory::default()))
}

#[test]
fn snapshots_move_between_the_backends() {
    let (rocks, memory) = both();
    backend::portability::from_one_backend_to_another(&rocks, &memory);
    backend::portability::from_one_backend_to_another(&memory, &rocks);
}

#[test]
fn a_job_that_moves_between_the_backends_and_migrates() {
    let (rocks, memory) = both();
    backend::forms::random_lives_of_two_backends(&rocks, &memory);
    backend::forms::random_lives_of_two_backends(&memory, &rocks);
}

#[test]
fn a_job_that_moves_between_the_backends() {
    let (rocks, memory) = both();
    backend::portability::random_moves(&rocks, &memory);
}
