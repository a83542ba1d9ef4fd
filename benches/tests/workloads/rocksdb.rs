//! The workloads do the same with the backend on RocksDB, with RocksDB itself, and with the plain map.

use crate::common::{DISTRIBUTIONS, every_way_counts_the_same, in_step, states_keep_in_step};
use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};
use strandline_benches::rocks::{Access, ManyStates, Ours, Raw, StatesOp, factory, options};
use strandline_benches::w3::Counters;
use tempfile::TempDir;

/// With no table, and with one.
fn factories() -> [(RocksBackendFactory, TempDir); 2] {
    [0.0, 0.25].map(|write_back| {
        let mut options = options(write_back);
        options.memory = 16 << 20;
        factory(options).unwrap()
    })
}

#[test]
fn the_backend_and_the_plain_map_keep_in_step() {
    for (factory, _dir) in &factories() {
        states_keep_in_step(factory);
    }
}

#[test]
fn the_backend_and_rocksdb_itself_keep_in_step() {
    for (factory, _dir) in &factories() {
        for accesses in [&Access::VALUES[..], &Access::LISTS, &Access::MAPS] {
            let ops: Vec<_> =
                accesses.iter().flat_map(|access| DISTRIBUTIONS.map(|of| (*access, of))).collect();
            let (mut ours, mut raw) = (Ours::new(factory, 1_000).unwrap(), Raw::new(factory, 1_000).unwrap());
            in_step(&ops, &mut ours, &mut raw);
        }
    }
}

#[test]
fn many_states_hold_what_one_does() {
    for (factory, _dir) in &factories() {
        let (many, one) = (ManyStates::new(factory, 1_000, 100), ManyStates::new(factory, 1_000, 1));
        let (mut many, mut one) = (many.unwrap(), one.unwrap());
        in_step(&StatesOp::ALL, &mut many, &mut one);
        let ((memory, files), (_, files_of_one)) = (many.bytes(), one.bytes());
        assert!(memory > 0 && files > 0 && files_of_one > 0);
    }
}

#[test]
fn snapshots_of_counters_restore_and_rescale() {
    let [_, (here, _dir)] = factories();
    let [_, (elsewhere, _other)] = factories();
    let count = 5_000;
    let mut counters = Counters::new(here, count).unwrap();
    counters.fill().unwrap();
    let first = counters.snapshot().unwrap();
    counters.update(100).unwrap();
    let second = counters.snapshot().unwrap();
    assert!(second.written * 3 < first.written, "{second:?} after {first:?}");
    assert_eq!(counters.restore(0, 1).unwrap().entries, count);
    counters.restore_halves().unwrap();
    for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 3)] {
        assert_eq!(counters.rescale(&elsewhere, from, to).unwrap().entries, count, "{from} to {to}");
    }
    counters.tidy().unwrap();
    assert_eq!(counters.restore(0, 1).unwrap().entries, count);
}

#[test]
fn every_way_to_count_counts_the_same() {
    let (factory, _dir) = factory(RocksOptions::default()).unwrap();
    every_way_counts_the_same(&factory);
}
