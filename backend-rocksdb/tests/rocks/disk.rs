//! Files that no backend needs are deleted.

use std::fs::{self, File};

use futures::executor::block_on;
use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_state_api::backend::{BackendFactory, SnapshotKind, SnapshotWriter};
use strandline_state_api::{ErrorKind, KeyGroupRange};
use tempfile::TempDir;

use crate::common::{Counters, files, options, scope};

#[test]
fn a_start_deletes_the_files_of_dead_processes_and_of_no_others() {
    let place = TempDir::new().unwrap();
    let mut living = Counters::new(&RocksBackendFactory::new(options(place.path())).unwrap());
    living.put(1, 10).unwrap();
    // A killed process leaves a directory, and a lock file that no process holds.
    let instances = place.path().join("instances");
    File::create(instances.join("count-0-999-0.lock")).unwrap();
    fs::create_dir_all(instances.join("count-0-999-0/db")).unwrap();
    fs::write(instances.join("count-0-999-0/db/000001.sst"), b"old").unwrap();
    let mut next = Counters::new(&RocksBackendFactory::new(options(place.path())).unwrap());
    assert!(!instances.join("count-0-999-0").exists() && !instances.join("count-0-999-0.lock").exists());
    next.put(1, 20).unwrap();
    assert_eq!((living.get(1).unwrap(), next.get(1).unwrap()), (Some(10), Some(20)));
}

#[test]
fn backends_and_snapshots_leave_nothing_behind() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let mut counters = Counters::new(&factory);
    for round in 0..4 {
        for key in 0..500 {
            counters.put(key, round).unwrap();
        }
        let prepared = counters.prepare(SnapshotKind::Incremental).unwrap();
        if round % 2 == 0 {
            drop(prepared);
        } else {
            counters.commit(prepared).unwrap();
        }
        let cuts = fs::read_dir(counters.backend.path().parent().unwrap()).unwrap().count();
        assert_eq!(cuts, 1, "only the database is there, no cut");
    }
    drop(counters);
    assert_eq!(fs::read_dir(place.path().join("instances")).unwrap().count(), 0);
}

#[test]
fn a_writer_that_outlives_its_backend_can_finish() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let mut counters = Counters::new(&factory);
    counters.put(7, 70).unwrap();
    let prepared = counters.prepare(SnapshotKind::Incremental).unwrap();
    let Counters { backend, writer, store, last, .. } = counters;
    drop(backend);
    let snapshot = block_on(writer.commit(prepared, store.as_ref())).unwrap();
    let (mut restored, _) =
        Counters::restored(&factory, KeyGroupRange::ALL, store, &[snapshot], last).unwrap();
    assert_eq!(restored.get(7).unwrap(), Some(70));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let place = TempDir::new().unwrap();
    let file = place.path().join("file");
    fs::write(&file, b"no directory").unwrap();
    let factory = RocksBackendFactory::new(options(&file)).unwrap();
    let backend = factory.create::<u64>(scope(KeyGroupRange::ALL));
    let error = backend.expect_err("a file is no directory");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert!(files(place.path(), ".sst").is_empty());
}
