//! Snapshots that are dropped, and several commits at once: none costs another one anything.

use strandline_state_api::ValueDescriptor;
use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;

use super::simple::{Simple, rig};
use crate::Subject;
use crate::effort::{first_seed, programs};
use crate::world::{Contents, InFlight, Taken, World};

const KINDS: [SnapshotKind; 2] = [SnapshotKind::Incremental, SnapshotKind::Full];

/// A snapshot that is handed over and dropped is part of the next one.
pub fn a_dropped_snapshot_is_part_of_the_next<F: BackendFactory>(subject: &Subject<F>) {
    let descriptor = ValueDescriptor::<u64>::new("numbers");
    for dropped in KINDS {
        for next in KINDS {
            let mut simple = rig::<F, u64>(subject);
            let state = simple.backend.register(&descriptor).unwrap();
            let put = |simple: &mut Simple<F, u64>, keys: std::ops::Range<u64>, value: u64| {
                keys.for_each(|key| simple.backend.at(&key).state(state).put(value).unwrap());
            };
            put(&mut simple, 0..1_000, 1);
            simple.snapshot(SnapshotKind::Incremental).unwrap();
            put(&mut simple, 0..10, 2);
            simple.prepare(dropped).unwrap();
            drop(simple.hand_over().unwrap());
            put(&mut simple, 10..20, 3);
            let snapshot = simple.snapshot(next).unwrap();
            let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
            for key in 0..1_000 {
                let wanted = [2, 3].get(key as usize / 10).copied().unwrap_or(1);
                let mut scope = restored.backend.at(&key);
                let context = format!("key {key}, {dropped:?} dropped, then {next:?}");
                assert_eq!(scope.state(state).get().unwrap(), Some(&wanted), "{context}");
            }
        }
    }
}

/// A snapshot is dropped when it is handed over, before its commit starts, or at some operation of the store;
/// each one that is committed is whole.
pub fn drops_at_every_stage<F: BackendFactory>(subject: &Subject<F>) {
    let first = first_seed();
    for seed in first..first + programs(12) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(subject);
        for round in 0..12 {
            let size = [0, 3, 30, 200][rng.usize(..4)];
            world.shake(seed * 100 + round, size);
            let kind = KINDS[rng.usize(..2)];
            let contents = world.prepare(kind).unwrap();
            let prepared = world.hand_over(world.last).unwrap();
            let stage = rng.usize(..6);
            if stage == 0 {
                drop(prepared);
                continue;
            }
            let gate = world.store.gate(1, world.last, if stage == 5 { usize::MAX >> 8 } else { stage - 1 });
            let mut commit = world.start_commit(prepared, gate);
            if rng.bool() || stage == 5 {
                // A commit that needs fewer operations ends.
                if let Some(snapshot) = commit.poll() {
                    let taken = Taken { snapshot: snapshot.unwrap(), contents };
                    let checked = world.check_snapshot(&taken);
                    checked.unwrap_or_else(|e| panic!("seed {seed}, round {round}, {kind:?}: {e:?}"));
                }
            }
            drop(commit);
        }
        for kind in KINDS {
            let taken = world.snapshot(kind);
            world.check_snapshot(&taken).unwrap_or_else(|e| panic!("seed {seed}, {kind:?}: {e:?}"));
        }
    }
}

/// The upload of one snapshot hangs; the next one is stored meanwhile. Then the first one goes on, fails with
/// its store or is dropped, before or after further ones: all that are stored are whole.
pub fn a_later_commit_passes_one_that_hangs<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().several_in_flight {
        return;
    }
    for first in KINDS {
        for second in KINDS {
            for released in [true, false] {
                let mut world = World::new(subject);
                world.shake(700, 300);
                let base = world.snapshot(SnapshotKind::Incremental);
                world.shake(701, 60);
                let (hanging, contents) = start(&mut world, first, 0);
                world.shake(702, 60);
                let (mut other, of_other) = start(&mut world, second, usize::MAX >> 8);
                let snapshot = other.poll().expect("it does not wait for the commit that hangs").unwrap();
                let context = format!("{first:?} hangs, {second:?} is stored, released: {released}");
                let mut all = vec![base, Taken { snapshot, contents: of_other }];
                if released {
                    all.push(Taken { snapshot: hanging.finish().unwrap(), contents });
                } else {
                    drop(hanging);
                }
                for round in 0..3 {
                    world.shake(710 + round, 40);
                    all.push(world.snapshot(SnapshotKind::Incremental));
                }
                for (number, taken) in all.iter().enumerate() {
                    let checked = world.check_snapshot(taken);
                    checked.unwrap_or_else(|e| panic!("{context}, number {number}: {e:?}"));
                }
                // The job completes the second and what follows: what those do not name, a sweep deletes.
                world.store.keep_only(all[1..].iter().map(|taken| &taken.snapshot).filter(|snapshot| {
                    *snapshot == &all[1].snapshot || *snapshot == &all[all.len() - 1].snapshot
                }));
                for taken in [&all[1], &all[all.len() - 1]] {
                    world.check_snapshot(taken).unwrap_or_else(|e| panic!("{context}, swept: {e:?}"));
                }
            }
        }
    }
}

fn start<F: BackendFactory>(
    world: &mut World<F>,
    kind: SnapshotKind,
    operations: usize,
) -> (InFlight, Contents) {
    let contents = world.prepare(kind).unwrap();
    let prepared = world.hand_over(world.last).unwrap();
    let gate = world.store.gate(1, world.last, operations);
    let mut commit = world.start_commit(prepared, gate);
    if operations == 0 {
        assert!(commit.poll().is_none(), "a commit that stores something waits for the store");
    }
    (commit, contents)
}

/// Five commits are started in order and end in every kind of order; some are dropped. Each that ends is
/// whole, also when only what it and a later one name is kept.
pub fn commits_end_in_any_order<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().several_in_flight {
        return;
    }
    let first = first_seed();
    for seed in first..first + programs(6) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(subject);
        world.shake(seed, 200);
        world.snapshot(SnapshotKind::Incremental);
        let mut in_flight = Vec::new();
        let mut ended: Vec<(u64, Taken)> = Vec::new();
        for round in 0..12 {
            world.shake(seed * 1_000 + round, 50);
            let kind = KINDS[usize::from(rng.u8(..5) == 0)];
            let (commit, contents) = start(&mut world, kind, 0);
            in_flight.push((world.last.0, commit, contents));
            while in_flight.len() > rng.usize(..5) {
                let (checkpoint, commit, contents) = in_flight.swap_remove(rng.usize(..in_flight.len()));
                if rng.u8(..4) > 0 {
                    ended.push((checkpoint, Taken { snapshot: commit.finish().unwrap(), contents }));
                }
            }
        }
        ended.sort_by_key(|(checkpoint, _)| *checkpoint);
        for pair in ended.windows(2) {
            // The older one completes, a sweep deletes what it does not name, and the newer one completes.
            let [(older_id, older), (newer_id, newer)] = pair else { continue };
            let mut added: KeyedSnapshot = newer.snapshot.clone();
            added.parts.retain(|part| {
                let stored_for = part.segment.name.0.split('-').nth(1).and_then(|id| id.parse::<u64>().ok());
                stored_for > Some(*older_id)
            });
            let swept = world.store.fork();
            swept.keep_only([&older.snapshot, &added]);
            for (which, taken) in [("older", older), ("newer", newer)] {
                let checked = world.check_snapshot_in(&swept, taken);
                checked.unwrap_or_else(|e| panic!("seed {seed}, the {which} of {newer_id}: {e:?}"));
            }
        }
    }
}

/// A full snapshot whose upload hangs delays no increment, and needs no older file when it ends.
pub fn a_full_snapshot_that_hangs<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().several_in_flight {
        return;
    }
    let mut world = World::new(subject);
    world.shake(720, 300);
    world.snapshot(SnapshotKind::Incremental);
    world.shake(721, 50);
    let (hanging, contents) = start(&mut world, SnapshotKind::Full, 0);
    let mut later = Vec::new();
    for round in 0..3 {
        world.shake(722 + round, 50);
        later.push(world.snapshot(SnapshotKind::Incremental));
    }
    let full = Taken { snapshot: hanging.finish().unwrap(), contents };
    world.shake(730, 50);
    later.push(world.snapshot(SnapshotKind::Incremental));
    for taken in later.iter().chain([&full]) {
        world.check_snapshot(taken).unwrap();
    }
    world.store.keep_only([&full.snapshot]);
    world.check_snapshot(&full).unwrap();
}
