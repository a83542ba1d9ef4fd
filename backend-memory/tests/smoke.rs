//! Smoke tests: count, take a snapshot, change, take another, restore each; and the same split into subtasks.

#![allow(clippy::unwrap_used)]

use strandline_backend_memory::{MemoryBackend, MemoryOptions};
use strandline_snapshot_format::MemorySegments;
use strandline_state_api::backend::{
    BackendScope, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{
    CheckpointId, KeyGroup, ListDescriptor, MapDescriptor, OperatorId, StateKey, ValueDescriptor, ValueState,
};
use strandline_state_testing::block_on;

fn ready<P>(backend: &mut impl SnapshotSource<Prepared = P>, budget: usize) -> P {
    loop {
        match backend.advance(budget).unwrap() {
            Progress::Ready(_, prepared) => return prepared,
            Progress::More => {}
            Progress::Idle => panic!("nothing is under way"),
        }
    }
}

fn counter() -> (MemoryBackend<u64>, ValueState<u64>) {
    counter_of(BackendScope::whole("count").unwrap())
}

fn counter_of(scope: BackendScope) -> (MemoryBackend<u64>, ValueState<u64>) {
    let mut backend = MemoryBackend::new(scope, MemoryOptions::default());
    let counts = backend.register(&ValueDescriptor::new("counts")).unwrap();
    (backend, counts)
}

#[test]
fn counts_survive() {
    let store = MemorySegments::new();
    let (mut backend, counts) = counter();
    let writer = backend.take_writer().unwrap();
    for key in 0..100_000u64 {
        backend.at(&key).state(counts).put(key * 3).unwrap();
    }
    backend.prepare(CheckpointId(1), SnapshotKind::Incremental).unwrap();
    for key in 0..1_000u64 {
        backend.at(&key).state(counts).update_or_default(|n| *n += 1).unwrap();
        backend.at(&(key + 50_000)).state(counts).clear().unwrap();
    }
    let delta = ready(&mut backend, 100);
    let first = block_on(writer.commit(delta, &store)).unwrap();
    backend.prepare(CheckpointId(2), SnapshotKind::Incremental).unwrap();
    let delta = ready(&mut backend, 1_000_000);
    let second = block_on(writer.commit(delta, &store)).unwrap();
    assert!(
        second.written_bytes * 10 < first.written_bytes,
        "{} {}",
        second.written_bytes,
        first.written_bytes
    );

    for (snapshot, changed) in [(first, 0), (second, 1)] {
        let (mut again, counts) = counter();
        block_on(again.restore(&[snapshot], &store)).unwrap();
        for key in 0..100_000u64 {
            let found = again.at(&key).state(counts).get().unwrap().copied();
            let removed = changed == 1 && (50_000..51_000).contains(&key);
            let wanted = if key < 1_000 { key * 3 + changed } else { key * 3 };
            assert_eq!(found, (!removed).then_some(wanted), "key {key}");
        }
    }
}

/// All maps and lists change, but few of their entries and elements: an increment has those alone.
#[test]
fn few_changes_of_large_maps_and_lists_make_small_increments() {
    let store = MemorySegments::new();
    let mut backend =
        MemoryBackend::<u64>::new(BackendScope::whole("sets").unwrap(), MemoryOptions::default());
    let map = backend.register(&MapDescriptor::<u64, u64>::new("map")).unwrap();
    let list = backend.register(&ListDescriptor::<u64>::new("list")).unwrap();
    let writer = backend.take_writer().unwrap();
    let mut stored = Vec::new();
    for checkpoint in 1..=4 {
        for key in 0..10u64 {
            let (from, to) =
                if checkpoint == 1 { (0, 2_000) } else { (checkpoint * 700, checkpoint * 700 + 10) };
            for item in from..to {
                backend.at(&key).state(map).put(item, item * checkpoint).unwrap();
                backend.at(&key).state(list).push(item).unwrap();
            }
        }
        backend.prepare(CheckpointId(checkpoint), SnapshotKind::Incremental).unwrap();
        let delta = ready(&mut backend, usize::MAX);
        stored.push(block_on(writer.commit(delta, &store)).unwrap());
    }
    for later in &stored[1..] {
        assert!(
            later.written_bytes * 20 < stored[0].written_bytes,
            "{} {}",
            later.written_bytes,
            stored[0].written_bytes
        );
    }
    let mut again = MemoryBackend::<u64>::new(BackendScope::whole("sets").unwrap(), MemoryOptions::default());
    let map = again.register(&MapDescriptor::<u64, u64>::new("map")).unwrap();
    let list = again.register(&ListDescriptor::<u64>::new("list")).unwrap();
    block_on(again.restore(&stored[3..], &store)).unwrap();
    assert_eq!(again.at(&7).state(map).get(&2_801).unwrap(), Some(&(2_801 * 4)));
    assert_eq!(again.at(&7).state(map).len().unwrap(), 2_020, "of 1,400 to 1,410 there were some before");
    assert_eq!(again.at(&7).state(list).get().unwrap().len(), 2_030);
}

/// The key groups of a subtask are no power of two here, and the last subtask has so many keys that its table
/// has shards for hashes behind the last key group.
#[test]
fn subtasks_of_any_number_of_key_groups_take_their_parts() {
    const KEYS: u64 = 100_000;
    const PARALLELISM: u32 = 3;
    let store = MemorySegments::new();
    let mut snapshots = Vec::new();
    for subtask in 0..PARALLELISM {
        let operator = OperatorId::new("count").unwrap();
        let (mut backend, counts) = counter_of(BackendScope::new(operator, subtask, PARALLELISM));
        let writer = backend.take_writer().unwrap();
        let is_own = |key: &u64| KeyGroup::of(key.key_hash()).subtask(PARALLELISM) == subtask;
        for (checkpoint, added) in [(1, 0..KEYS / 2), (2, KEYS / 2..KEYS)] {
            for key in added.filter(is_own) {
                backend.at(&key).state(counts).put(key * 3).unwrap();
            }
            backend.prepare(CheckpointId(checkpoint), SnapshotKind::Incremental).unwrap();
            let delta = ready(&mut backend, 1_000);
            let snapshot = block_on(writer.commit(delta, &store)).unwrap();
            if checkpoint == 2 {
                snapshots.push(snapshot);
            }
        }
    }
    let (mut again, counts) = counter();
    block_on(again.restore(&snapshots, &store)).unwrap();
    for key in 0..KEYS {
        assert_eq!(again.at(&key).state(counts).get().unwrap().copied(), Some(key * 3), "key {key}");
    }
}
