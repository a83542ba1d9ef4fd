//! Timers: ordered, each once (Flink: TM-01 to TM-05).

use std::collections::BTreeSet;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, TimerEntry};
use strandline_state_api::{
    Error, ErrorKind, KeyScope, Keyed, KeyedBackend, StateKey, TimeWindow, TimerDescriptor, Timestamp,
};

use crate::Subject;
use crate::access::{TableAccess, ms};
use crate::world::World;

/// Two timers of one key, namespace and time are one timer.
pub fn equal_timers_collapse<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register(&TimerDescriptor::<()>::event_time("t")).unwrap();
    assert_eq!(backend.next_timer(service).unwrap(), None);
    assert_eq!(backend.pop_timer(service, Timestamp::MAX).unwrap(), None);
    let mut scope = backend.at(&1);
    assert!(scope.state(service).register(5).unwrap());
    assert!(!scope.state(service).register(5).unwrap());
    assert!(scope.state(service).register(6).unwrap());
    assert!(scope.state(service).delete(6).unwrap());
    assert!(!scope.state(service).delete(6).unwrap());
    assert!(backend.at(&2).state(service).register(5).unwrap());
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 2);
    }
    let mut fired = Vec::new();
    while let Some(timer) = backend.pop_timer(service, Timestamp::MAX).unwrap() {
        fired.push((timer.time.as_millis(), timer.key));
    }
    fired.sort_unstable();
    assert_eq!(fired, [(5, 1), (5, 2)]);
    assert_eq!(backend.next_timer(service).unwrap(), None);
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 0);
    }
}

/// A pop removes the earliest timer that is due at or before its bound, and returns key, hash and namespace.
pub fn pop_takes_what_is_due_in_order<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let service = backend.register(&TimerDescriptor::<TimeWindow>::event_time("t")).unwrap();
    let mut rng = fastrand::Rng::with_seed(42);
    let mut model = BTreeSet::new();
    for _ in 0..2_000 {
        let (key, time) = (format!("k{}", rng.u8(..)), rng.i64(-10_000..10_000));
        let window = TimeWindow::tumbling(time, 1_000);
        let new = model.insert((Timestamp::from_millis(time), key.clone(), window));
        let mut scope = backend.at(&key);
        assert_eq!(scope.state_in(service, &window).register(time).unwrap(), new);
    }
    for bound in (-11_000..=10_000).step_by(500).map(Timestamp::from_millis) {
        loop {
            let next = model.first().map(|timer| timer.0);
            assert_eq!(backend.next_timer(service).unwrap(), next);
            let Some(timer) = backend.pop_timer(service, bound).unwrap() else {
                assert!(next.is_none_or(|time| time > bound), "{next:?} is due at {bound}");
                break;
            };
            assert_eq!(Some(timer.time), next, "timers fire in order");
            assert!(timer.time <= bound, "{} is not due at {bound}", timer.time);
            assert_eq!(timer.hash, timer.key.key_hash());
            let set = model.remove(&(timer.time, timer.key.clone(), timer.namespace));
            assert!(set, "fired twice or never registered: {timer:?}");
        }
    }
    assert!(model.is_empty());
}

/// Timers may be due at the first and at the last instant; a bound includes itself.
pub fn times_at_both_ends<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register(&TimerDescriptor::<()>::event_time("t")).unwrap();
    let inner = [0, -1, 1, i64::MAX - 1, i64::MIN + 2].map(Timestamp::from_millis);
    let times = [Timestamp::MAX, Timestamp::MIN].into_iter().chain(inner);
    let mut sorted: Vec<_> = times.collect();
    for time in &sorted {
        backend.at(&7).state(service).register(*time).unwrap();
    }
    sorted.sort_unstable();
    for time in sorted {
        if time > Timestamp::MIN {
            let before = time.plus_millis(-1);
            assert_eq!(backend.pop_timer(service, before).unwrap(), None, "{time} is not due at {before}");
        }
        let fired = TimerEntry { time, key: 7, hash: 7u64.key_hash(), namespace: () };
        assert_eq!(backend.pop_timer(service, time).unwrap(), Some(fired));
    }
}

/// 5,000 timers of one time, of which half are deleted.
pub fn many_timers_of_one_time<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register(&TimerDescriptor::<()>::processing_time("t")).unwrap();
    for key in 0..5_000 {
        assert!(backend.at(&key).state(service).register(100).unwrap());
    }
    for key in (0..5_000).step_by(2) {
        assert!(backend.at(&key).state(service).delete(100).unwrap());
    }
    assert_eq!(backend.pop_timer(service, 99).unwrap(), None);
    let mut keys = Vec::new();
    while let Some(timer) = backend.pop_timer(service, 100).unwrap() {
        assert_eq!(timer.time, 100.into());
        keys.push(timer.key);
    }
    keys.sort_unstable();
    assert!(keys.into_iter().eq((1..5_000).step_by(2)));
}

/// A timer that fired or was deleted is gone: an equal one that is registered again is new.
pub fn a_timer_that_fired_can_be_set_again<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register(&TimerDescriptor::<()>::event_time("t")).unwrap();
    for _ in 0..3 {
        assert!(backend.at(&1).state(service).register(5).unwrap());
        assert_eq!(backend.pop_timer(service, 5).unwrap().map(|timer| timer.time), ms(5));
        assert!(!backend.at(&1).state(service).delete(5).unwrap());
        assert!(backend.at(&1).state(service).register(5).unwrap());
        assert!(backend.at(&1).state(service).delete(5).unwrap());
        assert_eq!(backend.pop_timer(service, Timestamp::MAX).unwrap(), None);
    }
}

/// A timer that is registered while others fire, for a time that is due, fires in the same pass, in its place
/// (TM-03).
pub fn timers_set_while_others_fire<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register(&TimerDescriptor::<()>::event_time("t")).unwrap();
    for time in [10, 20, 30] {
        backend.at(&1).state(service).register(time).unwrap();
    }
    let mut fired = Vec::new();
    while let Some(timer) = backend.pop_timer(service, 25).unwrap() {
        fired.push(timer.time.as_millis());
        let mut scope = KeyScope::new(&mut backend, Keyed::with_hash(&timer.key, timer.hash));
        if timer.time == 10.into() {
            scope.state(service).register(15).unwrap();
            scope.state(service).register(5).unwrap();
            scope.state(service).register(26).unwrap();
            scope.state(service).delete(20).unwrap();
        }
    }
    assert_eq!(fired, [10, 5, 15], "a timer for the past fires next");
    assert_eq!(backend.next_timer(service).unwrap(), ms(26));
}

/// Each service has timers of its own, and each namespace of a key has timers of its own.
pub fn services_and_namespaces_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let first = backend.register(&TimerDescriptor::<String>::event_time("first")).unwrap();
    let second = backend.register(&TimerDescriptor::<String>::processing_time("second")).unwrap();
    let texts = ["", "\0", "a", "a\0", "\0a"].map(String::from);
    for key in &texts {
        for namespace in &texts {
            let mut scope = backend.at(key);
            assert!(scope.state_in(first, namespace).register(1).unwrap());
            assert!(scope.state_in(second, namespace).register(1).unwrap());
            assert!(!scope.state_in(first, namespace).delete(2).unwrap());
        }
    }
    let mut scope = backend.at(&texts[3]);
    assert!(scope.state_in(second, &texts[1]).delete(1).unwrap());
    let mut taken = BTreeSet::new();
    while let Some(timer) = backend.pop_timer(first, 1).unwrap() {
        assert!(taken.insert((timer.key, timer.namespace)));
    }
    assert_eq!(taken.len(), 25);
    let mut left = 0;
    while let Some(timer) = backend.pop_timer(second, 1).unwrap() {
        assert_ne!((&timer.key, &timer.namespace), (&texts[3], &texts[1]));
        left += 1;
    }
    assert_eq!(left, 24);
}

/// A walk visits every timer once, with its key, its namespace and its time, and removes none (Flink: TM-07).
pub fn for_each_visits_every_timer<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(71, 400);
    let services = world.states.timers.expect("the case needs timers");
    let mut alarms = BTreeSet::new();
    let visit = |timer: &TimerEntry<String, ()>| {
        assert_eq!(timer.hash, timer.key.key_hash());
        assert!(alarms.insert((timer.time, timer.key.clone(), String::new())), "{timer:?} is visited twice");
        Ok(())
    };
    world.backend.for_each_timer(services.alarms, visit).unwrap();
    assert_eq!(alarms, world.contents.alarms);
    let mut windows = BTreeSet::new();
    let visit = |timer: &TimerEntry<String, String>| {
        windows.insert((timer.time, timer.key.clone(), timer.namespace.clone()));
        Ok(())
    };
    world.backend.for_each_timer(services.windows, visit).unwrap();
    assert_eq!(windows, world.contents.windows);
    world.check().unwrap();
    let stop = |_: &TimerEntry<String, String>| Err(Error::new(ErrorKind::User, "enough"));
    let stopped = world.backend.for_each_timer(services.windows, stop);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::User);
}
