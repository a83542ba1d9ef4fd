//! Incremental snapshots hold what changed and nothing else, tombstones included, over any number of rounds.

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::{ListDescriptor, MapDescriptor, ValueDescriptor};

use super::simple::{Simple, rig};
use crate::Subject;
use crate::world::{Op, Taken, World};

/// The number of bytes that a snapshot may write for 200 changed entries of 20 bytes, where the state has
/// 20,000.
const SMALL_CHANGE: u64 = 24_000;

/// A snapshot is small after 1 % of the values changed, and after a list and a map of many entries grew a
/// little.
pub fn bytes_are_proportional_to_the_change<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().incremental {
        return;
    }
    let mut simple = rig::<F, u64>(subject);
    let values = simple.backend.register(&ValueDescriptor::<u64>::new("values")).unwrap();
    let has = subject.capabilities();
    let list = has.lists.then(|| simple.backend.register(&ListDescriptor::<u64>::new("list")).unwrap());
    let map = has.maps.then(|| simple.backend.register(&MapDescriptor::<u64, u64>::new("map")).unwrap());
    let mut rng = fastrand::Rng::with_seed(5);
    for key in 0..20_000 {
        simple.backend.at(&key).state(values).put(rng.u64(..)).unwrap();
    }
    let mut scope = simple.backend.at(&0);
    if let Some(list) = list {
        scope.state(list).extend((0..20_000).map(|_| rng.u64(..))).unwrap();
    }
    for i in 0..20_000 {
        let Some(map) = map else { break };
        scope.state(map).put(i, rng.u64(..)).unwrap();
    }
    let first = simple.snapshot(SnapshotKind::Incremental).unwrap();
    assert!(
        first.written_bytes > 20_000 * 8 * (1 + u64::from(has.lists) + u64::from(has.maps)),
        "random numbers cannot be compressed: {}",
        first.written_bytes
    );
    let change = |what: &str, simple: &mut Simple<F, u64>, change: &mut dyn FnMut(&mut F::Backend<u64>)| {
        change(&mut simple.backend);
        let written = simple.snapshot(SnapshotKind::Incremental).unwrap().written_bytes;
        assert!(written <= SMALL_CHANGE, "{what}: {written} bytes for a change of some 4,000");
    };
    change("200 values put", &mut simple, &mut |backend| {
        for key in (0..20_000).step_by(100) {
            backend.at(&key).state(values).put(rng.u64(..)).unwrap();
        }
    });
    change("200 values modified, three times each", &mut simple, &mut |backend| {
        for key in (1..20_000).step_by(100).cycle().take(600) {
            backend.at(&key).state(values).modify(|| 0, |value| *value ^= key).unwrap();
        }
    });
    change("200 values cleared", &mut simple, &mut |backend| {
        for key in (2..20_000).step_by(100) {
            assert!(backend.at(&key).state(values).clear().unwrap());
        }
    });
    change("200 elements appended", &mut simple, &mut |backend| {
        for _ in 0..200 {
            let Some(list) = list else { return };
            backend.at(&0).state(list).push(rng.u64(..)).unwrap();
        }
    });
    change("200 map entries put or removed", &mut simple, &mut |backend| {
        let Some(map) = map else { return };
        let mut scope = backend.at(&0);
        for i in 0..100 {
            scope.state(map).put(i * 200, rng.u64(..)).unwrap();
            assert!(scope.state(map).remove(&(i * 200 + 1)).unwrap());
        }
    });
    change("nothing", &mut simple, &mut |_| ());
}

/// Removed values, lists, maps and timers stay away, also when they come and go between snapshots.
pub fn tombstones_survive<F: BackendFactory>(subject: &Subject<F>) {
    let key = "a";
    let line = || vec![String::from("line")];
    let add = [
        Op::TotalPut(key, 1),
        Op::LabelPut(key, "a", "x".into()),
        Op::LinesAdd(key, "a", line()),
        Op::FieldPut(key, "a", "a", 1),
        Op::FieldPut(key, "a", "ab", 1),
        Op::AlarmSet(key, 5),
        Op::WindowSet(key, "a", 5),
    ];
    let remove = [
        Op::TotalClear(key),
        Op::LabelClear(key, "a"),
        Op::LinesClear(key, "a"),
        Op::FieldRemove(key, "a", "a"),
        Op::FieldsClear(key, "a"),
        Op::AlarmPop(5),
        Op::WindowDelete(key, "a", 5),
    ];
    // Each path adds and removes in turn, with a snapshot after some of the steps.
    for path in 0..32u32 {
        let mut world = World::new(subject);
        world.apply_all([Op::TotalPut("b", 7)]);
        for step in 0..4 {
            world.apply_all(if step % 2 == 0 { add.clone() } else { remove.clone() });
            if path & (1 << step) != 0 {
                let taken = world.snapshot(SnapshotKind::Incremental);
                world.check_snapshot(&taken).unwrap_or_else(|e| panic!("path {path:b}, step {step}: {e:?}"));
            }
        }
        if path & 16 != 0 {
            world.apply_all(add.clone());
        }
        let taken = world.snapshot(SnapshotKind::Incremental);
        world.check_snapshot(&taken).unwrap_or_else(|e| panic!("path {path:b}, at the end: {e:?}"));
        if path & 16 == 0 {
            assert_eq!(taken.contents.entries(), 1..=1);
        }
    }
}

/// A map that is cleared and filled again has only the new entries; those of other namespaces stay.
pub fn a_cleared_map_is_filled_again<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for field in ["", "\0", "a", "ab"] {
        world.apply_all([Op::FieldPut("a", "a", field, 1), Op::FieldPut("a", "a\0", field, 2)]);
    }
    world.snapshot(SnapshotKind::Incremental);
    world.apply_all([Op::FieldsClear("a", "a"), Op::FieldPut("a", "a", "ab", 3)]);
    let second = world.snapshot(SnapshotKind::Incremental);
    world.apply_all([Op::FieldsClear("a", "a"), Op::FieldPut("a", "a", "", 4), Op::FieldsClear("a", "a")]);
    let third = world.snapshot(SnapshotKind::Incremental);
    world.apply_all([Op::FieldPut("a", "a", "\0", 5)]);
    let fourth = world.snapshot(SnapshotKind::Incremental);
    for taken in [second, third, fourth] {
        world.check_snapshot(&taken).unwrap();
    }
}

/// Appends, replacements and clears of a list add up, within one round and over several.
pub fn list_deltas_add_up<F: BackendFactory>(subject: &Subject<F>) {
    let line = |text: &str| vec![String::from(text)];
    let rounds: [Vec<Op>; 8] = [
        vec![Op::LinesAdd("a", "", line("1")), Op::LinesAdd("a", "", line("2"))],
        vec![Op::LinesAdd("a", "", line("3"))],
        vec![],
        vec![Op::LinesAdd("a", "", line("4")), Op::LinesAdd("a", "", vec!["5".into(), String::new()])],
        vec![
            Op::LinesAdd("a", "", line("6")),
            Op::LinesPut("a", "", line("7")),
            Op::LinesAdd("a", "", line("8")),
        ],
        vec![Op::LinesAdd("a", "", line("9")), Op::LinesAdd("a", "\0", line("other"))],
        vec![Op::LinesAdd("a", "", line("10")), Op::LinesClear("a", ""), Op::LinesAdd("a", "", line("11"))],
        vec![Op::LinesAdd("a", "", line("12")), Op::LinesClear("a", "")],
    ];
    let mut world = World::new(subject);
    let mut taken = Vec::new();
    for round in rounds {
        world.apply_all(round);
        taken.push(world.snapshot(SnapshotKind::Incremental));
    }
    for taken in &taken {
        world.check_snapshot(taken).unwrap();
    }
}

/// Over 60 rounds of random changes, every snapshot that is retained restores from its own files alone.
pub fn a_long_chain<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let mut all: Vec<Taken> = Vec::new();
    for seed in 200..260 {
        world.shake(seed, 40);
        all.push(world.snapshot(SnapshotKind::Incremental));
        // The case retains the last three, as a job would.
        let kept = &all[all.len().saturating_sub(3)..];
        world.store.keep_only(kept.iter().map(|taken| &taken.snapshot));
        world.check_snapshot(&kept[0]).unwrap_or_else(|e| panic!("round {seed}: {e:?}"));
    }
    world.check_snapshot(all.last().expect("60 rounds")).unwrap();
}

/// A full snapshot needs no file of an older one; increments after it may build on it or on older ones.
pub fn a_full_snapshot_needs_no_older_file<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for seed in 300..303 {
        world.shake(seed, 200);
        world.snapshot(SnapshotKind::Incremental);
    }
    let older: Vec<_> = world.store.segments().segments().into_iter().map(|s| s.name).collect();
    world.shake(303, 100);
    let full = world.snapshot(SnapshotKind::Full);
    world.shake(304, 100);
    let after = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&after).unwrap();
    let again = world.snapshot(SnapshotKind::Full);
    for taken in [&full, &again] {
        for part in &taken.snapshot.parts {
            assert!(
                !older.contains(&part.segment.name),
                "a full snapshot relies on the older {}",
                part.segment.name
            );
        }
    }
    for name in &older {
        world.store.segments().remove(name);
    }
    world.check_snapshot(&full).unwrap();
    world.check_snapshot(&again).unwrap();
}
