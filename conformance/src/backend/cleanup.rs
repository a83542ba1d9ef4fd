//! How expired values leave: reads that still return them, clean-ups, and snapshots without them.

use std::time::Duration;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::{
    AggregatingDescriptor, Cleanup, Error, ErrorKind, KeyedBackend, ListDescriptor, ReducingDescriptor,
    Refresh, Result, Ttl, Visibility,
};

use super::expiring_states::{ExpiringStates, ttl};
use super::simple::rig;
use crate::Subject;
use crate::access::{TableAccess, ms};
use crate::world::Mean;

/// Returns a time-to-live of 10 ms whose expired values are shown, and which nothing cleans up but accesses.
fn shown() -> Ttl {
    ttl(10).visibility(Visibility::UntilCleaned).cleanup(Cleanup::ON_ACCESS_ONLY)
}

/// The accesses that read, by name. Each returns the values that it found.
fn reads<B: KeyedBackend<Key = u64>>(timed: ExpiringStates) -> Vec<(&'static str, Read<B>)> {
    let value: Read<B> =
        Box::new(move |b, key| Ok(b.at(&key).state(timed.value).get()?.copied().into_iter().collect()));
    let taken: Read<B> =
        Box::new(move |b, key| Ok(b.at(&key).state(timed.value).take()?.into_iter().collect()));
    let mut reads = vec![("get", value), ("take", taken)];
    if let Some(list) = timed.list {
        reads.push(("get of a list", Box::new(move |b, key| Ok(b.at(&key).state(list).get()?.to_vec()))));
        reads.push(("take of a list", Box::new(move |b, key| b.at(&key).state(list).take())));
    }
    if let Some(map) = timed.map {
        reads.push((
            "get of a map",
            Box::new(move |b, key| Ok(b.at(&key).state(map).get(&5)?.copied().into_iter().collect())),
        ));
        reads.push((
            "contains",
            Box::new(move |b, key| {
                Ok(b.at(&key).state(map).contains(&5)?.then_some(5).into_iter().collect())
            }),
        ));
        reads.push((
            "for_each",
            Box::new(move |b, key| {
                let mut found = Vec::new();
                b.at(&key).state(map).for_each(|_, value| {
                    found.push(*value);
                    Ok(())
                })?;
                Ok(found)
            }),
        ));
        reads.push((
            "range",
            Box::new(move |b, key| {
                let mut found = Vec::new();
                b.at(&key).state(map).range(.., |_, value| {
                    found.push(*value);
                    Ok(())
                })?;
                Ok(found)
            }),
        ));
    }
    reads
}

type Read<B> = Box<dyn Fn(&mut B, u64) -> Result<Vec<u64>>>;

/// Where a state shows expired values, the first read returns one and removes it (Flink: TTL-02); so do later
/// snapshots, while one that was prepared before has it.
pub fn a_read_returns_an_expired_value_once<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, shown());
    let mut simple = rig::<F, u64>(subject);
    let timed = register(&mut simple.backend).unwrap();
    let reads = reads::<F::Backend<u64>>(timed);
    simple.backend.clock().processing_time = ms(0);
    for key in 0..reads.len() as u64 {
        timed.write(&mut simple.backend, key, 5);
    }
    let all = timed.states();
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clock().processing_time = ms(1_000);
    simple.prepare(SnapshotKind::Incremental).unwrap();
    for ((name, read), key) in reads.iter().zip(0..) {
        assert_eq!(timed.left(&mut simple.backend, key), all, "{name}: nothing has removed it");
        assert_eq!(read(&mut simple.backend, key).unwrap(), [5], "{name} returns it");
        assert_eq!(timed.left(&mut simple.backend, key), all - 1, "{name} removes it");
        assert_eq!(read(&mut simple.backend, key).unwrap(), [0; 0], "{name}: it is gone");
    }
    let before = simple.finish().unwrap();
    let after = simple.snapshot(SnapshotKind::Incremental).unwrap();
    for (snapshot, left) in [(before, all), (after, all - 1)] {
        let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
        for ((name, _), key) in reads.iter().zip(0..) {
            assert_eq!(timed.left(&mut restored.backend, key), left, "{name}, in a snapshot");
        }
    }
}

/// The elements of a list and the entries of a map are shown once and removed one by one; folded values as a
/// whole.
pub fn expired_parts_are_shown_once<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let mut simple = rig::<F, u64>(subject);
    let timed = ExpiringStates::register(&mut simple.backend, has, shown()).unwrap();
    let sums = ReducingDescriptor::new("sums", |sum: &mut u64, n: u64| *sum += n).time_to_live(shown());
    let sums = simple.backend.register(&sums).unwrap();
    let mean = AggregatingDescriptor::new("mean", Mean).time_to_live(shown());
    let mean = simple.backend.register(&mean).unwrap();
    for (time, value) in [(0, 1), (8, 2), (1, 3)] {
        simple.backend.clock().processing_time = ms(time);
        timed.write(&mut simple.backend, 7, value);
    }
    simple.backend.at(&7).state(sums).add(4).unwrap();
    simple.backend.at(&7).state(mean).add(4).unwrap();
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clock().processing_time = ms(12);
    let mut scope = simple.backend.at(&7);
    assert_eq!(scope.state(sums).get().unwrap(), Some(&4));
    assert_eq!(scope.state(sums).get().unwrap(), None);
    assert_eq!(scope.state(mean).get().unwrap(), Some(4));
    assert_eq!(scope.state(mean).get().unwrap(), None);
    if let Some(list) = timed.list {
        assert_eq!(scope.state(list).get().unwrap(), [1, 2, 3], "two of them for the last time");
        assert_eq!(scope.state(list).get().unwrap(), [2]);
        scope.state(list).push(4).unwrap();
        assert_eq!(scope.state(list).get().unwrap(), [2, 4], "what is added goes behind what is left");
    }
    if let Some(map) = timed.map {
        assert_eq!(scope.state(map).get(&1).unwrap(), Some(&1));
        assert_eq!(scope.state(map).get(&1).unwrap(), None);
        assert_eq!(scope.state(map).len().unwrap(), 2, "to count is not to read");
        assert_eq!(scope.state(map).len().unwrap(), 2);
        let stop = |_: &u64, _: &u64| Err(Error::new(ErrorKind::User, "enough"));
        assert!(scope.state(map).range(3.., stop).is_err());
        assert_eq!(scope.state(map).get(&3).unwrap(), None, "the visit has shown it, and stopped");
        assert_eq!(scope.state(map).get(&2).unwrap(), Some(&2), "this one has not expired");
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, shown());
    let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
    restored.backend.clock().processing_time = ms(12);
    if let Some(list) = timed.list {
        assert_eq!(restored.backend.at(&7).state(list).get().unwrap(), [2, 4]);
    }
    if let Some(map) = timed.map {
        assert_eq!(restored.backend.timed_map(map, &7).unwrap().len(), 1);
    }
}

/// Without background clean-ups an access removes the expired value that it finds, and nothing else removes
/// any.
pub fn only_what_is_accessed_is_removed<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    for visibility in [Visibility::Never, Visibility::UntilCleaned] {
        let ttl = ttl(10).visibility(visibility).cleanup(Cleanup::ON_ACCESS_ONLY);
        let mut simple = rig::<F, u64>(subject);
        let timed = ExpiringStates::register(&mut simple.backend, has, ttl).unwrap();
        simple.backend.clock().processing_time = ms(0);
        for key in 0..40 {
            timed.write(&mut simple.backend, key, key);
        }
        simple.snapshot(SnapshotKind::Incremental).unwrap();
        simple.backend.clock().processing_time = ms(1_000);
        for key in (0..40).step_by(2) {
            let mut scope = simple.backend.at(&key);
            scope.state(timed.value).get().unwrap();
            if let Some(list) = timed.list {
                scope.state(list).get().unwrap();
            }
            if let Some(map) = timed.map {
                scope.state(map).for_each(|_, _| Ok(())).unwrap();
            }
        }
        for kind in [SnapshotKind::Incremental, SnapshotKind::Full] {
            assert_eq!(simple.backend.clean_up(1_000_000).unwrap(), 0, "{visibility:?}");
            let snapshot = simple.snapshot(kind).unwrap();
            let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, ttl);
            let (mut restored, again) = simple.restore(&[snapshot], register).unwrap();
            for key in 0..40 {
                let wanted = if key % 2 == 0 { 0 } else { timed.states() };
                assert_eq!(timed.left(&mut simple.backend, key), wanted, "{visibility:?}, key {key}");
                assert_eq!(again.left(&mut restored.backend, key), wanted, "{visibility:?}, key {key}");
            }
        }
    }
}

/// What a clean-up has removed is never shown, even by a state that shows expired values.
pub fn what_is_shown_until_it_is_cleaned_up<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().cleans_up {
        return;
    }
    let mut simple = rig::<F, u64>(subject);
    let cleanup = Cleanup { per_record: 1, in_compactions: false, ..Cleanup::default() };
    let timed =
        ExpiringStates::register(&mut simple.backend, subject.capabilities(), shown().cleanup(cleanup))
            .unwrap();
    simple.backend.clock().processing_time = ms(0);
    timed.write(&mut simple.backend, 1, 5);
    simple.backend.clock().processing_time = ms(1_000);
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clean_up(1_000_000).unwrap();
    timed.hides(&mut simple.backend, 1, "cleaned up");
}

/// A read does not refresh an expired value that it returns, and so does not revive it.
pub fn a_read_does_not_refresh_an_expired_value<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let shown = shown().refresh(Refresh::OnReadAndWrite);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), shown).unwrap();
    let b = &mut simple.backend;
    b.clock().processing_time = ms(0);
    timed.write(b, 1, 5);
    b.clock().processing_time = ms(6);
    timed.shows(b, 1, 5, "refreshed, since it has not expired");
    b.clock().processing_time = ms(14);
    if let Some(list) = timed.list {
        b.at(&1).state(list).push(6).unwrap();
    }
    b.clock().processing_time = ms(20);
    assert_eq!(b.at(&1).state(timed.value).get().unwrap(), Some(&5), "expired, and shown");
    assert!(b.timed_value(timed.value, &1).unwrap().is_none(), "and removed");
    if let Some(list) = timed.list {
        assert_eq!(b.at(&1).state(list).get().unwrap(), [5, 6], "the first has expired");
        let elements = b.timed_list(list, &1).unwrap();
        assert_eq!(
            elements.iter().map(|timed| (timed.stamp, timed.value)).collect::<Vec<_>>(),
            [(ms(20), 6)]
        );
    }
    if let Some(map) = timed.map {
        assert_eq!(b.at(&1).state(map).get(&5).unwrap(), Some(&5), "expired, and shown");
        assert!(b.timed_map(map, &1).unwrap().is_empty(), "and removed");
    }
    b.clock().processing_time = ms(21);
    assert_eq!(b.at(&1).state(timed.value).get().unwrap(), None, "no read revives it");
}

/// `clean_up` removes expired values that are never accessed, in bounded steps; later snapshots do not have
/// them.
pub fn clean_up_by_records<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    if !has.cleans_up {
        return;
    }
    let mut simple = rig::<F, u64>(subject);
    let cleanup = Cleanup { per_record: 4, in_compactions: false, ..Cleanup::default() };
    let timed = ExpiringStates::register(&mut simple.backend, has, ttl(10).cleanup(cleanup)).unwrap();
    let states = timed.states();
    for key in 0..2_000 {
        simple.backend.clock().processing_time = ms((key % 2) as i64 * 8);
        timed.write(&mut simple.backend, key, key);
    }
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clock().processing_time = ms(12);
    let (mut removed, mut steps) = (0, 0);
    while removed < 1_000 * states as u64 {
        let step = simple.backend.clean_up(100).unwrap();
        assert!(step <= states as u64 * 4 * 100 * 3, "a step of 100 records removes {step}");
        removed += step;
        steps += 1;
        assert!(steps < 1_000, "{removed} entries are removed after {steps} steps");
    }
    assert!(steps > 1, "one step of 100 records removes everything");
    let left: usize = (0..2_000).map(|key| timed.left(&mut simple.backend, key)).sum();
    assert_eq!(left, 1_000 * states, "the others have not expired");
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, ttl(10));
    let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
    restored.backend.clock().processing_time = ms(12);
    for key in 0..2_000 {
        assert_eq!(timed.left(&mut restored.backend, key), if key % 2 == 0 { 0 } else { states });
    }
}

/// A full snapshot leaves out what had expired at its barrier, and does not change the state (Flink: TTL-08).
pub fn full_snapshots_leave_out_what_has_expired<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    if !has.filters_full_snapshots {
        return;
    }
    for in_full_snapshots in [true, false] {
        let mut simple = rig::<F, u64>(subject);
        let cleanup = Cleanup { per_record: 0, in_full_snapshots, in_compactions: false };
        let ttl = ttl(10).cleanup(cleanup);
        let timed = ExpiringStates::register(&mut simple.backend, has, ttl).unwrap();
        let states = timed.states();
        for key in 0..100 {
            simple.backend.clock().processing_time = ms((key % 2) as i64 * 8);
            timed.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().processing_time = ms(12);
        // The first full snapshot; a backend that folds deltas may never write another one.
        let snapshot = simple.snapshot(SnapshotKind::Full).unwrap();
        assert_eq!(timed.left(&mut simple.backend, 2), states, "only the snapshot leaves the values out");
        let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, ttl);
        let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().processing_time = ms(12);
        for key in 0..100 {
            let gone = in_full_snapshots && key % 2 == 0;
            assert_eq!(timed.left(&mut restored.backend, key), if gone { 0 } else { states }, "key {key}");
        }
    }
}

/// Elements of a list leave it one by one, as each expires: by clean-up, and out of full snapshots.
pub fn elements_of_a_list_leave_one_by_one<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let cleanup = Cleanup { per_record: 4, in_compactions: false, in_full_snapshots: true };
    let descriptor = || ListDescriptor::<u64>::new("list").time_to_live(ttl(10).cleanup(cleanup));
    for cleaned in [true, false] {
        if !(if cleaned { has.cleans_up } else { has.filters_full_snapshots }) {
            continue;
        }
        let mut simple = rig::<F, u64>(subject);
        let list = simple.backend.register(&descriptor()).unwrap();
        for now in 0..20 {
            simple.backend.clock().processing_time = ms(now);
            // Every list loses its elements at other times; the last list is never whole at a snapshot.
            for key in (0..20).filter(|key| now % (key + 1) == 0) {
                simple.backend.at(&(key as u64)).state(list).push(now as u64).unwrap();
            }
            if now % 3 == 0 {
                simple.snapshot(SnapshotKind::Incremental).unwrap();
            }
            if !cleaned || now % 2 == 0 {
                continue;
            }
            simple.snapshot(SnapshotKind::Incremental).unwrap();
            simple.backend.clean_up(1_000).unwrap();
            for key in 0..20u64 {
                let stamps = simple.backend.timed_list(list, &key).unwrap().iter().map(|timed| timed.stamp);
                let stamps: Vec<_> = stamps.collect();
                let alive = (0..=now).filter(|at| at % (key as i64 + 1) == 0 && at + 10 > now).map(ms);
                assert_eq!(stamps, alive.collect::<Vec<_>>(), "the list of key {key} at {now} ms");
            }
        }
        let kind = if cleaned { SnapshotKind::Incremental } else { SnapshotKind::Full };
        let snapshot = simple.snapshot(kind).unwrap();
        let (mut restored, list) = simple.restore(&[snapshot], |b| b.register(&descriptor())).unwrap();
        for key in 0..20u64 {
            let stamps = restored.backend.timed_list(list, &key).unwrap().iter().map(|timed| timed.stamp);
            let stamps: Vec<_> = stamps.collect();
            let alive = (0..20).filter(|at| at % (key as i64 + 1) == 0 && at + 10 > 19).map(ms);
            assert_eq!(stamps, alive.collect::<Vec<_>>(), "the restored list of key {key}, {kind:?}");
        }
    }
}

/// A value that had not expired at the barrier exists after a restore, even if the watermark has passed its
/// end before the snapshot was written.
pub fn a_snapshot_has_what_lived_at_its_barrier<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    for kind in [SnapshotKind::Full, SnapshotKind::Incremental] {
        let mut simple = rig::<F, u64>(subject);
        let event = Ttl::event_time(Duration::from_millis(10));
        let timed = ExpiringStates::register(&mut simple.backend, has, event).unwrap();
        (simple.backend.clock().watermark, simple.backend.clock().timestamp) = (ms(0), ms(5));
        for key in 0..500 {
            timed.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().watermark = ms(14);
        simple.prepare(kind).unwrap();
        simple.backend.clock().watermark = ms(1_000);
        simple.backend.clean_up(10_000).unwrap();
        for key in 0..250 {
            timed.hides(&mut simple.backend, key, "after the barrier");
        }
        let snapshot = simple.finish().unwrap();
        let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, event);
        let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().watermark = ms(14);
        for key in 0..500 {
            timed.shows(&mut restored.backend, key, key, &format!("{kind:?}"));
        }
    }
}
