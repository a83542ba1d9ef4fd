//! A snapshot holds the state at its cut: every change before it, and no change after it.

use strandline_state_api::backend::{
    BackendFactory, KeyedBackendExt, Progress, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::{CheckpointId, ErrorKind, ValueDescriptor};

use super::simple::rig;
use crate::Subject;
use crate::wait::wait;
use crate::world::{KEYS, Op, Taken, World, same};

const KINDS: [SnapshotKind; 3] = [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint];

/// The snapshot of an empty backend exists, and restores to an empty backend (Flink: KS-09).
pub fn an_empty_backend<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for kind in KINDS {
        let taken = world.snapshot(kind);
        world.check_snapshot(&taken).unwrap();
    }
    world.shake(1, 300);
    let taken = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&taken).unwrap();
}

/// A backend without registered states takes snapshots and restores them.
pub fn a_backend_without_states<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    for kind in KINDS {
        let snapshot = simple.snapshot(kind).unwrap();
        let (restored, ()) = simple.restore(&[snapshot], |_| Ok(())).unwrap();
        assert!(restored.restored().orphans.is_empty());
    }
}

/// No change after the cut, at whatever step of the hand-over, is part of the snapshot: changed, removed and
/// added entries, and entries that nothing touches.
pub fn later_changes_are_invisible<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        for budget in [1, 2, 7, 64, usize::MAX] {
            for changes_per_step in [0, 1, 5, 100] {
                let mut world = World::new(subject);
                world.shake(3, 500);
                let contents = world.prepare(kind).unwrap();
                let seed = 100 + changes_per_step as u64;
                let prepared = step_by_step(&mut world, budget, changes_per_step, seed);
                world.shake(9, 200);
                let snapshot = world.commit(prepared).unwrap();
                world.shake(10, 50);
                world.check().unwrap();
                let context = format!("{kind:?}, budget {budget}, {changes_per_step} changes between steps");
                world
                    .check_snapshot(&Taken { snapshot, contents })
                    .unwrap_or_else(|e| panic!("{context}: {e:?}"));
            }
        }
    }
}

fn step_by_step<F: BackendFactory>(
    world: &mut World<F>,
    budget: usize,
    changes: usize,
    seed: u64,
) -> crate::world::Prepared<F> {
    let checkpoint = world.last;
    for step in 0..20_000 {
        world.shake(seed + step, changes);
        if let Some(prepared) = world.advance(checkpoint, budget).unwrap() {
            return prepared;
        }
    }
    panic!("the snapshot is not ready after 20,000 steps: changes must not delay it forever");
}

/// The same holds for each way in which one entry can change after the cut, by one change and by several.
pub fn each_kind_of_change_is_invisible<F: BackendFactory>(subject: &Subject<F>) {
    let [hot, cold] = ["a", "a\0"];
    let text = |text: &str| vec![String::from(text)];
    let before = [
        Op::TotalPut(hot, 1),
        Op::LabelPut(hot, "a", "before".into()),
        Op::LinesAdd(hot, "a", text("before")),
        Op::FieldPut(hot, "a", "ab", 1),
        Op::FieldPut(hot, "a", "", 1),
        Op::AlarmSet(hot, 5),
        Op::WindowSet(hot, "a", 5),
        Op::TotalPut(cold, 2),
        Op::AlarmSet(cold, 7),
    ];
    let changes = [
        vec![Op::TotalPut(hot, 9)],
        vec![Op::TotalAdd(hot, 9)],
        vec![Op::TotalClear(hot)],
        vec![Op::TotalClear(hot), Op::TotalPut(hot, 9)],
        vec![Op::TotalPut("b", 9), Op::TotalClear("b"), Op::TotalClear(cold)],
        vec![Op::LabelPush(hot, "a", 'x'), Op::LabelPut(hot, "", "new".into())],
        vec![Op::LabelClear(hot, "a"), Op::LabelPush(hot, "a", 'x')],
        vec![Op::LinesAdd(hot, "a", text("after"))],
        vec![Op::LinesAdd(hot, "a", text("after")), Op::LinesClear(hot, "a")],
        vec![Op::LinesClear(hot, "a"), Op::LinesAdd(hot, "a", text("after"))],
        vec![Op::LinesPut(hot, "a", text("after")), Op::LinesAdd(hot, "a", text("after"))],
        vec![Op::LinesPut(hot, "a", vec![]), Op::LinesAdd("b", "a", text("after"))],
        vec![Op::FieldPut(hot, "a", "ab", 9)],
        vec![Op::FieldRemove(hot, "a", "ab"), Op::FieldRemove(hot, "a", "")],
        vec![Op::FieldsClear(hot, "a")],
        vec![Op::FieldsClear(hot, "a"), Op::FieldPut(hot, "a", "ab", 9)],
        vec![Op::FieldPut(hot, "a", "a", 9), Op::FieldsClear(hot, "a"), Op::FieldPut(hot, "", "ab", 9)],
        vec![Op::AlarmPop(5), Op::WindowPop(5)],
        vec![Op::AlarmDelete(hot, 5), Op::WindowDelete(hot, "a", 5)],
        vec![Op::AlarmPop(5), Op::AlarmSet(hot, 5), Op::AlarmSet(hot, 6)],
        vec![Op::AlarmSet(hot, i64::MIN + 1), Op::AlarmPop(0), Op::WindowSet(hot, "", 5), Op::WindowPop(9)],
    ];
    for kind in KINDS {
        for change in &changes {
            for (warm, budget) in [(false, 1), (false, usize::MAX), (true, 1), (true, usize::MAX)] {
                let mut world = World::new(subject);
                world.apply_all(before.clone());
                if warm {
                    // An earlier snapshot, so that the entries are not new at the cut.
                    world.snapshot(SnapshotKind::Incremental);
                }
                let contents = world.prepare(kind).unwrap();
                world.apply_all(change.clone());
                let prepared = step_by_step(&mut world, budget, 0, 0);
                let snapshot = world.commit(prepared).unwrap();
                let taken = Taken { snapshot, contents };
                let context = format!("{change:?} after the cut, {kind:?}, snapshot before {warm}");
                world.check_snapshot(&taken).unwrap_or_else(|e| panic!("{context}: {e:?}"));
                // The next snapshot has the change that this one does not have.
                let next = world.snapshot(SnapshotKind::Incremental);
                world.check_snapshot(&next).unwrap_or_else(|e| panic!("{context}, the next: {e:?}"));
            }
        }
    }
}

/// Several snapshots are prepared before the first is ready; they become ready in order, each with its
/// contents.
pub fn several_snapshots_in_flight<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().several_in_flight {
        return;
    }
    for budget in [1, 3, usize::MAX] {
        for first in KINDS {
            let mut world = World::new(subject);
            world.shake(20, 400);
            let kinds = [first, SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Incremental];
            let mut cuts = Vec::new();
            for (seed, kind) in (30..).zip(kinds) {
                let contents = world.prepare(kind).unwrap();
                cuts.push((world.last, contents));
                world.shake(seed, 60);
            }
            for (checkpoint, contents) in cuts {
                let prepared = loop {
                    world.shake(40 + checkpoint.0, 1);
                    if let Some(prepared) = world.advance(checkpoint, budget).unwrap() {
                        break prepared;
                    }
                };
                let snapshot = world.commit(prepared).unwrap();
                let checked = world.check_snapshot(&Taken { snapshot, contents });
                checked.unwrap_or_else(|e| panic!("checkpoint {checkpoint}, budget {budget}: {e:?}"));
            }
            assert!(matches!(world.backend.advance(1).unwrap(), Progress::Idle));
            world.check().unwrap();
        }
    }
}

/// Several snapshots are ready before the first is written.
pub fn several_snapshots_wait_to_be_written<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let mut waiting = Vec::new();
    for seed in 50..54 {
        world.shake(seed, 200);
        let contents = world.prepare(SnapshotKind::Incremental).unwrap();
        waiting.push((world.hand_over(world.last).unwrap(), contents));
    }
    world.shake(60, 200);
    for (prepared, contents) in waiting {
        let snapshot = world.commit(prepared).unwrap();
        world.check_snapshot(&Taken { snapshot, contents }).unwrap();
    }
}

/// The writer works on another thread while the backend changes and prepares the next snapshot.
pub fn a_writer_on_another_thread<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let (to_writer, inbox) = std::sync::mpsc::channel();
    let (outbox, from_writer) = std::sync::mpsc::channel();
    let writer = world.writer.take().expect("a new world has its writer");
    let store = std::sync::Arc::clone(&world.store);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (prepared, contents) in inbox {
                let snapshot = wait(writer.commit(prepared, store.as_ref())).unwrap();
                outbox.send(Taken { snapshot, contents }).unwrap();
            }
        });
        for seed in 70..76 {
            world.shake(seed, 150);
            let contents = world.prepare(SnapshotKind::Incremental).unwrap();
            let prepared = step_by_step(&mut world, 16, 3, seed * 1_000);
            to_writer.send((prepared, contents)).unwrap();
        }
        drop(to_writer);
        let all: Vec<Taken> = from_writer.into_iter().collect();
        assert_eq!(all.len(), 6);
        for taken in &all {
            world.check_snapshot(taken).unwrap();
        }
    });
}

/// A state that is registered while a snapshot is under way is part of the next one, and not of this one.
pub fn a_state_registered_under_way<F: BackendFactory>(subject: &Subject<F>) {
    let early = ValueDescriptor::<u64>::new("early");
    let late = ValueDescriptor::<u64>::new("a-late-one");
    let mut simple = rig::<F, u64>(subject);
    let early_state = simple.backend.register(&early).unwrap();
    for key in 0..20 {
        simple.backend.at(&key).state(early_state).put(key).unwrap();
    }
    simple.prepare(SnapshotKind::Incremental).unwrap();
    let late_state = simple.backend.register(&late).unwrap();
    for key in 0..20 {
        let mut scope = simple.backend.at(&key);
        scope.state(early_state).put(99).unwrap();
        scope.state(late_state).put(key * 2).unwrap();
    }
    let first = simple.finish().unwrap();
    let second = simple.snapshot(SnapshotKind::Incremental).unwrap();
    for (snapshot, early_is, late_is) in [(first, None, None), (second, Some(99), Some(2))] {
        let register = |b: &mut F::Backend<u64>| Ok((b.register(&early)?, b.register(&late)?));
        let (mut restored, states) = simple.restore(&[snapshot], register).unwrap();
        for key in 0..20 {
            let mut scope = restored.backend.at(&key);
            assert_eq!(scope.state(states.0).get().unwrap(), Some(&early_is.unwrap_or(key)));
            assert_eq!(scope.state(states.1).get().unwrap().copied(), late_is.map(|times| key * times));
        }
    }
}

/// A backend refuses a checkpoint id that does not rise, and is unharmed. It is idle while no snapshot is
/// under way.
pub fn checkpoint_ids_rise<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    assert!(matches!(world.backend.advance(10).unwrap(), Progress::Idle));
    world.shake(80, 100);
    world.last = CheckpointId(41);
    let first = world.snapshot(SnapshotKind::Incremental);
    for id in [42, 41, 1, 0] {
        let error = world.backend.prepare(CheckpointId(id), SnapshotKind::Incremental).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "checkpoint {id} after 42: {error}");
    }
    assert!(
        matches!(world.backend.advance(10).unwrap(), Progress::Idle),
        "a refused snapshot is not under way"
    );
    world.shake(81, 100);
    world.last = CheckpointId(1 << 40);
    let second = world.snapshot(SnapshotKind::Incremental);
    world.check_snapshot(&first).unwrap();
    world.check_snapshot(&second).unwrap();
}

/// The writer can be taken once.
pub fn the_writer_is_taken_once<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    let error = world.backend.take_writer().err().expect("a second writer is refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    world.apply_all([Op::TotalPut(KEYS[0], 1)]);
    let taken = world.snapshot(SnapshotKind::Full);
    world.check_snapshot(&taken).unwrap();
}

/// The description of a snapshot is true: bytes written, lengths, key groups.
pub fn a_snapshot_describes_itself<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    for seed in 90..94 {
        world.shake(seed, 200);
        let before = world.store.total_bytes();
        let Taken { snapshot, .. } = world.snapshot(SnapshotKind::Incremental);
        let added = world.store.total_bytes() - before;
        same("written bytes", snapshot.written_bytes, added).unwrap();
        assert!(!snapshot.parts.is_empty());
        for part in &snapshot.parts {
            let segment = &part.segment;
            let bytes = world.store.segments().get(&segment.name);
            let bytes = bytes.unwrap_or_else(|| panic!("segment {} is not in the store", segment.name));
            assert_eq!(bytes.len() as u64, segment.len);
            assert!(!part.key_groups.is_empty() && world.range.covers(part.key_groups));
        }
    }
}
