//! Time-to-live: what has expired, what is seen of it, and how it leaves. The clock is that of the case.

use std::time::Duration;

use strandline_state_api::{
    AggregatingDescriptor, BackendFactory, Cleanup, ErrorKind, Expiring, KeyScope, Keyed, KeyedBackend,
    ListDescriptor, ListState, MapDescriptor, MapState, ReducingDescriptor, Refresh, SnapshotKind, Ttl,
    ValueDescriptor, ValueState, Visibility,
};

use super::simple::Simple;
use crate::Subject;
use crate::world::Mean;

fn ttl(millis: u64) -> Ttl {
    Ttl::processing_time(Duration::from_millis(millis))
}

/// A value, a list and a map of one time-to-live.
#[derive(Clone, Copy)]
struct Kinds {
    value: ValueState<u64, (), Expiring>,
    list: ListState<u64, (), Expiring>,
    map: MapState<u64, u64, (), Expiring>,
}

impl Kinds {
    fn register<B: KeyedBackend>(backend: &mut B, ttl: Ttl) -> strandline_state_api::Result<Self> {
        Ok(Self {
            value: backend.register(&ValueDescriptor::new("value").time_to_live(ttl))?,
            list: backend.register(&ListDescriptor::new("list").time_to_live(ttl))?,
            map: backend.register(&MapDescriptor::new("map").time_to_live(ttl))?,
        })
    }

    fn write<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64, value: u64) {
        let mut scope = KeyScope::new(backend, Keyed::new(&key));
        scope.value(self.value).put(value).unwrap();
        scope.list(self.list).push(value).unwrap();
        scope.map(self.map).put(value, value).unwrap();
    }

    /// What is seen: the value, the elements, the map entries in order.
    fn read<B: KeyedBackend<Key = u64>>(
        self,
        backend: &mut B,
        key: u64,
    ) -> (Option<u64>, Vec<u64>, Vec<u64>) {
        let mut scope = KeyScope::new(backend, Keyed::new(&key));
        let value = scope.value(self.value).get().unwrap().copied();
        let list = scope.list(self.list).get().unwrap().copied().collect();
        let mut map = Vec::new();
        let visit = |map_key: &u64, value: &u64| {
            assert_eq!(map_key, value);
            map.push(*value);
            Ok(())
        };
        scope.map(self.map).range(.., visit).unwrap();
        let mut all = Vec::new();
        scope
            .map(self.map)
            .for_each(|map_key, _| {
                all.push(*map_key);
                Ok(())
            })
            .unwrap();
        all.sort_unstable();
        assert_eq!(map, all);
        assert_eq!(scope.map(self.map).is_empty().unwrap(), map.is_empty());
        (value, list, map)
    }

    /// Entries that the backend still has.
    fn left<B: KeyedBackend<Key = u64>>(self, backend: &mut B, key: u64) -> usize {
        let mut scope = KeyScope::new(backend, Keyed::new(&key));
        let value = usize::from(scope.value(self.value.stored()).get().unwrap().is_some());
        let mut left = value + scope.list(self.list.stored()).get().unwrap().len();
        let count = |_: &u64, _: &_| {
            left += 1;
            Ok(())
        };
        scope.map(self.map.stored()).for_each(count).unwrap();
        left
    }
}

/// A value lives until `stamp + duration`, that instant excluded; a write begins anew (Flink: TTL-03).
pub fn the_instant_of_expiry<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let kinds = Kinds::register(&mut simple.backend, ttl(10)).unwrap();
    let b = &mut simple.backend;
    b.clock().processing_time = 100;
    kinds.write(b, 1, 5);
    b.clock().processing_time = 109;
    assert_eq!(kinds.read(b, 1), (Some(5), vec![5], vec![5]));
    b.clock().processing_time = 110;
    assert_eq!(kinds.read(b, 1), (None, vec![], vec![]));
    assert_eq!(kinds.left(b, 1), 0, "what was accessed is gone");
    kinds.write(b, 1, 6);
    b.clock().processing_time = 119;
    kinds.write(b, 1, 6);
    b.clock().processing_time = 125;
    assert_eq!(kinds.read(b, 1), (Some(6), vec![6], vec![6]), "of the list only the newer element lives");
}

/// Elements and map entries for themselves, folds as a whole; what begins anew starts from nothing (Flink: TTL-05).
pub fn every_kind_expires<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let kinds = Kinds::register(&mut simple.backend, ttl(10)).unwrap();
    let sum = |sum: &mut u64, n: u64| *sum += n;
    let sums = simple.backend.register(&ReducingDescriptor::new("sums", sum).time_to_live(ttl(10))).unwrap();
    let mean =
        simple.backend.register(&AggregatingDescriptor::new("mean", Mean).time_to_live(ttl(10))).unwrap();
    let b = &mut simple.backend;
    for (time, value) in [(0, 1), (4, 2), (8, 3)] {
        b.clock().processing_time = time;
        kinds.write(b, 7, value);
    }
    b.clock().processing_time = 12;
    assert_eq!(kinds.read(b, 7), (Some(3), vec![2, 3], vec![2, 3]));
    b.clock().processing_time = 15;
    assert_eq!(kinds.read(b, 7), (Some(3), vec![3], vec![3]));
    let mut scope = KeyScope::new(b, Keyed::new(&7));
    assert_eq!(scope.map(kinds.map).get(&2).unwrap(), None);
    assert!(!scope.map(kinds.map).contains(&1).unwrap());
    assert!(scope.map(kinds.map).contains(&3).unwrap());
    for (time, n, sum, average) in [(20, 4, 4, 4), (29, 6, 10, 5), (38, 8, 18, 6), (48, 1, 1, 1)] {
        let mut scope = KeyScope::new(b, Keyed::new(&7));
        scope.backend().clock().processing_time = time;
        scope.reducing(&sums).add(n).unwrap();
        scope.aggregating(&mean).add(n).unwrap();
        assert_eq!(scope.reducing(&sums).get().unwrap(), Some(&sum), "at {time}");
        assert_eq!(scope.aggregating(&mean).get().unwrap(), Some(average), "at {time}");
    }
    let mut scope = KeyScope::new(b, Keyed::new(&7));
    scope.backend().clock().processing_time = 58;
    assert_eq!(scope.reducing(&sums).get().unwrap(), None);
    assert_eq!(scope.aggregating(&mean).get().unwrap(), None);
    assert_eq!(
        scope
            .value(kinds.value)
            .modify(
                || 40,
                |v| {
                    *v += 2;
                    *v
                }
            )
            .unwrap(),
        42,
        "it had expired"
    );
    assert_eq!(scope.value(kinds.value).take().unwrap(), Some(42));
    assert_eq!(scope.value(kinds.value).take().unwrap(), None);
}

/// A read is a new lease of life where the state says so, and only there (Flink: TTL-02).
pub fn reading_refreshes_where_it_should<F: BackendFactory>(subject: &Subject<F>) {
    for (refresh, lives) in [(Refresh::OnWrite, false), (Refresh::OnReadAndWrite, true)] {
        let mut simple = Simple::<F, u64>::new(subject);
        let kinds = Kinds::register(&mut simple.backend, ttl(10).refresh(refresh)).unwrap();
        let b = &mut simple.backend;
        b.clock().processing_time = 0;
        kinds.write(b, 1, 5);
        kinds.write(b, 2, 5);
        b.clock().processing_time = 8;
        assert_eq!(kinds.read(b, 1), (Some(5), vec![5], vec![5]));
        b.clock().processing_time = 15;
        let wanted = if lives { (Some(5), vec![5], vec![5]) } else { (None, vec![], vec![]) };
        assert_eq!(kinds.read(b, 1), wanted, "{refresh:?}");
        assert_eq!(kinds.read(b, 2), (None, vec![], vec![]), "{refresh:?}: nobody read it");
        b.clock().processing_time = 25;
        assert_eq!(kinds.read(b, 1), (None, vec![], vec![]), "{refresh:?}");
    }
}

/// Where a state says so, what has expired is seen until something removes it.
pub fn what_is_shown_until_it_is_cleaned_up<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let cleanup = Cleanup { per_record: 1, in_compactions: false, ..Cleanup::default() };
    let shown = ttl(10).visibility(Visibility::UntilCleaned).cleanup(cleanup);
    let kinds = Kinds::register(&mut simple.backend, shown).unwrap();
    simple.backend.clock().processing_time = 0;
    kinds.write(&mut simple.backend, 1, 5);
    simple.backend.clock().processing_time = 1_000;
    for _ in 0..2 {
        assert_eq!(kinds.read(&mut simple.backend, 1), (Some(5), vec![5], vec![5]));
    }
    if subject.capabilities().cleans_up {
        simple.snapshot(SnapshotKind::Incremental).unwrap();
        simple.backend.clean_up(1_000_000).unwrap();
        assert_eq!(kinds.read(&mut simple.backend, 1), (None, vec![], vec![]));
    }
}

/// Stamps are those of the records, and expiry is that of the watermark: the clock of the machine plays no part.
pub fn event_time_goes_by_the_watermark<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let event = Ttl::event_time(Duration::from_millis(10));
    let kinds = Kinds::register(&mut simple.backend, event).unwrap();
    let b = &mut simple.backend;
    (b.clock().watermark, b.clock().timestamp, b.clock().processing_time) = (100, 120, 1_000_000);
    kinds.write(b, 1, 5);
    (b.clock().timestamp, b.clock().processing_time) = (500, 9_000_000);
    b.clock().watermark = 129;
    assert_eq!(kinds.read(b, 1), (Some(5), vec![5], vec![5]), "a record far ahead makes nothing expire");
    b.clock().watermark = 130;
    assert_eq!(kinds.read(b, 1), (None, vec![], vec![]));
    // A late record does not shorten a life.
    b.clock().timestamp = 140;
    KeyScope::new(b, Keyed::new(&2)).value(kinds.value).put(1).unwrap();
    b.clock().timestamp = 125;
    KeyScope::new(b, Keyed::new(&2)).value(kinds.value).modify(|| 0, |value| *value += 1).unwrap();
    b.clock().watermark = 149;
    assert_eq!(KeyScope::new(b, Keyed::new(&2)).value(kinds.value).get().unwrap(), Some(&2));
}

/// Of namespaces that merge, those that have expired count as nothing (Flink: TTL-06).
pub fn merging_leaves_out_what_has_expired<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let sum = |sum: &mut u64, n: u64| *sum += n;
    let sums = ReducingDescriptor::new("sums", sum).time_to_live(ttl(10)).namespaced::<u8>();
    let mean = AggregatingDescriptor::new("mean", Mean).time_to_live(ttl(10)).namespaced::<u8>();
    let list = ListDescriptor::<u64>::new("list").time_to_live(ttl(10)).namespaced::<u8>();
    let (sums, mean) = (simple.backend.register(&sums).unwrap(), simple.backend.register(&mean).unwrap());
    let list = simple.backend.register(&list).unwrap();
    let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&1));
    for (time, namespace) in [(0, 1u8), (5, 2), (8, 3), (0, 9)] {
        scope.backend().clock().processing_time = time;
        scope.reducing_in(&sums, &namespace).add(u64::from(namespace)).unwrap();
        scope.aggregating_in(&mean, &namespace).add(u64::from(namespace)).unwrap();
        scope.list_in(list, &namespace).push(u64::from(namespace)).unwrap();
    }
    scope.backend().clock().processing_time = 12;
    scope.reducing_in(&sums, &9).merge(&[1, 2, 3]).unwrap();
    scope.aggregating_in(&mean, &9).merge(&[1, 2, 3]).unwrap();
    scope.list_in(list, &9).merge(&[1, 2, 3]).unwrap();
    assert_eq!(scope.reducing_in(&sums, &9).get().unwrap(), Some(&5));
    assert_eq!(scope.aggregating_in(&mean, &9).get().unwrap(), Some(2));
    assert_eq!(scope.list_in(list, &9).get().unwrap().copied().collect::<Vec<_>>(), [2, 3]);
    // The result is fresh.
    scope.backend().clock().processing_time = 21;
    assert_eq!(scope.reducing_in(&sums, &9).get().unwrap(), Some(&5));
}

/// What nobody accesses leaves too, in bounded steps, and is gone from later snapshots.
pub fn clean_up_by_records<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().cleans_up {
        return;
    }
    let mut simple = Simple::<F, u64>::new(subject);
    let cleanup = Cleanup { per_record: 4, in_compactions: false, ..Cleanup::default() };
    let kinds = Kinds::register(&mut simple.backend, ttl(10).cleanup(cleanup)).unwrap();
    for key in 0..2_000 {
        simple.backend.clock().processing_time = (key % 2) as i64 * 8;
        kinds.write(&mut simple.backend, key, key);
    }
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clock().processing_time = 12;
    let (mut removed, mut steps) = (0, 0);
    while removed < 3_000 {
        let step = simple.backend.clean_up(100).unwrap();
        assert!(step <= 3 * 4 * 100 * 3, "a step of 100 records removes {step}");
        removed += step;
        steps += 1;
        assert!(steps < 1_000, "{removed} entries are removed after {steps} steps");
    }
    assert!(steps > 3, "all in {steps} steps");
    let left: usize = (0..2_000).map(|key| kinds.left(&mut simple.backend, key)).sum();
    assert_eq!(left, 3_000, "the others live");
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| Kinds::register(b, ttl(10));
    let (mut restored, kinds) = simple.restore(&[snapshot], register).unwrap();
    restored.backend.clock().processing_time = 12;
    for key in 0..2_000 {
        assert_eq!(kinds.left(&mut restored.backend, key), if key % 2 == 0 { 0 } else { 3 });
    }
}

/// A full snapshot does not carry what had expired at its barrier; the state itself is not touched (Flink: TTL-08).
pub fn full_snapshots_leave_out_what_has_expired<F: BackendFactory>(subject: &Subject<F>) {
    if !subject.capabilities().filters_full_snapshots {
        return;
    }
    for in_full_snapshots in [true, false] {
        let mut simple = Simple::<F, u64>::new(subject);
        let cleanup = Cleanup { per_record: 0, in_full_snapshots, in_compactions: false };
        let ttl = ttl(10).cleanup(cleanup);
        let kinds = Kinds::register(&mut simple.backend, ttl).unwrap();
        for key in 0..100 {
            simple.backend.clock().processing_time = (key % 2) as i64 * 8;
            kinds.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().processing_time = 12;
        // The first snapshot of everything; for a backend that folds deltas there may be no other.
        let snapshot = simple.snapshot(SnapshotKind::Full).unwrap();
        assert_eq!(kinds.left(&mut simple.backend, 2), 3, "only the snapshot is without it");
        let register = |b: &mut F::Backend<u64>| Kinds::register(b, ttl);
        let (mut restored, kinds) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().processing_time = 12;
        for key in 0..100 {
            let gone = in_full_snapshots && key % 2 == 0;
            assert_eq!(kinds.left(&mut restored.backend, key), if gone { 0 } else { 3 }, "key {key}");
        }
    }
}

/// What lived at the barrier lives after a restore to it, even if the watermark has passed meanwhile.
pub fn a_snapshot_has_what_lived_at_its_barrier<F: BackendFactory>(subject: &Subject<F>) {
    for kind in [SnapshotKind::Full, SnapshotKind::Incremental] {
        let mut simple = Simple::<F, u64>::new(subject);
        let event = Ttl::event_time(Duration::from_millis(10));
        let kinds = Kinds::register(&mut simple.backend, event).unwrap();
        (simple.backend.clock().watermark, simple.backend.clock().timestamp) = (0, 5);
        for key in 0..500 {
            kinds.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().watermark = 14;
        simple.prepare(kind).unwrap();
        simple.backend.clock().watermark = 1_000;
        simple.backend.clean_up(10_000).unwrap();
        for key in 0..250 {
            assert_eq!(kinds.read(&mut simple.backend, key), (None, vec![], vec![]));
        }
        let snapshot = simple.finish().unwrap();
        let register = |b: &mut F::Backend<u64>| Kinds::register(b, event);
        let (mut restored, kinds) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().watermark = 14;
        for key in 0..500 {
            assert_eq!(kinds.read(&mut restored.backend, key), (Some(key), vec![key], vec![key]), "{kind:?}");
        }
    }
}

/// A time-to-live of less than a millisecond is a mistake, and told with the name of the state (Flink: TTL-01).
pub fn a_duration_of_nothing_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let descriptor = ValueDescriptor::<u64>::new("brief").time_to_live(ttl(0));
    let error = backend.register(&descriptor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("brief"), "{error}");
}
