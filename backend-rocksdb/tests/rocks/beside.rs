//! State that is read and changed while the writer takes an increment into the database.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use futures::executor::block_on;
use strandline_backend_rocksdb::{RocksBackend, RocksBackendFactory};
use strandline_conformance::FaultySegments;
use strandline_state_api::backend::{
    BackendFactory, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    CheckpointId, ErrorKind, KeyGroupRange, ListDescriptor, ListState, MapDescriptor, MapState,
    ValueDescriptor, ValueState,
};
use tempfile::TempDir;

use crate::common::{Counters, cases, files, options, scope};

const KEYS: u64 = 300;

/// What is kept of one key.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    value: Option<u64>,
    list: Vec<u64>,
    map: BTreeMap<u64, u64>,
}

/// A backend with a state of each kind.
struct States {
    backend: RocksBackend<u64>,
    values: ValueState<u64>,
    lists: ListState<u64>,
    maps: MapState<u64, u64>,
}

impl States {
    fn restored(factory: &RocksBackendFactory, store: &FaultySegments, snapshots: &[KeyedSnapshot]) -> Self {
        let mut backend = factory.create::<u64>(scope(KeyGroupRange::ALL)).unwrap();
        let values = backend.register(&ValueDescriptor::new("values")).unwrap();
        let lists = backend.register(&ListDescriptor::new("lists")).unwrap();
        let maps = backend.register(&MapDescriptor::new("maps")).unwrap();
        block_on(backend.restore(snapshots, store)).unwrap();
        Self { backend, values, lists, maps }
    }

    fn value(&mut self, key: u64) -> Option<u64> {
        self.backend.at(&key).state(self.values).get().unwrap().copied()
    }

    fn list(&mut self, key: u64) -> Vec<u64> {
        self.backend.at(&key).state(self.lists).get().unwrap().to_vec()
    }

    fn map(&mut self, key: u64) -> BTreeMap<u64, u64> {
        let mut found = BTreeMap::new();
        let visited = self.backend.at(&key).state(self.maps).for_each(|key, value| {
            found.insert(*key, *value);
            Ok(())
        });
        visited.unwrap();
        found
    }

    /// Reads and changes keys at random, and the model with them.
    fn work(&mut self, random: &mut fastrand::Rng, model: &mut BTreeMap<u64, Entry>, steps: usize) {
        for _ in 0..steps {
            let (key, number) = (random.u64(..KEYS), random.u64(..1_000));
            let entry = model.entry(key).or_default();
            let mut at = self.backend.at(&key);
            match random.u8(..9) {
                0 => {
                    at.state(self.values).put(number).unwrap();
                    entry.value = Some(number);
                }
                1 => assert_eq!(at.state(self.values).take().unwrap(), entry.value.take(), "key {key}"),
                2..5 => {
                    at.state(self.lists).push(number).unwrap();
                    entry.list.push(number);
                }
                5 => assert_eq!(self.list(key), entry.list, "key {key}"),
                6 if number < 300 => {
                    let list = std::mem::take(&mut entry.list);
                    assert_eq!(at.state(self.lists).take().unwrap(), list, "key {key}");
                }
                6 => assert_eq!(self.value(key), entry.value, "key {key}"),
                7 => {
                    at.state(self.maps).put(number % 7, number).unwrap();
                    entry.map.insert(number % 7, number);
                }
                _ => assert_eq!(self.map(key), entry.map, "key {key}"),
            }
        }
    }
}

/// Values, lists and maps change at random all the while; each snapshot restores to what they were at its barrier.
#[test]
fn a_snapshot_is_taken_while_its_state_changes() {
    let place = TempDir::new().unwrap();
    for (memory, write_back) in [(16, 0.25), (4, 0.01), (16, 0.0)] {
        let mut options = options(place.path());
        options.memory = memory << 20;
        options.write_back = write_back;
        let factory = RocksBackendFactory::new(options).unwrap();
        let store = FaultySegments::default();
        let mut states = States::restored(&factory, &store, &[]);
        let writer = states.backend.take_writer().unwrap();
        let (mut random, mut model) = (fastrand::Rng::with_seed(5), BTreeMap::new());
        for checkpoint in 1..=cases(30) {
            states.work(&mut random, &mut model, 400);
            let wanted = model.clone();
            states.backend.prepare(CheckpointId(checkpoint), SnapshotKind::Incremental).unwrap();
            let prepared = loop {
                match states.backend.advance(20).unwrap() {
                    Progress::Ready(_, prepared) => break prepared,
                    Progress::More => states.work(&mut random, &mut model, 7),
                    Progress::Idle => panic!("the snapshot is lost"),
                }
            };
            store.write_for(1, CheckpointId(checkpoint));
            let snapshot = std::thread::scope(|scope| {
                let commit = scope.spawn(|| block_on(writer.commit(prepared, &store)).unwrap());
                while !commit.is_finished() {
                    states.work(&mut random, &mut model, 10);
                }
                commit.join().unwrap()
            });
            if checkpoint % 5 > 0 {
                continue;
            }
            let mut restored = States::restored(&factory, &store, &[snapshot]);
            for (&key, wanted) in &wanted {
                let (value, list, map) = (restored.value(key), restored.list(key), restored.map(key));
                assert_eq!(Entry { value, list, map }, *wanted, "key {key} of checkpoint {checkpoint}");
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
        let store = Arc::clone(&counters.store);
        let restored =
            Counters::restored(&factory, KeyGroupRange::ALL, store, &[snapshot], CheckpointId(9)).unwrap();
        let mut restored = restored.0;
        (0..1_000).for_each(|key| assert_eq!(restored.get(key).unwrap(), Some(value(key)), "key {key}"));
    }
    assert!(
        files(path.parent().unwrap(), ".sst").iter().all(|file| !file.to_str().unwrap().contains("-cut-"))
    );
}
