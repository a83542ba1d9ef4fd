//! Time-to-live: when values expire, and what accesses return then. Each case sets the clock itself.

use std::time::Duration;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    AggregatingDescriptor, AggregatingState, ErrorKind, KeyedBackend, Lifespan, ListDescriptor, ListState,
    MapDescriptor, MapState, ReducingDescriptor, ReducingState, Refresh, Result, Ttl, ValueDescriptor,
    ValueState,
};

use super::expiring_states::{ExpiringStates, ttl};
use super::simple::rig;
use crate::Subject;
use crate::access::ms;
use crate::world::Mean;

/// A value expires at `stamp + duration`, that instant included; a write resets its time-to-live (Flink:
/// TTL-03).
pub fn the_instant_of_expiry<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), ttl(10)).unwrap();
    let b = &mut simple.backend;
    b.clock().processing_time = ms(100);
    timed.write(b, 1, 5);
    b.clock().processing_time = ms(109);
    timed.shows(b, 1, 5, "before the instant");
    b.clock().processing_time = ms(110);
    timed.hides(b, 1, "at the instant");
    assert_eq!(timed.left(b, 1), 0, "an access removes an expired value");
    timed.write(b, 1, 6);
    b.clock().processing_time = ms(119);
    timed.write(b, 1, 6);
    b.clock().processing_time = ms(125);
    timed.check(b, 1, Some(6), &[6], "the older element of the list has expired");
}

/// Elements and map entries expire one by one, folded values as a whole; a fold begins anew after that
/// (Flink: TTL-05).
pub fn every_kind_expires<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), ttl(10)).unwrap();
    let sums = ReducingDescriptor::new("sums", |sum: &mut u64, n: u64| *sum += n).time_to_live(ttl(10));
    let sums = simple.backend.register(&sums).unwrap();
    let mean = AggregatingDescriptor::new("mean", Mean).time_to_live(ttl(10));
    let mean = simple.backend.register(&mean).unwrap();
    let b = &mut simple.backend;
    for (time, value) in [(0, 1), (4, 2), (8, 3)] {
        b.clock().processing_time = ms(time);
        timed.write(b, 7, value);
    }
    b.clock().processing_time = ms(12);
    timed.check(b, 7, Some(3), &[2, 3], "one element has expired");
    b.clock().processing_time = ms(15);
    timed.shows(b, 7, 3, "two elements have expired");
    let mut scope = b.at(&7);
    if let Some(map) = timed.map {
        assert_eq!(scope.state(map).get(&2).unwrap(), None);
        assert!(!scope.state(map).contains(&1).unwrap());
        assert!(scope.state(map).contains(&3).unwrap());
    }
    for (time, n, sum, average) in [(20, 4, 4, 4), (29, 6, 10, 5), (38, 8, 18, 6), (48, 1, 1, 1)] {
        scope.backend().clock().processing_time = ms(time);
        scope.state(sums).add(n).unwrap();
        scope.state(mean).add(n).unwrap();
        assert_eq!(scope.state(sums).get().unwrap(), Some(&sum), "at {time}");
        assert_eq!(scope.state(mean).get().unwrap(), Some(average), "at {time}");
    }
    scope.backend().clock().processing_time = ms(58);
    assert_eq!(scope.state(sums).get().unwrap(), None);
    assert_eq!(scope.state(mean).get().unwrap(), None);
    let add = |value: &mut u64| {
        *value += 2;
        *value
    };
    assert_eq!(scope.state(timed.value).modify(|| 40, add).unwrap(), 42, "the value had expired");
    assert_eq!(scope.state(timed.value).take().unwrap(), Some(42));
    assert_eq!(scope.state(timed.value).take().unwrap(), None);
}

/// Every changing access treats an expired value or map entry as absent.
pub fn a_change_begins_anew_after_expiry<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), ttl(10)).unwrap();
    let b = &mut simple.backend;
    for (round, time) in (0..5).zip((0i64..).step_by(100)) {
        b.clock().processing_time = ms(time);
        timed.write(b, 1, 5);
        b.clock().processing_time = ms(time + 10);
        let mut key = b.at(&1);
        let add = |value: &mut u64| {
            *value += 1;
            *value
        };
        match round {
            0 => assert_eq!(key.state(timed.value).update_or_default(add).unwrap(), 1),
            1 => assert_eq!(key.state(timed.value).modify(|| 40, add).unwrap(), 41),
            2 => assert!(!key.state(timed.value).update(|value| *value = 9).unwrap()),
            3 => assert_eq!(key.state(timed.value).take().unwrap(), None),
            _ => assert_eq!(key.state(timed.value).get().unwrap(), None),
        }
        let Some(map) = timed.map else { continue };
        match round {
            0 => assert_eq!(key.state(map).update_or_default(5, add).unwrap(), 1),
            1 => assert_eq!(key.state(map).modify(5, || 40, add).unwrap(), 41),
            2 => assert_eq!(key.state(map).take(&5).unwrap(), None),
            3 => assert_eq!(key.state(map).len().unwrap(), 0),
            _ => assert!(!key.state(map).contains(&5).unwrap()),
        }
    }
}

/// A read resets the time-to-live where the state asks for it, and only there (Flink: TTL-02).
pub fn reading_refreshes_where_it_should<F: BackendFactory>(subject: &Subject<F>) {
    for (refresh, lives) in [(Refresh::OnWrite, false), (Refresh::OnReadAndWrite, true)] {
        let mut simple = rig::<F, u64>(subject);
        let ttl = ttl(10).refresh(refresh);
        let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), ttl).unwrap();
        let b = &mut simple.backend;
        b.clock().processing_time = ms(0);
        timed.write(b, 1, 5);
        timed.write(b, 2, 5);
        b.clock().processing_time = ms(8);
        timed.shows(b, 1, 5, &format!("{refresh:?}"));
        b.clock().processing_time = ms(15);
        match lives {
            true => timed.shows(b, 1, 5, &format!("{refresh:?}: the read at 8 counts")),
            false => timed.hides(b, 1, &format!("{refresh:?}: the read at 8 does not count")),
        }
        timed.hides(b, 2, &format!("{refresh:?}: no access has read it"));
        b.clock().processing_time = ms(25);
        timed.hides(b, 1, &format!("{refresh:?}, in the end"));
    }
}

/// The records' timestamps stamp values, and the watermark expires them: processing time does not matter.
pub fn event_time_goes_by_the_watermark<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let event = Ttl::event_time(Duration::from_millis(10));
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), event).unwrap();
    let b = &mut simple.backend;
    (b.clock().watermark, b.clock().timestamp, b.clock().processing_time) = (ms(100), ms(120), ms(1_000_000));
    timed.write(b, 1, 5);
    (b.clock().timestamp, b.clock().processing_time) = (ms(500), ms(9_000_000));
    b.clock().watermark = ms(129);
    timed.shows(b, 1, 5, "a record far ahead expires nothing");
    b.clock().watermark = ms(130);
    timed.hides(b, 1, "the watermark has passed");
    // A late record does not bring the expiry forward.
    b.clock().timestamp = ms(140);
    b.at(&2).state(timed.value).put(1).unwrap();
    b.clock().timestamp = ms(125);
    b.at(&2).state(timed.value).modify(|| 0, |value| *value += 1).unwrap();
    b.clock().watermark = ms(149);
    assert_eq!(b.at(&2).state(timed.value).get().unwrap(), Some(&2));
}

/// A merge of namespaces treats expired values as absent (Flink: TTL-06).
pub fn merging_leaves_out_what_has_expired<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let sum = |sum: &mut u64, n: u64| *sum += n;
    let sums = ReducingDescriptor::new("sums", sum).time_to_live(ttl(10)).namespaced::<u8>();
    let mean = AggregatingDescriptor::new("mean", Mean).time_to_live(ttl(10)).namespaced::<u8>();
    let list = ListDescriptor::<u64>::new("list").time_to_live(ttl(10)).namespaced::<u8>();
    let (sums, mean) = (simple.backend.register(&sums).unwrap(), simple.backend.register(&mean).unwrap());
    let list = subject.capabilities().lists.then(|| simple.backend.register(&list).unwrap());
    let mut scope = simple.backend.at(&1);
    for (time, namespace) in [(0, 1u8), (5, 2), (8, 3), (0, 9)] {
        scope.backend().clock().processing_time = ms(time);
        scope.state_in(sums, &namespace).add(u64::from(namespace)).unwrap();
        scope.state_in(mean, &namespace).add(u64::from(namespace)).unwrap();
        if let Some(list) = list {
            scope.state_in(list, &namespace).push(u64::from(namespace)).unwrap();
        }
    }
    scope.backend().clock().processing_time = ms(12);
    scope.state_in(sums, &9).merge(&[1, 2, 3]).unwrap();
    scope.state_in(mean, &9).merge(&[1, 2, 3]).unwrap();
    assert_eq!(scope.state_in(sums, &9).get().unwrap(), Some(&5));
    assert_eq!(scope.state_in(mean, &9).get().unwrap(), Some(2));
    if let Some(list) = list {
        scope.state_in(list, &9).merge(&[1, 2, 3]).unwrap();
        assert_eq!(scope.state_in(list, &9).get().unwrap(), [2, 3]);
    }
    // The merge has refreshed the result.
    scope.backend().clock().processing_time = ms(21);
    assert_eq!(scope.state_in(sums, &9).get().unwrap(), Some(&5));
}

/// A time-to-live changes no call site: one generic function calls all accesses, of states with and without
/// one.
pub fn a_time_to_live_changes_no_call_site<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let (value, list) = (ValueDescriptor::<u64>::new("value"), ListDescriptor::<u64>::new("list"));
    let map = MapDescriptor::<u64, u64>::new("map");
    let sums = ReducingDescriptor::new("sums", |sum: &mut u64, n: u64| *sum += n);
    let mean = AggregatingDescriptor::new("mean", Mean);
    let ttl = ttl(10);
    let mut lasting = subject.backend::<u64>();
    let states = Accessed {
        value: lasting.register(&value).unwrap(),
        list: has.lists.then(|| lasting.register(&list).unwrap()),
        map: has.maps.then(|| lasting.register(&map).unwrap()),
        sums: lasting.register(&sums).unwrap(),
        mean: lasting.register(&mean).unwrap(),
    };
    let without = states.access(&mut lasting).unwrap();
    let mut expiring = subject.backend::<u64>();
    expiring.clock().processing_time = ms(0);
    let states = Accessed {
        value: expiring.register(&value.time_to_live(ttl)).unwrap(),
        list: has.lists.then(|| expiring.register(&list.time_to_live(ttl)).unwrap()),
        map: has.maps.then(|| expiring.register(&map.time_to_live(ttl)).unwrap()),
        sums: expiring.register(&sums.time_to_live(ttl)).unwrap(),
        mean: expiring.register(&mean.time_to_live(ttl)).unwrap(),
    };
    let with = states.access(&mut expiring).unwrap();
    assert_eq!(with, without, "before anything expires");
}

/// States of any lifespan.
struct Accessed<L> {
    value: ValueState<u64, (), L>,
    list: Option<ListState<u64, (), L>>,
    map: Option<MapState<u64, u64, (), L>>,
    sums: ReducingState<u64, (), L>,
    mean: AggregatingState<Mean, (), L>,
}

impl<L: Lifespan> Accessed<L> {
    /// Calls every access; returns the results.
    fn access<B: KeyedBackend<Key = u64>>(self, backend: &mut B) -> Result<Vec<String>> {
        let mut results = Vec::new();
        let mut log = |result: &dyn std::fmt::Debug| results.push(format!("{result:?}"));
        let mut key = backend.at(&1);
        // `modify` takes closures that can be called once only.
        let (initial, changed) = (String::from("1"), String::from("2"));
        let modified = key.state(self.value).modify(
            || drop_len(initial),
            |value| {
                *value += drop_len(changed);
                *value
            },
        )?;
        log(&modified);
        log(&key.state(self.value).update_or_default(|value| *value * 2)?);
        log(&key.state(self.value).update(|value| *value += 1)?);
        log(&key.state(self.value).get()?);
        log(&key.state(self.value).take()?);
        log(&key.state(self.value).put(3));
        log(&key.state(self.value).clear()?);
        key.state(self.sums).add(2)?;
        log(&key.state(self.sums).get()?);
        log(&key.state(self.sums).clear()?);
        key.state(self.mean).add(2)?;
        log(&key.state(self.mean).get()?);
        log(&key.state(self.mean).clear()?);
        if let Some(list) = self.list {
            key.state(list).push(1)?;
            key.state(list).extend([2, 3])?;
            let elements = key.state(list).get()?;
            log(&(elements.len(), elements.first(), elements.last(), elements.get(1), elements.is_empty()));
            log(&(elements == [1, 2, 3], elements.iter().rev().collect::<Vec<_>>(), elements.to_vec()));
            log(&key.state(list).take()?);
            log(&key.state(list).put(vec![4]));
            log(&key.state(list).clear()?);
        }
        if let Some(map) = self.map {
            key.state(map).put_all([(1, 1), (2, 2)])?;
            log(&key.state(map).modify(3, || 5, |value| *value)?);
            log(&key.state(map).update_or_default(4, |value| *value)?);
            log(&key.state(map).get(&1)?);
            log(&(key.state(map).contains(&9)?, key.state(map).len()?));
            log(&(key.state(map).take(&1)?, key.state(map).remove(&2)?, key.state(map).is_empty()?));
            key.state(map).range(3.., |map_key, value| {
                log(&(map_key, value));
                Ok(())
            })?;
            log(&key.state(map).clear()?);
        }
        Ok(results)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the caller must give the text away")]
fn drop_len(text: String) -> u64 {
    text.len() as u64
}

/// The registration refuses a time-to-live below one millisecond and names the state (Flink: TTL-01).
pub fn a_duration_of_nothing_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let descriptor = ValueDescriptor::<u64>::new("brief").time_to_live(ttl(0));
    let error = backend.register(&descriptor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("brief"), "{error}");
}
