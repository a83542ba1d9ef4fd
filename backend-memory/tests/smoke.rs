//! The first thing that must work: count, snapshot, change, snapshot, restore each.

#![allow(clippy::unwrap_used)]

use strandline_backend_memory::{MemoryBackend, MemoryOptions};
use strandline_state_api::format::MemorySegments;
use strandline_state_api::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("an in-memory store never waits"),
    }
}

fn ready<P>(backend: &mut impl SnapshotSource<Prepared = P>, budget: usize) -> P {
    loop {
        match backend.advance(budget).unwrap() {
            Progress::Ready(_, prepared) => return prepared,
            Progress::More => {}
            Progress::Idle => panic!("nothing is under way"),
        }
    }
}

#[test]
fn counts_survive() {
    let store = MemorySegments::new();
    let mut backend =
        MemoryBackend::<u64>::new(BackendScope::whole("count").unwrap(), MemoryOptions::default());
    let counts = backend.register_value(&ValueDescriptor::<u64>::new("counts")).unwrap();
    let mut writer = backend.take_writer().unwrap();
    for key in 0..100_000u64 {
        KeyScope::new(&mut backend, Keyed::new(&key)).value(counts).put(key * 3).unwrap();
    }
    backend.prepare(CheckpointId(1), SnapshotKind::Incremental).unwrap();
    for key in 0..1_000u64 {
        KeyScope::new(&mut backend, Keyed::new(&key)).value(counts).modify(|| 0, |n| *n += 1).unwrap();
        KeyScope::new(&mut backend, Keyed::new(&(key + 50_000))).value(counts).clear().unwrap();
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
        let mut again =
            MemoryBackend::<u64>::new(BackendScope::whole("count").unwrap(), MemoryOptions::default());
        let counts = again.register_value(&ValueDescriptor::<u64>::new("counts")).unwrap();
        block_on(again.restore(&[snapshot], &store)).unwrap();
        for key in 0..100_000u64 {
            let found = KeyScope::new(&mut again, Keyed::new(&key)).value(counts).get().unwrap().copied();
            let removed = changed == 1 && (50_000..51_000).contains(&key);
            let wanted = if key < 1_000 { key * 3 + changed } else { key * 3 };
            assert_eq!(found, (!removed).then_some(wanted), "key {key}");
        }
    }
}
