//! A smoke test: count, take a snapshot, change, take another, restore each.

#![allow(clippy::unwrap_used)]

use strandline_backend_memory::{MemoryBackend, MemoryOptions};
use strandline_snapshot_format::MemorySegments;
use strandline_state_api::backend::{
    BackendScope, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{CheckpointId, ValueDescriptor, ValueState};
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
    let mut backend = MemoryBackend::new(BackendScope::whole("count").unwrap(), MemoryOptions::default());
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
