//! Restore: what was there is there again, and nothing is trusted on the way.

use std::sync::Arc;

use strandline_state_api::{
    BackendFactory, ErrorKind, KeyedSnapshot, RestoreSnapshot, SegmentRef, SnapshotKind, SnapshotPart,
};

use crate::Subject;
use crate::segments::FaultySegments;
use crate::wait::wait;
use crate::world::{States, Taken, World};

/// Nothing restores to nothing.
pub fn nothing<F: BackendFactory>(subject: &Subject<F>) {
    let (mut world, _) = World::restored(
        subject,
        strandline_state_api::KeyGroupRange::ALL,
        Arc::default(),
        &[],
        &crate::world::Contents::default(),
        strandline_state_api::CheckpointId(0),
    )
    .unwrap();
    world.shake(500, 100);
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&taken).unwrap();
}

/// Restore, go on, snapshot, restore: over eight lives, with full and incremental snapshots.
pub fn many_lives<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for life in 0..8 {
        world.shake(510 + life, 150);
        let kind = if life % 3 == 2 { SnapshotKind::Full } else { SnapshotKind::Incremental };
        let first = world.snapshot(kind);
        world.shake(520 + life, 30);
        let second = world.snapshot(SnapshotKind::Incremental);
        world.shake(530 + life, 30);
        let taken = if life % 2 == 0 { first } else { second };
        let restored = world.restore_from(&taken);
        assert!(restored.entries > 0 && restored.bytes > 0, "{restored:?}");
        assert!(restored.unclaimed.is_empty(), "{restored:?}");
    }
}

/// After a restore an incremental snapshot builds on what was restored: it does not write everything again.
pub fn increments_go_on_after_a_restore<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(540, 3_000);
    // What is restored from another format than that of increments has to be written again, once.
    let portable = subject.capabilities().portable_increments;
    let base = world.snapshot(if portable { SnapshotKind::Full } else { SnapshotKind::Incremental });
    world.restore_from(&base);
    world.shake(541, 3);
    let next = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&next).unwrap();
    world.check_snapshot(&base).unwrap();
    if subject.capabilities().incremental {
        let (base, next) = (base.snapshot.written_bytes, next.snapshot.written_bytes);
        assert!(next < base / 2, "{next} bytes for three changes, where all of it is {base}");
    }
}

/// Restored timers fire in order, and those that are set or deleted afterwards find their place among them.
pub fn timers_keep_their_order<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let mut rng = fastrand::Rng::with_seed(9);
    for _ in 0..500 {
        let key = crate::world::KEYS[rng.usize(..40)];
        world.apply_all([crate::world::Op::AlarmSet(key, rng.i64(-500..500))]);
    }
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.restore_from(&taken);
    for _ in 0..100 {
        let key = crate::world::KEYS[rng.usize(..40)];
        let (set, delete) = (rng.i64(-500..500), rng.i64(-500..500));
        world.apply_all([crate::world::Op::AlarmSet(key, set), crate::world::Op::AlarmDelete(key, delete)]);
    }
    while !world.contents.alarms.is_empty() {
        world.apply_all([crate::world::Op::AlarmPop(i64::MAX)]);
    }
}

/// A backend that holds something is not filled a second time.
pub fn a_backend_that_is_not_empty_is_not_filled<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(550, 100);
    let taken = world.snapshot(SnapshotKind::Incremental);
    let store = Arc::clone(&world.store);
    let error =
        wait(world.backend.restore(std::slice::from_ref(&taken.snapshot), store.as_ref())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// A segment that is missing, or that has another length than it had, is named by the error.
pub fn a_missing_segment_is_named<F: BackendFactory>(subject: &Subject<F>) {
    let (world, taken) = chain(subject);
    for part in &taken.snapshot.parts {
        let (name, len) = (&part.segment.name, part.segment.len);
        let bytes = world.store.segments().get(name).expect("a segment of the snapshot");
        world.store.segments().remove(name);
        refused(subject, &world.store, &taken.snapshot, ErrorKind::NotFound, &part.segment, "missing");
        for keep in [0, 1, len / 2, len - 1] {
            world.store.segments().replace(name.clone(), &bytes[..keep as usize]);
            let what = format!("cut to {keep} of {len} bytes");
            refused(subject, &world.store, &taken.snapshot, ErrorKind::Corrupt, &part.segment, &what);
        }
        let longer = [&bytes[..], &[0]].concat();
        world.store.segments().replace(name.clone(), &longer);
        refused(subject, &world.store, &taken.snapshot, ErrorKind::Corrupt, &part.segment, "one byte longer");
        world.store.segments().replace(name.clone(), &bytes);
    }
    world.check_snapshot(&taken).unwrap();
}

/// Any byte of any segment, changed in any way: the restore fails and names the segment.
pub fn a_changed_byte_is_detected<F: BackendFactory>(subject: &Subject<F>) {
    let (world, taken) = chain(subject);
    let mut rng = fastrand::Rng::with_seed(11);
    for part in &taken.snapshot.parts {
        let name = &part.segment.name;
        let good = world.store.segments().get(name).expect("a segment of the snapshot");
        let mut positions: Vec<usize> = (0..good.len()).collect();
        rng.shuffle(&mut positions);
        let ends = [0, 4, good.len() - 1].into_iter().chain(positions);
        for position in ends.take(crate::effort::programs(60) as usize) {
            let mut bad = good.to_vec();
            bad[position] ^= if rng.bool() { 1 << rng.u8(..8) } else { rng.u8(1..) };
            world.store.segments().replace(name.clone(), &bad);
            let what = format!("byte {position} of {} changed", good.len());
            refused(subject, &world.store, &taken.snapshot, ErrorKind::Corrupt, &part.segment, &what);
        }
        world.store.segments().replace(name.clone(), &good);
    }
    world.check_snapshot(&taken).unwrap();
}

/// One segment in the place of another: its own checksums are right, and the answer is not silently another state.
pub fn a_reference_with_another_length_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let (world, taken) = chain(subject);
    let mut wrong = taken.snapshot;
    let SnapshotPart { segment, .. } = &mut wrong.parts[0];
    segment.len += 1;
    let segment = segment.clone();
    refused(subject, &world.store, &wrong, ErrorKind::Corrupt, &segment, "a reference of another length");
}

/// A snapshot of several parts, where the backend makes them.
fn chain<F: BackendFactory>(subject: &Subject<F>) -> (World<F>, Taken) {
    let mut world = World::new(subject);
    world.shake(560, 300);
    world.snapshot(SnapshotKind::Incremental);
    world.shake(561, 50);
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&taken).unwrap();
    (world, taken)
}

fn refused<F: BackendFactory>(
    subject: &Subject<F>,
    store: &FaultySegments,
    snapshot: &KeyedSnapshot,
    kind: ErrorKind,
    segment: &SegmentRef,
    what: &str,
) {
    let mut backend = subject.backend::<String>();
    States::register(&mut backend).unwrap();
    let error = match wait(backend.restore(std::slice::from_ref(snapshot), store)) {
        Ok(restored) => panic!("{what}: restored all the same: {restored:?}"),
        Err(error) => error,
    };
    // A changed version byte is a newer version as far as anybody can tell.
    let changed = kind == ErrorKind::Corrupt && what.contains("changed");
    let kind_fits = error.kind() == kind || (changed && error.kind() == ErrorKind::Incompatible);
    assert!(kind_fits, "{what}: wanted {kind:?}, got {error}");
    assert!(error.to_string().contains(&segment.name.0), "{what}: the segment is not named: {error}");
}
