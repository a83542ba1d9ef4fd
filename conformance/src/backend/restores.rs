//! A restore brings back all state, and trusts no stored byte.

use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, RestoreSnapshot, SnapshotKind, SnapshotSource};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef, SnapshotPart};
use strandline_state_api::{CheckpointId, ErrorKind, KeyGroupRange};

use crate::Subject;
use crate::segments::FaultySegments;
use crate::wait::wait;
use crate::world::{Contents, KEYS, Op, States, Taken, World};

/// A restore from no snapshot yields an empty backend.
pub fn nothing<F: BackendFactory>(subject: &Subject<F>) {
    let (mut world, _) = World::restored(
        subject,
        KeyGroupRange::ALL,
        Arc::default(),
        &[],
        &Contents::default(),
        CheckpointId(0),
    )
    .unwrap();
    world.shake(500, 100);
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&taken).unwrap();
}

/// State survives eight restores in a row, from full and from incremental snapshots.
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
        assert!(restored.orphans.is_empty(), "{restored:?}");
    }
}

/// After a restore, an incremental snapshot builds on the restored files, and does not write everything
/// again.
pub fn increments_go_on_after_a_restore<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(540, 3_000);
    // A backend must write state once more that it restored from another format than that of its increments.
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

/// Restored timers fire in order, together with timers that are registered or deleted afterwards.
pub fn timers_keep_their_order<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let mut rng = fastrand::Rng::with_seed(9);
    for _ in 0..500 {
        let key = KEYS[rng.usize(..40)];
        world.apply_all([Op::AlarmSet(key, rng.i64(-500..500))]);
    }
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.restore_from(&taken);
    for _ in 0..100 {
        let key = KEYS[rng.usize(..40)];
        let (set, delete) = (rng.i64(-500..500), rng.i64(-500..500));
        world.apply_all([Op::AlarmSet(key, set), Op::AlarmDelete(key, delete)]);
    }
    while !world.contents.alarms.is_empty() {
        world.apply_all([Op::AlarmPop(i64::MAX)]);
    }
}

/// A restore refuses a backend that holds state.
pub fn a_backend_that_is_not_empty_is_not_filled<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(550, 100);
    let taken = world.snapshot(SnapshotKind::Incremental);
    let store = Arc::clone(&world.store);
    let error =
        wait(world.backend.restore(std::slice::from_ref(&taken.snapshot), store.as_ref())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// A restore refuses a backend whose writer was taken before, and the error names the writer.
pub fn a_restore_after_the_writer_was_taken_names_it<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(555, 100);
    let taken = world.snapshot(SnapshotKind::Incremental);
    let mut backend = subject.backend::<String>();
    States::register(&mut backend, subject.capabilities()).unwrap();
    backend.take_writer().unwrap();
    let error = wait(backend.restore(&[taken.snapshot], world.store.as_ref())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("writer"), "the error does not name the writer: {error}");
    assert_eq!(error.context("operator"), Some("conformance"), "{error}");
}

/// The error about a segment that is missing, or has another length than its reference, names the segment.
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

/// A restore detects any changed byte of any segment, and names the segment.
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

/// A restore refuses a segment whose length is not that of its reference.
pub fn a_reference_with_another_length_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let (world, taken) = chain(subject);
    let mut wrong = taken.snapshot;
    let SnapshotPart { segment, .. } = &mut wrong.parts[0];
    segment.len += 1;
    let segment = segment.clone();
    refused(subject, &world.store, &wrong, ErrorKind::Corrupt, &segment, "a reference of another length");
}

/// Returns a snapshot of several parts, if the backend writes increments.
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
    States::register(&mut backend, subject.capabilities()).unwrap();
    let error = match wait(backend.restore(std::slice::from_ref(snapshot), store)) {
        Ok(restored) => panic!("{what}: restored all the same: {restored:?}"),
        Err(error) => error,
    };
    // A changed version byte looks like a newer version of the format.
    let changed = kind == ErrorKind::Corrupt && what.contains("changed");
    let kind_fits = error.kind() == kind || (changed && error.kind() == ErrorKind::Incompatible);
    assert!(kind_fits, "{what}: wanted {kind:?}, got {error}");
    assert!(error.to_string().contains(&segment.name.0), "{what}: the segment is not named: {error}");
}
