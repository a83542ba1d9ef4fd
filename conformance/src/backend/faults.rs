//! No state is lost when a store fails, when nobody completes a snapshot, or when a value cannot be encoded.

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::{Codec, Error, ErrorKind, Result, ValueDescriptor};

use super::simple::rig;
use crate::Subject;
use crate::segments::StoreFault;
use crate::world::{Taken, World};

/// After a put that stored nothing, or whose answer was lost, the next snapshot has everything.
pub fn a_failed_commit_loses_nothing<F: BackendFactory>(subject: &Subject<F>) {
    for fault in [StoreFault::PutRefused, StoreFault::PutAnswerLost] {
        for (first, second) in [
            (SnapshotKind::Incremental, SnapshotKind::Incremental),
            (SnapshotKind::Full, SnapshotKind::Incremental),
            (SnapshotKind::Incremental, SnapshotKind::Full),
        ] {
            for warm in [false, true] {
                let mut world = World::new(subject);
                world.shake(400, 200);
                if warm {
                    world.snapshot(SnapshotKind::Incremental);
                    world.shake(401, 60);
                }
                world.prepare(first).unwrap();
                let prepared = world.hand_over(world.last).unwrap();
                world.store.fail(0, usize::MAX, fault);
                let error = world.commit(prepared).expect_err("the store fails, so the commit fails");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                world.store.heal();
                world.check().unwrap();
                // The change is small; the failed snapshot should have stored much more.
                world.shake(402, 5);
                let taken = world.snapshot(second);
                let context =
                    format!("{fault:?}, {first:?} failed, then {second:?}, snapshot before: {warm}");
                world.check_snapshot(&taken).unwrap_or_else(|e| panic!("{context}: {e:?}"));
            }
        }
    }
}

/// A writer may read older files back to fold them. Reads that fail may fail or delay the commit, but lose
/// nothing.
pub fn a_failed_read_loses_nothing<F: BackendFactory>(subject: &Subject<F>) {
    for after in 0..3 {
        let mut world = World::new(subject);
        for round in 0..6 {
            world.shake(480 + round, 60);
            world.snapshot(SnapshotKind::Incremental);
        }
        world.shake(490, 20);
        let contents = world.prepare(SnapshotKind::Full).unwrap();
        let prepared = world.hand_over(world.last).unwrap();
        world.store.fail(after, usize::MAX, StoreFault::ReadRefused);
        let committed = world.commit(prepared);
        world.store.heal();
        match committed {
            Ok(snapshot) => world.check_snapshot(&Taken { snapshot, contents }).unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        world.shake(491, 20);
        for kind in [SnapshotKind::Incremental, SnapshotKind::Full] {
            let taken = world.snapshot(kind);
            world.check_snapshot(&taken).unwrap_or_else(|e| panic!("after {after} reads, {kind:?}: {e:?}"));
        }
    }
}

/// Commits fail in a row, at different puts, with changes and removals in between, and nothing is lost.
pub fn many_failed_commits_in_a_row<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(410, 200);
    let mut last_good = world.snapshot(SnapshotKind::Incremental);
    for round in 0..12 {
        world.shake(420 + round, 60);
        let fails = round % 4 != 3;
        if fails {
            world.store.fail((round % 2) as usize, usize::MAX, StoreFault::PutRefused);
        }
        let contents = world.prepare(SnapshotKind::Incremental).unwrap();
        let prepared = world.hand_over(world.last).unwrap();
        // The commit may succeed with the one put that is left, and then the snapshot must be whole.
        if let Ok(snapshot) = world.commit(prepared) {
            last_good = Taken { snapshot, contents };
        } else {
            assert!(fails, "a healthy store");
        }
        world.store.heal();
        world.check_snapshot(&last_good).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
    }
}

/// A store that refuses everything for 200 snapshots costs what has changed and no more: the next snapshot is
/// small, and holds everything.
pub fn a_store_that_refuses_for_long<F: BackendFactory>(subject: &Subject<F>) {
    let descriptor = ValueDescriptor::<u64>::new("numbers");
    let mut simple = rig::<F, u64>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for key in 0..20_000 {
        simple.backend.at(&key).state(state).put(rng.u64(..)).unwrap();
    }
    let first = simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.store().fail(0, usize::MAX, StoreFault::PutRefused);
    let mut wanted = std::collections::BTreeMap::new();
    for round in 0..200 {
        for key in 0..100 {
            let (key, value) = (key * 7 + round % 5, rng.u64(..));
            simple.backend.at(&key).state(state).put(value).unwrap();
            wanted.insert(key, value);
        }
        simple.snapshot(SnapshotKind::Incremental).expect_err("the store refuses");
    }
    simple.store().heal();
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    if subject.capabilities().incremental {
        let (written, all) = (snapshot.written_bytes, first.written_bytes);
        // A database of its own may have compacted all of its files meanwhile.
        let most = if subject.capabilities().portable_increments { all / 4 } else { 2 * all };
        assert!(written < most, "{written} bytes for some 700 changed values, where all 20,000 have {all}");
    }
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
    for (key, value) in wanted {
        let mut scope = restored.backend.at(&key);
        assert_eq!(scope.state(state).get().unwrap(), Some(&value), "key {key}");
    }
}

/// The commit of a snapshot fails while later ones are prepared already, and those are whole.
pub fn a_failed_commit_before_others_that_are_prepared<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(440, 200);
    let base = world.snapshot(SnapshotKind::Incremental);
    let mut waiting = Vec::new();
    for seed in 441..445 {
        world.shake(seed, 60);
        let contents = world.prepare(SnapshotKind::Incremental).unwrap();
        waiting.push((world.hand_over(world.last).unwrap(), contents));
    }
    for (i, (prepared, contents)) in waiting.into_iter().enumerate() {
        if i % 2 == 0 {
            world.store.fail(0, usize::MAX, StoreFault::PutRefused);
            world.commit(prepared).expect_err("the store fails, so the commit fails");
            world.store.heal();
        } else {
            let snapshot = world.commit(prepared).unwrap();
            world
                .check_snapshot(&Taken { snapshot, contents })
                .unwrap_or_else(|e| panic!("number {i}: {e:?}"));
        }
    }
    world.check_snapshot(&base).unwrap();
}

/// Snapshots that were written but never became part of a complete checkpoint break no later one.
pub fn an_aborted_snapshot_breaks_no_later_one<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(450, 300);
    let completed = world.snapshot(SnapshotKind::Incremental);
    for seed in 451..456 {
        world.shake(seed, 40);
        drop(world.snapshot(SnapshotKind::Incremental));
    }
    world.shake(456, 40);
    let next = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&completed).unwrap();
    world.check_snapshot(&next).unwrap();
    world.restore_from(&completed);
    world.shake(457, 40);
    let after = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&after).unwrap();
}

/// Encodes every number but 13.
pub(super) struct NoThirteen;

impl Codec<u64> for NoThirteen {
    fn id(&self) -> String {
        "no-thirteen".into()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        if *value == 13 {
            return Err(Error::new(ErrorKind::User, "thirteen has no byte form"));
        }
        out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| Error::corrupt("no eight bytes"))
    }
}

/// A value that cannot be encoded fails its snapshot, or is refused when it is put; the state is unharmed,
/// and snapshots succeed again once the value is gone.
pub fn a_value_that_cannot_be_encoded_fails_one_snapshot<F: BackendFactory>(subject: &Subject<F>) {
    let descriptor = ValueDescriptor::<u64>::with_codec("numbers", NoThirteen);
    let mut simple = rig::<F, u64>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    for key in 0..100 {
        simple.backend.at(&key).state(state).put(key * 100).unwrap();
    }
    let put = simple.backend.at(&50).state(state).put(13);
    let error = put.err().or_else(|| simple.snapshot(SnapshotKind::Incremental).err());
    let error = error.expect("thirteen cannot be written");
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    let mut scope = simple.backend.at(&51);
    assert_eq!(scope.state(state).get().unwrap(), Some(&5_100), "the state is unharmed");
    simple.backend.at(&50).state(state).put(14).unwrap();
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
    for key in 0..100 {
        let wanted = if key == 50 { 14 } else { key * 100 };
        let mut scope = restored.backend.at(&key);
        assert_eq!(scope.state(state).get().unwrap(), Some(&wanted), "key {key}");
    }
}
