//! What compactions leave out.

use std::time::Duration;

use futures::executor::block_on;
use strandline_backend_rocksdb::{RocksBackend, RocksBackendFactory};
use strandline_conformance::FaultySegments;
use strandline_state_api::backend::{
    BackendFactory, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{
    CheckpointId, Cleanup, Expiring, KeyGroupRange, KeyedBackend, ListDescriptor, ListState, StateHandle,
    Timestamp, Ttl, ValueDescriptor, ValueState, Visibility,
};
use tempfile::TempDir;

use crate::common::{options, scope};

const KEYS: u64 = 2_000;

/// A value, a list, a value that compactions do not clean up, and one without a time-to-live.
#[derive(Clone, Copy)]
struct States {
    value: ValueState<u64, (), Expiring>,
    list: ListState<u64, (), Expiring>,
    kept: ValueState<u64, (), Expiring>,
    forever: ValueState<u64>,
}

fn open(place: &TempDir, ttl: Ttl) -> (RocksBackend<u64>, States) {
    // Without a table, and with reads that return expired values, a read shows what is in the database.
    let ttl = ttl.visibility(Visibility::UntilCleaned);
    let mut options = options(place.path());
    options.write_back = 0.0;
    let mut backend =
        RocksBackendFactory::new(options).unwrap().create::<u64>(scope(KeyGroupRange::ALL)).unwrap();
    let kept = ttl.cleanup(Cleanup { in_compactions: false, ..Cleanup::default() });
    let states = States {
        value: backend.register(&ValueDescriptor::new("value").time_to_live(ttl)).unwrap(),
        list: backend.register(&ListDescriptor::new("list").time_to_live(ttl)).unwrap(),
        kept: backend.register(&ValueDescriptor::new("kept").time_to_live(kept)).unwrap(),
        forever: backend.register(&ValueDescriptor::new("forever")).unwrap(),
    };
    (backend, states)
}

/// Writes all states of some keys.
fn write(backend: &mut RocksBackend<u64>, states: States, keys: impl Iterator<Item = u64>) {
    for key in keys {
        let mut scope = backend.at(&key);
        scope.state(states.value).put(key).unwrap();
        scope.state(states.list).put(vec![key]).unwrap();
        scope.state(states.kept).put(key).unwrap();
        scope.state(states.forever).put(key).unwrap();
    }
}

/// Counts the keys of each state, expired or not. A walk over keys reads no value, so it removes none.
fn left(backend: &mut RocksBackend<u64>, states: States) -> [u64; 4] {
    [
        count(backend, states.value),
        count(backend, states.list),
        count(backend, states.kept),
        count(backend, states.forever),
    ]
}

fn count<S: StateHandle>(backend: &mut RocksBackend<u64>, state: S) -> u64 {
    let mut count = 0;
    let counted = backend.keys(state, |_, _| {
        count += 1;
        Ok(())
    });
    counted.unwrap();
    count
}

fn time(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis))
}

fn snapshot(backend: &mut RocksBackend<u64>, id: u64) -> <RocksBackend<u64> as SnapshotSource>::Prepared {
    backend.prepare(CheckpointId(id), SnapshotKind::Incremental).unwrap();
    loop {
        match backend.advance(1 << 12).unwrap() {
            Progress::Ready(_, prepared) => return prepared,
            Progress::More => {}
            Progress::Idle => panic!("the snapshot is lost"),
        }
    }
}

#[test]
fn compactions_leave_out_what_has_expired() {
    let place = TempDir::new().unwrap();
    let (mut backend, states) = open(&place, Ttl::processing_time(Duration::from_millis(10)));
    backend.clock().processing_time = time(0);
    write(&mut backend, states, 0..KEYS / 2);
    backend.clock().processing_time = time(8);
    write(&mut backend, states, KEYS / 2..KEYS);
    // A list stays as long as one of its elements has not expired.
    backend.at(&0).state(states.list).push(1).unwrap();
    backend.clock().processing_time = time(12);
    let writer = backend.take_writer().unwrap();
    let store = FaultySegments::default();
    let prepared = snapshot(&mut backend, 1);
    block_on(writer.commit(prepared, &store)).unwrap();
    backend.compact();
    assert_eq!(left(&mut backend, states), [KEYS / 2, KEYS / 2 + 1, KEYS, KEYS]);
}

#[test]
fn compactions_keep_what_had_not_expired_at_a_barrier_without_a_copy() {
    let place = TempDir::new().unwrap();
    let ttl = Ttl::event_time(Duration::from_millis(10));
    let (mut backend, states) = open(&place, ttl);
    (backend.clock().timestamp, backend.clock().watermark) = (time(0), time(0));
    write(&mut backend, states, 0..KEYS);
    let writer = backend.take_writer().unwrap();
    let store = FaultySegments::default();
    backend.clock().watermark = time(5);
    let prepared = snapshot(&mut backend, 1);
    // The watermark passes before the copy is made; the compaction must go by the watermark of the barrier.
    backend.clock().watermark = time(1_000);
    backend.compact();
    let taken = block_on(writer.commit(prepared, &store)).unwrap();
    backend.compact();
    assert_eq!(left(&mut backend, states), [KEYS; 4], "there is no newer barrier");
    let elsewhere = TempDir::new().unwrap();
    let (mut restored, restored_states) = open(&elsewhere, ttl);
    block_on(restored.restore(&[taken], &store)).unwrap();
    assert_eq!(left(&mut restored, restored_states), [KEYS; 4]);
    let prepared = snapshot(&mut backend, 2);
    block_on(writer.commit(prepared, &store)).unwrap();
    backend.compact();
    assert_eq!(left(&mut backend, states), [0, 0, KEYS, KEYS]);
}

/// A list that is appended to all the time loses its elements one by one.
#[test]
fn compactions_shorten_lists() {
    let place = TempDir::new().unwrap();
    let (mut backend, states) = open(&place, Ttl::processing_time(Duration::from_millis(10)));
    let writer = backend.take_writer().unwrap();
    let store = FaultySegments::default();
    for now in 0..30 {
        backend.clock().processing_time = time(now);
        backend.at(&1).state(states.list).push(now as u64).unwrap();
        let prepared = snapshot(&mut backend, now as u64 + 1);
        block_on(writer.commit(prepared, &store)).unwrap();
    }
    backend.compact();
    let left = backend.at(&1).state(states.list).get().unwrap().to_vec();
    assert_eq!(left, (20..30).collect::<Vec<u64>>());
}

/// A list that no merge touches is shortened by the clean-up after a compaction, which scans nothing.
#[test]
fn a_clean_up_shortens_the_lists_that_a_compaction_has_met() {
    let place = TempDir::new().unwrap();
    let (mut backend, states) = open(&place, Ttl::processing_time(Duration::from_millis(10)));
    let writer = backend.take_writer().unwrap();
    let store = FaultySegments::default();
    for now in [0, 5] {
        backend.clock().processing_time = time(now);
        for key in 0..KEYS {
            backend.at(&key).state(states.list).push(now as u64).unwrap();
        }
    }
    let mut checkpoint = 0;
    let mut flush = |backend: &mut RocksBackend<u64>| {
        checkpoint += 1;
        let prepared = snapshot(backend, checkpoint);
        block_on(writer.commit(prepared, &store)).unwrap();
        backend.compact();
    };
    flush(&mut backend);
    assert_eq!(backend.clean_up(1_000).unwrap(), 0, "nothing has expired");
    backend.clock().processing_time = time(12);
    let mut removed = 0;
    for _ in 0..10 {
        flush(&mut backend);
        removed += backend.clean_up(500).unwrap();
    }
    assert_eq!(removed, KEYS, "one element of each list");
    for key in 0..KEYS {
        assert_eq!(backend.at(&key).state(states.list).get().unwrap().to_vec(), [5], "key {key}");
    }
}
