//! What an incremental snapshot writes to the store.

use std::sync::Arc;

use strandline_backend_rocksdb::{RocksBackendFactory, Tune};
use strandline_conformance::StoreFault;
use strandline_state_api::KeyGroupRange;
use strandline_state_api::backend::SnapshotKind;
use tempfile::TempDir;

use crate::common::{Counters, options};

#[test]
fn files_are_stored_once_even_if_a_checkpoint_fails() {
    let place = TempDir::new().unwrap();
    // A compaction would write all files anew.
    let calm = Tune::new(|options| options.set_level_zero_file_num_compaction_trigger(40));
    let factory = RocksBackendFactory::new(options(place.path())).unwrap().tuned(calm);
    let mut counters = Counters::new(&factory);
    for key in 0..30_000 {
        counters.put(key, key).unwrap();
    }
    let first = counters.snapshot().unwrap();
    assert!(first.written_bytes > 300_000 && first.written_bytes == first.full_bytes());
    // Aborted: taken, stored, and never named by a checkpoint.
    counters.put(1, 2).unwrap();
    let aborted = counters.snapshot().unwrap();
    assert!(
        aborted.written_bytes < first.written_bytes / 10,
        "{} bytes for one change",
        aborted.written_bytes
    );
    // Abandoned before it was stored.
    counters.put(2, 3).unwrap();
    drop(counters.prepare(SnapshotKind::Incremental).unwrap());
    // Failed: its packs are stored, its directory is not.
    counters.put(3, 4).unwrap();
    let prepared = counters.prepare(SnapshotKind::Incremental).unwrap();
    counters.store.fail(1, 9, StoreFault::PutRefused);
    assert!(counters.commit(prepared).is_err());
    counters.store.heal();
    let last = counters.snapshot().unwrap();
    assert!(last.written_bytes < first.written_bytes / 10, "{} bytes", last.written_bytes);
    let store = Arc::clone(&counters.store);
    store.keep_only([&last]);
    let (mut restored, _) =
        Counters::restored(&factory, KeyGroupRange::ALL, store, &[last], counters.last).unwrap();
    for (key, value) in [(0, 0), (1, 2), (2, 3), (3, 4), (29_999, 29_999)] {
        assert_eq!(restored.get(key).unwrap(), Some(value), "key {key}");
    }
}

#[test]
fn a_checkpoint_is_a_few_objects() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let mut counters = Counters::new(&factory);
    let mut before = 0;
    for round in 0..30 {
        for key in 0..2_000 {
            counters.put(key * 31 + round, round).unwrap();
        }
        counters.snapshot().unwrap();
        let objects = counters.store.segments().segments().len();
        assert!(objects - before <= 4, "{} objects for a checkpoint of 2,000 changes", objects - before);
        before = objects;
    }
}

#[test]
fn many_increments_of_one_change_need_few_objects() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    // With entries before, and with none, where the database never merges files of one entry each.
    for before in [0, 2_000] {
        let mut counters = Counters::new(&factory);
        for key in 0..before {
            counters.put(key, key).unwrap();
        }
        counters.snapshot().unwrap();
        for key in 0..49 {
            counters.put(key, key + 1).unwrap();
            let taken = counters.snapshot().unwrap();
            assert!(taken.parts.len() <= 25, "{} objects after {key} increments", taken.parts.len());
        }
        let last = counters.snapshot().unwrap();
        let store = Arc::clone(&counters.store);
        store.keep_only([&last]);
        let (mut restored, _) =
            Counters::restored(&factory, KeyGroupRange::ALL, store, &[last], counters.last).unwrap();
        for key in 0..49 {
            assert_eq!(restored.get(key).unwrap(), Some(key + 1));
        }
    }
}
