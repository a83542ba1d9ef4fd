//! State that is read and changed while the writer takes an increment into the database.

use std::collections::BTreeMap;
use std::fs;

use futures::executor::block_on;
use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_state_api::backend::{
    BackendFactory, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{
    CheckpointId, ErrorKind, KeyGroupRange, ListDescriptor, MapDescriptor, ValueDescriptor,
};
use tempfile::TempDir;

use crate::common::{Counters, files, options, scope};

const KEYS: u64 = 300;

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    value: Option<u64>,
    list: Vec<u64>,
    map: BTreeMap<u64, u64>,
}

/// Values, lists and maps change at random all the while; each snapshot restores to what they were at its barrier.
#[test]
fn a_snapshot_is_taken_while_its_state_changes() {
    let cases: u64 = std::env::var("STRANDLINE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1);
    let place = TempDir::new().unwrap();
    for (memory, write_back) in [(16, 0.25), (4, 0.01), (16, 0.0)] {
        let mut options = options(place.path());
        options.memory = memory << 20;
        options.write_back = write_back;
        let factory = RocksBackendFactory::new(options).unwrap();
        let store = std::sync::Arc::new(strandline_conformance::FaultySegments::default());
        let mut backend = factory.create::<u64>(scope(KeyGroupRange::ALL)).unwrap();
        let values = backend.register(&ValueDescriptor::<u64>::new("values")).unwrap();
        let lists = backend.register(&ListDescriptor::<u64>::new("lists")).unwrap();
        let maps = backend.register(&MapDescriptor::<u64, u64>::new("maps")).unwrap();
        block_on(backend.restore(&[], store.as_ref())).unwrap();
        let writer = backend.take_writer().unwrap();
        let mut random = fastrand::Rng::with_seed(5);
        let mut model: BTreeMap<u64, Entry> = BTreeMap::new();
        for checkpoint in 1..=30 * cases {
            let mut work = |backend: &mut _, steps: usize| {
                let backend: &mut strandline_backend_rocksdb::RocksBackend<u64> = backend;
                for _ in 0..steps {
                    let key = random.u64(..KEYS);
                    let entry = model.entry(key).or_default();
                    let number = random.u64(..1_000);
                    let mut at = backend.at(&key);
                    match random.u8(..9) {
                        0 => {
                            at.state(values).put(number).unwrap();
                            entry.value = Some(number);
                        }
                        1 => assert_eq!(at.state(values).take().unwrap(), entry.value.take(), "key {key}"),
                        2..5 => {
                            at.state(lists).push(number).unwrap();
                            entry.list.push(number);
                        }
                        5 => assert_eq!(at.state(lists).get().unwrap().to_vec(), entry.list, "key {key}"),
                        6 if number < 300 => {
                            assert_eq!(
                                at.state(lists).take().unwrap(),
                                std::mem::take(&mut entry.list),
                                "key {key}"
                            );
                        }
                        6 => assert_eq!(at.state(values).get().unwrap().copied(), entry.value, "key {key}"),
                        7 => {
                            at.state(maps).put(number % 7, number).unwrap();
                            entry.map.insert(number % 7, number);
                        }
                        _ => {
                            let mut found = BTreeMap::new();
                            let mut visit = |key: &u64, value: &u64| {
                                found.insert(*key, *value);
                                Ok(())
                            };
                            at.state(maps).for_each(&mut visit).unwrap();
                            assert_eq!(found, entry.map, "key {key}");
                        }
                    }
                }
                model.clone()
            };
            work(&mut backend, 400);
            let wanted = work(&mut backend, 0);
            backend.prepare(CheckpointId(checkpoint), SnapshotKind::Incremental).unwrap();
            let prepared = loop {
                match backend.advance(20).unwrap() {
                    Progress::Ready(_, prepared) => break prepared,
                    Progress::More => work(&mut backend, 7),
                    Progress::Idle => panic!("the snapshot is lost"),
                };
            };
            store.write_for(1, CheckpointId(checkpoint));
            let snapshot = std::thread::scope(|scope| {
                let commit = scope.spawn(|| block_on(writer.commit(prepared, store.as_ref())).unwrap());
                while !commit.is_finished() {
                    work(&mut backend, 10);
                }
                commit.join().unwrap()
            });
            if checkpoint % 5 > 0 {
                continue;
            }
            let mut restored = factory.create::<u64>(scope(KeyGroupRange::ALL)).unwrap();
            let values = restored.register(&ValueDescriptor::<u64>::new("values")).unwrap();
            let lists = restored.register(&ListDescriptor::<u64>::new("lists")).unwrap();
            let maps = restored.register(&MapDescriptor::<u64, u64>::new("maps")).unwrap();
            block_on(restored.restore(&[snapshot], store.as_ref())).unwrap();
            for (key, wanted) in &wanted {
                let mut at = restored.at(key);
                let value = at.state(values).get().unwrap().copied();
                let list = at.state(lists).get().unwrap().to_vec();
                let mut map = BTreeMap::new();
                let mut visit = |key: &u64, value: &u64| {
                    map.insert(*key, *value);
                    Ok(())
                };
                at.state(maps).for_each(&mut visit).unwrap();
                let found = Entry { value, list, map };
                assert_eq!(found, *wanted, "key {key} of checkpoint {checkpoint}");
            }
        }
    }
}

/// An increment that the disk did not take is an error of the snapshot and of every access, until the disk takes it.
#[test]
fn changes_wait_until_the_disk_takes_them() {
    let place = TempDir::new().unwrap();
    let factory = RocksBackendFactory::new(options(place.path())).unwrap();
    let mut counters = Counters::new(&factory);
    (0..1_000).for_each(|key| counters.put(key, key).unwrap());
    let first = counters.snapshot().unwrap();
    (0..1_000).step_by(2).for_each(|key| counters.put(key, key + 1).unwrap());
    // Where the files would be.
    let path = counters.backend.path().to_path_buf();
    let name = path.file_name().unwrap().to_str().unwrap();
    let obstacles: Vec<_> = (0..50).map(|n| path.with_file_name(format!("{name}-cut-{n}.0.sst"))).collect();
    obstacles.iter().for_each(|obstacle| fs::create_dir(obstacle).unwrap());
    let error = counters.snapshot().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(path.parent().unwrap().to_str().unwrap()), "{error}");
    let error = counters.get(1).unwrap_err();
    assert!(error.to_string().contains("a table file cannot be made"), "{error}");
    assert!(counters.put(3, 9).is_err());
    obstacles.iter().for_each(|obstacle| fs::remove_dir(obstacle).unwrap());
    counters.put(3, 9).unwrap();
    let second = counters.snapshot().unwrap();
    let value = |key: u64| if key == 3 { 9 } else { key + u64::from(key.is_multiple_of(2)) };
    for (snapshot, value) in [(first, &(|key| key) as &dyn Fn(u64) -> u64), (second, &value)] {
        let store = std::sync::Arc::clone(&counters.store);
        let restored =
            Counters::restored(&factory, KeyGroupRange::ALL, store, &[snapshot], CheckpointId(9)).unwrap();
        let mut restored = restored.0;
        (0..1_000).for_each(|key| assert_eq!(restored.get(key).unwrap(), Some(value(key)), "key {key}"));
    }
    assert!(
        files(path.parent().unwrap(), ".sst").iter().all(|file| !file.to_str().unwrap().contains("-cut-"))
    );
}
