//! Several native snapshots become one database.

use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_conformance::FaultySegments;
use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroup, KeyGroupRange, StateKey};
use tempfile::TempDir;

use crate::common::{Counters, options};

/// Opens `parallelism` subtasks on `snapshots`, lets `change` work on each, and takes their snapshots.
fn life(
    factory: &RocksBackendFactory,
    store: &Arc<FaultySegments>,
    parallelism: u32,
    snapshots: &[KeyedSnapshot],
    kind: SnapshotKind,
    mut change: impl FnMut(&mut Counters, KeyGroupRange),
) -> Vec<KeyedSnapshot> {
    let take = |subtask| {
        let range = KeyGroupRange::of_subtask(subtask, parallelism);
        let restored = Counters::restored(factory, range, Arc::clone(store), snapshots, CheckpointId(0));
        let (mut counters, _) = restored.unwrap();
        change(&mut counters, range);
        let prepared = counters.prepare(kind).unwrap();
        counters.commit(prepared).unwrap()
    };
    (0..parallelism).map(take).collect()
}

#[test]
fn deleted_values_stay_deleted_when_snapshots_become_one_database() {
    for first in [SnapshotKind::Full, SnapshotKind::Incremental] {
        let place = TempDir::new().unwrap();
        let factory = RocksBackendFactory::new(options(place.path())).unwrap();
        let store = Arc::new(FaultySegments::new());
        let filled = life(&factory, &store, 1, &[], first, |counters, _| {
            for key in 0..100 {
                counters.put(key, key).unwrap();
            }
        });
        let own = |key: &u64, range: KeyGroupRange| range.contains(KeyGroup::of(key.key_hash()));
        let cleared = life(&factory, &store, 3, &filled, SnapshotKind::Incremental, |counters, range| {
            for key in (0..100).filter(|key| own(key, range)) {
                let cleared = counters.backend.at(&key).state(counters.state).clear();
                assert!(cleared.unwrap(), "key {key}");
            }
        });
        for parallelism in [1, 2, 3, 4] {
            life(&factory, &store, parallelism, &cleared, SnapshotKind::Full, |counters, range| {
                for key in (0..100).filter(|key| own(key, range)) {
                    assert_eq!(counters.get(key).unwrap(), None, "key {key} of {first:?} at {parallelism}");
                }
            });
        }
    }
}
