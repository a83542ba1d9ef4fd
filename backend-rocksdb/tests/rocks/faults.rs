//! A full or damaged disk causes an error with the state and the path, and no wrong value.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rocksdb::SstFileManager;
use strandline_backend_rocksdb::{RocksBackendFactory, Tune};
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, ErrorKind, KeyGroupRange};
use tempfile::TempDir;

use crate::common::{Counters, files, options};

#[test]
fn a_damaged_file_of_the_database_is_an_error() {
    let place = TempDir::new().unwrap();
    let mut options = options(place.path());
    options.write_back = 0.0;
    options.local_copies = false;
    let factory = RocksBackendFactory::new(options).unwrap();
    let mut counters = Counters::new(&factory);
    for key in 0..20_000 {
        counters.put(key, key * 3).unwrap();
    }
    let good = counters.snapshot().unwrap();
    for path in files(counters.backend.path(), ".sst") {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for at in (0..len / 2).step_by(512) {
            file.write_at(&[0xAA; 16], at).unwrap();
        }
    }
    let mut failed = None;
    for key in 0..20_000 {
        match counters.get(key) {
            Ok(value) => assert_eq!(value, Some(key * 3)),
            Err(error) => failed = Some(error),
        }
    }
    let error = failed.expect("a read fails");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let path = counters.backend.path().to_str().unwrap().to_owned();
    for part in ["counts", "count", &path, "restart the job"] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    // The checkpoint is whole.
    let (mut restored, _) =
        Counters::restored(&factory, KeyGroupRange::ALL, counters.store, &[good], CheckpointId(1)).unwrap();
    assert_eq!(restored.get(19_999).unwrap(), Some(59_997));
}

#[test]
fn a_full_disk_is_an_error_of_writes_and_snapshots() {
    let place = TempDir::new().unwrap();
    let mut options = options(place.path());
    options.write_back = 0.0;
    let full = |options: &mut rocksdb::Options| {
        let manager = SstFileManager::new();
        manager.set_max_allowed_space_usage(300 << 10);
        options.set_sst_file_manager(&manager);
        options.set_write_buffer_size(128 << 10);
    };
    let factory = RocksBackendFactory::new(options).unwrap().tuned(Tune::new(full));
    let mut counters = Counters::new(&factory);
    let mut random = fastrand::Rng::with_seed(1);
    let failed = (0..2_000_000).find_map(|key| counters.put(key, random.u64(..)).err());
    let error = failed.expect("the disk fills up");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(counters.backend.path().to_str().unwrap()), "{error}");
    let snapshot = counters.prepare(SnapshotKind::Incremental).and_then(|prepared| counters.commit(prepared));
    assert_eq!(snapshot.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_snapshot_that_is_damaged_in_the_store_is_refused_and_named() {
    let place = TempDir::new().unwrap();
    let mut options = options(place.path());
    options.local_copies = false;
    let factory = RocksBackendFactory::new(options).unwrap();
    let mut counters = Counters::new(&factory);
    for key in 0..3_000 {
        counters.put(key, key).unwrap();
    }
    let snapshot = counters.snapshot().unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    for part in &snapshot.parts {
        let name = &part.segment.name;
        let bytes = counters.store.segments().get(name).unwrap();
        for _ in 0..60 {
            let (at, bit) = (random.usize(..bytes.len()), random.u8(..8));
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            counters.store.segments().replace(name.clone(), &damaged);
            let store = Arc::clone(&counters.store);
            let restored = Counters::restored(
                &factory,
                KeyGroupRange::ALL,
                store,
                std::slice::from_ref(&snapshot),
                CheckpointId(1),
            );
            let error =
                restored.err().unwrap_or_else(|| panic!("bit {bit} of byte {at} of {name} is ignored"));
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible), "{error}");
            assert!(error.to_string().contains(&name.0), "{error}");
        }
        counters.store.segments().replace(name.clone(), &bytes);
    }
}
