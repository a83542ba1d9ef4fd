//! The rig for a bare backend: stores, restores, rescales, time.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_snapshot_format::MemorySegments;
use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::SegmentStore;
use strandline_state_api::{CheckpointId, ErrorKind, KeyedBackend, Ttl, ValueDescriptor};
use strandline_state_testing::Rig;

fn rig() -> Rig<MemoryBackendFactory, u64> {
    Rig::new(MemoryBackendFactory::default()).unwrap()
}

fn counts() -> ValueDescriptor<u64> {
    ValueDescriptor::new("counts")
}

#[test]
fn a_rescale_moves_each_key_to_its_owner_and_loses_none() {
    let mut first = rig();
    let state = first.backend.register(&counts()).unwrap();
    for key in 0..100 {
        first.at(&key).state(state).put(key).unwrap();
    }
    let mut group: Vec<_> = vec![(first, state)];
    for (round, parallelism) in [(1, 3), (2, 2), (3, 1)] {
        let mut rigs: Vec<_> = group.into_iter().map(|(rig, _)| rig).collect();
        group = Rig::rescale(&mut rigs, parallelism, |backend| backend.register(&counts())).unwrap();
        assert_eq!(group.len(), parallelism as usize);
        for key in 0..100 {
            let mut owners = group.iter_mut().filter(|(rig, _)| rig.owns(&key));
            let (rig, state) = owners.next().unwrap();
            assert!(owners.next().is_none(), "two subtasks own key {key}");
            assert_eq!(rig.at(&key).state(*state).get().unwrap(), Some(&(key + round - 1)));
            rig.at(&key).state(*state).update(|count| *count += 1).unwrap();
        }
        let (sum, read): (u64, u64) = group
            .iter()
            .map(|(rig, _)| (rig.backend.entries(), rig.restored().entries))
            .fold((0, 0), |(sum, read), (entries, restored)| (sum + entries, read + restored));
        assert_eq!((sum, read), (100, 100));
    }
    let error = Rig::rescale(&mut [] as &mut [Rig<MemoryBackendFactory, u64>], 2, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[test]
fn a_change_after_the_cut_is_not_part_of_the_snapshot() {
    let mut rig = rig();
    let state = rig.backend.register(&counts()).unwrap();
    rig.at(&1).state(state).put(1).unwrap();
    rig.prepare(SnapshotKind::Incremental).unwrap();
    rig.at(&1).state(state).put(2).unwrap();
    let snapshot = rig.finish().unwrap();
    let (mut again, restored) = rig.restore(&[snapshot], |backend| backend.register(&counts())).unwrap();
    assert_eq!(again.at(&1).state(restored).get().unwrap(), Some(&1));
    assert_eq!(rig.at(&1).state(state).get().unwrap(), Some(&2));
    // The numbers of checkpoints go on after the restore.
    again.snapshot(SnapshotKind::Full).unwrap();
}

#[test]
fn nothing_under_way_is_an_error() {
    let error = rig().finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(error.to_string().contains("lost"), "{error}");
}

#[test]
fn values_expire_by_the_time_that_the_test_sets() {
    let mut rig = rig();
    let lifetime = Duration::from_millis(10);
    let brief = rig.backend.register(&counts().time_to_live(Ttl::processing_time(lifetime))).unwrap();
    let event = ValueDescriptor::<u64>::new("event").time_to_live(Ttl::event_time(lifetime));
    let event = rig.backend.register(&event).unwrap();
    rig.processing_time(100);
    rig.watermark(100);
    rig.at(&1).state(brief).put(1).unwrap();
    rig.at(&1).state(event).put(2).unwrap();
    rig.processing_time(110);
    assert_eq!(rig.at(&1).state(brief).get().unwrap(), None);
    assert_eq!(rig.at(&1).state(event).get().unwrap(), Some(&2));
    rig.watermark(110);
    assert_eq!(rig.at(&1).state(event).get().unwrap(), None);
}

fn survives_in(store: Arc<impl SegmentStore>) {
    let mut rig = Rig::<_, u64, _>::on(MemoryBackendFactory::default(), store).unwrap();
    let state = rig.backend.register(&counts()).unwrap();
    rig.at(&7).state(state).put(3).unwrap();
    let snapshot = rig.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut again, state) = rig.restore(&[snapshot], |backend| backend.register(&counts())).unwrap();
    assert_eq!(again.at(&7).state(state).get().unwrap(), Some(&3));
}

#[test]
fn any_store_keeps_the_snapshots() {
    survives_in(Arc::new(MemorySegments::new()));
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let storage = Storage::in_dir(dir.path()).unwrap();
    survives_in(Arc::new(storage.segments(1, CheckpointId(1))));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_some(), "the segments are files");
}
