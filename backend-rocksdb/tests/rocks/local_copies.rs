//! A restore links those files of the last checkpoint that are still on this machine.

use std::fs;
use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_conformance::FaultySegments;
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroupRange};
use tempfile::TempDir;

use crate::common::{Counters, files, options};

const KEYS: u64 = 5_000;

fn filled(factory: &RocksBackendFactory) -> (Counters, KeyedSnapshot) {
    let mut counters = Counters::new(factory);
    for key in 0..KEYS {
        counters.put(key, !key).unwrap();
    }
    let snapshot = counters.snapshot().unwrap();
    (counters, snapshot)
}

fn check(factory: &RocksBackendFactory, store: &Arc<FaultySegments>, snapshot: &KeyedSnapshot) {
    let (store, snapshots) = (Arc::clone(store), std::slice::from_ref(snapshot));
    let restored = Counters::restored(factory, KeyGroupRange::ALL, store, snapshots, CheckpointId(9));
    let (mut restored, _) = restored.unwrap();
    for key in 0..KEYS {
        assert_eq!(restored.get(key).unwrap(), Some(!key));
    }
}

#[test]
fn a_restore_with_local_copies_reads_only_the_directory_from_the_store() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let (counters, snapshot) = filled(&factory);
    let store = Arc::clone(&counters.store);
    drop(counters);
    // Without the packs, a restore from the store alone fails.
    let (directory, packs) = snapshot.parts.split_last().unwrap();
    for pack in packs {
        store.segments().remove(&pack.segment.name);
    }
    assert!(store.segments().get(&directory.segment.name).is_some());
    check(&factory, &store, &snapshot);
    // Another process, on the same machine.
    check(&RocksBackendFactory::new(options(place.path())).unwrap(), &store, &snapshot);
}

#[test]
fn a_damaged_copy_is_not_used() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let (counters, snapshot) = filled(&factory);
    let store = Arc::clone(&counters.store);
    drop(counters);
    let copies = files(&place.path().join("local"), ".sst");
    assert!(!copies.is_empty());
    for copy in copies {
        let mut bytes = fs::read(&copy).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&copy, bytes).unwrap();
    }
    check(&factory, &store, &snapshot);
}

#[test]
fn local_copies_of_the_last_two_snapshots_are_kept() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let mut counters = Counters::new(&factory);
    for round in 0..12 {
        for key in 0..KEYS {
            counters.put(key, round).unwrap();
        }
        counters.snapshot().unwrap();
    }
    let kept: u64 =
        files(&place.path().join("local"), ".sst").iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    let (one, all) = (40_000, 12 * 40_000);
    assert!(kept > one && kept < all * 2, "{kept} bytes of local copies");
    let in_use = files(counters.backend.path(), ".sst").len();
    assert!(files(&place.path().join("local"), ".sst").len() <= 2 * in_use + 12);
}
