//! The workloads do what they say on RocksDB, and RocksDB itself beside the backend comes to the same results.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::sync::Arc;

use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};
use strandline_benches::keys::shuffled;
use strandline_benches::rocks::{Access, ManyStates, Ours, Raw, StatesOp, factory, options};
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_benches::w3::Counters;
use strandline_benches::w5::{Counting, Embedding, Floor, executor, stream};
use strandline_benches::{Effort, Subject, compare};
use strandline_connectors::keys::Distribution;
use strandline_state_api::KeyGroupRange;
use tempfile::TempDir;

const BOTH: [Distribution; 2] = [Distribution::Uniform, Distribution::Zipf];

/// With no table, and with one.
fn factories() -> [(RocksBackendFactory, TempDir); 2] {
    [0.0, 0.25].map(|write_back| {
        let mut options = options(write_back);
        options.memory = 16 << 20;
        factory(options).unwrap()
    })
}

/// Each operation after each other one.
fn in_step<Op: Copy + Debug>(ops: &[Op], ours: &mut impl Subject<Op>, other: &mut impl Subject<Op>) {
    for first in ops {
        for second in ops {
            compare(*first, ours, other, Effort::ONCE).unwrap();
            compare(*second, ours, other, Effort::ONCE).unwrap();
        }
    }
}

#[test]
fn the_backend_and_the_plain_map_keep_in_step() {
    let keys = shuffled(300);
    for (factory, _dir) in &factories() {
        let mut ours = Values::new(factory.clone(), Arc::clone(&keys)).unwrap();
        in_step(&ValueOp::ALL, &mut ours, &mut PlainValues::new(Arc::clone(&keys)));
        in_step(&ListOp::ALL, &mut Lists::new(factory, &keys).unwrap(), &mut PlainLists::new(&keys));
        in_step(&MapOp::ALL, &mut Maps::new(factory.clone(), &keys).unwrap(), &mut PlainMaps::new(&keys));
    }
}

#[test]
fn the_backend_and_rocksdb_itself_keep_in_step() {
    for (factory, _dir) in &factories() {
        for accesses in [&Access::VALUES[..], &Access::LISTS, &Access::MAPS] {
            let ops: Vec<_> = accesses.iter().flat_map(|access| BOTH.map(|of| (*access, of))).collect();
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
    assert_eq!(counters.restore(KeyGroupRange::ALL).unwrap().entries, count);
    counters.restore_halves().unwrap();
    for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 3)] {
        assert_eq!(counters.rescale(&elsewhere, from, to).unwrap().entries, count, "{from} to {to}");
    }
    counters.tidy().unwrap();
    assert_eq!(counters.restore(KeyGroupRange::ALL).unwrap().entries, count);
}

#[test]
fn every_way_to_count_counts_the_same() {
    let (factory, _dir) = factory(RocksOptions::default()).unwrap();
    let records = 20_000;
    for distribution in BOTH {
        let stream = stream(records, 1_000, distribution).unwrap();
        let (wanted, _) = Floor::whole(stream.clone(), records);
        for way in Embedding::ALL {
            let mut ours = Counting::new(&factory, way, stream.clone(), 0).unwrap();
            let sum = [7, 9_001, 10_992].map(|part| ours.count(part).unwrap());
            assert_eq!(sum.into_iter().fold(0, u64::wrapping_add), wanted, "{way:?}");
        }
        assert_eq!(executor(factory.clone(), stream, true).unwrap().0, wanted);
    }
}
