//! Rescaling: a backend restores its own key groups from any set of snapshots (Flink: KG-07, TM-05).

use std::sync::Arc;

use strandline_snapshot_format::{Fingerprint, snapshot_fingerprint};
use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroup, KeyGroupRange};

use crate::Subject;
use crate::effort::{first_seed, programs};
use crate::segments::FaultySegments;
use crate::wait::wait;
use crate::world::{Contents, KEYS, Taken, World, check_restored, group_of, same};

/// Every part of a snapshot can be restored alone: halves, thirds, single key groups, ranges without any
/// entry.
pub fn any_range_of_a_snapshot<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for seed in 700..703 {
        world.shake(seed, 300);
        world.snapshot(SnapshotKind::Incremental);
    }
    let Taken { snapshot, contents } = world.snapshot(SnapshotKind::Incremental);
    let mut ranges: Vec<KeyGroupRange> = (1..=4)
        .flat_map(|parallelism| (0..parallelism).map(move |s| KeyGroupRange::of_subtask(s, parallelism)))
        .collect();
    ranges.push(KeyGroupRange::EMPTY);
    for key in &KEYS[..16] {
        let group = u32::from(group_of(key).index());
        ranges.push(KeyGroupRange::new(group, group + 1));
        ranges.push(KeyGroupRange::new(0, group));
        ranges.push(KeyGroupRange::new(group + 1, u32::MAX));
    }
    for range in ranges {
        // From the whole snapshot the backend restores its part only; the part alone has the same result.
        for given in [snapshot.clone(), snapshot.clip(range)] {
            check_restored(subject, &world.store, range, &[given], &contents)
                .unwrap_or_else(|e| panic!("key groups {range}: {e:?}"));
        }
    }
}

/// State survives rescales from one subtask to two, three, one, four and back, with changes, increments and
/// unfinished chains in between.
pub fn up_and_down<F: BackendFactory>(subject: &Subject<F>) {
    let store = Arc::new(FaultySegments::new());
    let mut snapshots: Vec<KeyedSnapshot> = Vec::new();
    let mut contents = Contents::default();
    let mut last = CheckpointId(0);
    for (round, parallelism) in (0u64..).zip([1, 2, 3, 1, 4, 2, 1]) {
        let mut next = Vec::new();
        let mut merged = Contents::default();
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(subtask, parallelism);
            let given: Vec<_> = snapshots.iter().map(|s| s.clip(range)).collect();
            let given = if round % 2 == 0 { &given } else { &snapshots };
            let restored = World::restored(subject, range, Arc::clone(&store), given, &contents, last);
            let (mut world, _) = restored
                .unwrap_or_else(|e| panic!("subtask {subtask} of {parallelism}, round {round}: {e:?}"));
            for increment in 0..3 {
                world.shake_own(720 + round * 10 + increment, 120);
                let taken = world.snapshot(SnapshotKind::Incremental);
                if increment == 2 {
                    world.check_snapshot(&taken).unwrap();
                    merged = merged.union(taken.contents);
                    next.push(taken.snapshot);
                }
            }
        }
        (snapshots, contents, last) = (next, merged, CheckpointId(last.0 + 3));
    }
    check_restored(subject, &store, KeyGroupRange::ALL, &snapshots, &contents).unwrap();
}

/// After a rescale, several new subtasks share files of the old ones; a full snapshot needs none of them.
pub fn a_full_snapshot_after_a_rescale_stands_alone<F: BackendFactory>(subject: &Subject<F>) {
    let mut old = World::new(subject);
    old.shake(790, 500);
    let Taken { snapshot, contents } = old.snapshot(SnapshotKind::Incremental);
    let snapshots = [snapshot];
    let mut alone = Vec::new();
    let mut merged = Contents::default();
    for subtask in 0..3 {
        let range = KeyGroupRange::of_subtask(subtask, 3);
        let store = Arc::clone(&old.store);
        let (mut world, _) = World::restored(subject, range, store, &snapshots, &contents, old.last).unwrap();
        world.shake_own(791, 20);
        let taken = world.snapshot(SnapshotKind::Full);
        merged = merged.union(taken.contents);
        alone.push(taken.snapshot);
    }
    old.store.keep_only(&alone);
    check_restored(subject, &old.store, KeyGroupRange::ALL, &alone, &merged).unwrap();
}

/// Rescales from any number of subtasks to any other, with random contents and unfinished chains, keep the
/// fingerprint of all state, in total and for any run of key groups.
pub fn fingerprints_add_up<F: BackendFactory>(subject: &Subject<F>) {
    let first = first_seed();
    for seed in first..first + programs(8) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let store = Arc::new(FaultySegments::new());
        let mut worlds = vec![World::in_range(subject, KeyGroupRange::ALL, Arc::clone(&store))];
        for _ in 0..3 {
            for world in &mut worlds {
                for _ in 0..rng.usize(0..3) {
                    world.shake_lasting(rng.u64(..), 150);
                    world.snapshot(SnapshotKind::Incremental);
                }
                world.shake_lasting(rng.u64(..), 150);
            }
            let chains = snapshots(&mut worlds, SnapshotKind::Incremental);
            let mut contents = Contents::default();
            for world in &worlds {
                contents = contents.union(world.contents.clone());
            }
            let old = snapshots(&mut worlds, SnapshotKind::Full);
            let whole = fingerprint(&store, &old, KeyGroupRange::ALL);
            same(("entries", seed), whole.entries..=whole.entries, contents.entries()).unwrap();
            if subject.capabilities().portable_increments {
                let merged = fingerprint(&store, &chains, KeyGroupRange::ALL);
                same(("chains and full snapshots", seed), merged, whole).unwrap();
            }

            let parallelism = rng.u32(1..9);
            let last = worlds.iter().map(|world| world.last).max().unwrap();
            let restore = |subtask| {
                let range = KeyGroupRange::of_subtask(subtask, parallelism);
                let restored = World::restored(subject, range, Arc::clone(&store), &chains, &contents, last);
                restored
                    .unwrap_or_else(|e| panic!("subtask {subtask} of {parallelism}, seed {seed}: {e:?}"))
                    .0
            };
            worlds = (0..parallelism).map(restore).collect();
            let new = snapshots(&mut worlds, SnapshotKind::Full);
            let (a, b) = (rng.u32(0..KeyGroup::COUNT), rng.u32(0..KeyGroup::COUNT));
            for run in [KeyGroupRange::ALL, KeyGroupRange::new(a.min(b), a.max(b))] {
                let (was, is) = (fingerprint(&store, &old, run), fingerprint(&store, &new, run));
                same(("key groups", run, "over", parallelism, "seed", seed), is, was).unwrap();
            }
        }
    }
}

fn snapshots<F: BackendFactory>(worlds: &mut [World<F>], kind: SnapshotKind) -> Vec<KeyedSnapshot> {
    worlds.iter_mut().map(|world| world.snapshot(kind).snapshot).collect()
}

/// Returns the fingerprint of all snapshots together.
fn fingerprint(store: &FaultySegments, snapshots: &[KeyedSnapshot], range: KeyGroupRange) -> Fingerprint {
    let of = |snapshot: &KeyedSnapshot| wait(snapshot_fingerprint(&snapshot.parts, store, range)).unwrap();
    snapshots.iter().map(of).sum()
}
