//! Timers: ordered, each once (Flink: TM-01 to TM-05).

use std::collections::BTreeSet;

use strandline_state_api::{
    BackendFactory, Error, ErrorKind, FiredTimer, KeyScope, Keyed, KeyedBackend, StateKey, TimeWindow,
    TimerDescriptor,
};

use crate::Subject;
use crate::world::World;

/// A timer is its (key, namespace, time), and there is one of each.
pub fn equal_timers_collapse<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register_timers(&TimerDescriptor::<()>::event_time("t")).unwrap();
    assert_eq!(backend.timer_next(service).unwrap(), None);
    assert_eq!(backend.timer_pop(service, i64::MAX).unwrap(), None);
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&1));
    assert!(scope.timers(service).register(5).unwrap());
    assert!(!scope.timers(service).register(5).unwrap());
    assert!(scope.timers(service).register(6).unwrap());
    assert!(scope.timers(service).delete(6).unwrap());
    assert!(!scope.timers(service).delete(6).unwrap());
    assert!(KeyScope::new(&mut backend, Keyed::new(&2)).timers(service).register(5).unwrap());
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 2);
    }
    let mut fired = Vec::new();
    while let Some(timer) = backend.timer_pop(service, i64::MAX).unwrap() {
        fired.push((timer.time, timer.key));
    }
    fired.sort_unstable();
    assert_eq!(fired, [(5, 1), (5, 2)]);
    assert_eq!(backend.timer_next(service).unwrap(), None);
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 0);
    }
}

/// A pop takes the earliest timer that stands at its bound or before, with key, hash and namespace.
pub fn pop_takes_what_is_due_in_order<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let service = backend.register_timers(&TimerDescriptor::<TimeWindow>::event_time("t")).unwrap();
    let mut rng = fastrand::Rng::with_seed(42);
    let mut model = BTreeSet::new();
    for _ in 0..2_000 {
        let (key, time) = (format!("k{}", rng.u8(..)), rng.i64(-10_000..10_000));
        let window = TimeWindow::tumbling(time, 1_000);
        let new = model.insert((time, key.clone(), window));
        let mut scope = KeyScope::new(&mut backend, Keyed::new(&key));
        assert_eq!(scope.timers_in(service, &window).register(time).unwrap(), new);
    }
    for bound in (-11_000..=10_000).step_by(500) {
        loop {
            let next = model.first().map(|timer| timer.0);
            assert_eq!(backend.timer_next(service).unwrap(), next);
            let Some(timer) = backend.timer_pop(service, bound).unwrap() else {
                assert!(next.is_none_or(|time| time > bound), "{next:?} is due at {bound}");
                break;
            };
            assert_eq!(Some(timer.time), next, "timers fire in order");
            assert!(timer.time <= bound, "{} is not due at {bound}", timer.time);
            assert_eq!(timer.hash, timer.key.key_hash());
            let set = model.remove(&(timer.time, timer.key.clone(), timer.namespace));
            assert!(set, "fired twice or never set: {timer:?}");
        }
    }
    assert!(model.is_empty());
}

/// The first and the last millisecond are times like others; a bound includes itself.
pub fn times_at_both_ends<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register_timers(&TimerDescriptor::<()>::event_time("t")).unwrap();
    let times = [i64::MAX, 0, -1, i64::MIN, 1, i64::MAX - 1, i64::MIN + 1];
    for time in times {
        KeyScope::new(&mut backend, Keyed::new(&7)).timers(service).register(time).unwrap();
    }
    let mut sorted = times;
    sorted.sort_unstable();
    for time in sorted {
        if let Some(before) = time.checked_sub(1) {
            assert_eq!(backend.timer_pop(service, before).unwrap(), None, "{time} is not due at {before}");
        }
        let hash = 7u64.key_hash();
        let fired = FiredTimer { time, key: 7, hash, namespace: () };
        assert_eq!(backend.timer_pop(service, time).unwrap(), Some(fired));
    }
}

/// 5,000 timers of one time, of which half are deleted.
pub fn many_timers_of_one_time<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register_timers(&TimerDescriptor::<()>::processing_time("t")).unwrap();
    for key in 0..5_000 {
        assert!(KeyScope::new(&mut backend, Keyed::new(&key)).timers(service).register(100).unwrap());
    }
    for key in (0..5_000).step_by(2) {
        assert!(KeyScope::new(&mut backend, Keyed::new(&key)).timers(service).delete(100).unwrap());
    }
    assert_eq!(backend.timer_pop(service, 99).unwrap(), None);
    let mut keys = Vec::new();
    while let Some(timer) = backend.timer_pop(service, 100).unwrap() {
        assert_eq!(timer.time, 100);
        keys.push(timer.key);
    }
    keys.sort_unstable();
    assert!(keys.into_iter().eq((1..5_000).step_by(2)));
}

/// What fired or was deleted is forgotten: the same timer set again is new.
pub fn a_timer_that_fired_can_be_set_again<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register_timers(&TimerDescriptor::<()>::event_time("t")).unwrap();
    for _ in 0..3 {
        assert!(KeyScope::new(&mut backend, Keyed::new(&1)).timers(service).register(5).unwrap());
        assert_eq!(backend.timer_pop(service, 5).unwrap().map(|timer| timer.time), Some(5));
        assert!(!KeyScope::new(&mut backend, Keyed::new(&1)).timers(service).delete(5).unwrap());
        assert!(KeyScope::new(&mut backend, Keyed::new(&1)).timers(service).register(5).unwrap());
        assert!(KeyScope::new(&mut backend, Keyed::new(&1)).timers(service).delete(5).unwrap());
        assert_eq!(backend.timer_pop(service, i64::MAX).unwrap(), None);
    }
}

/// A timer that is set in a callback for a time that is due fires in the same pass, in its place (TM-03).
pub fn timers_set_while_others_fire<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let service = backend.register_timers(&TimerDescriptor::<()>::event_time("t")).unwrap();
    for time in [10, 20, 30] {
        KeyScope::new(&mut backend, Keyed::new(&1)).timers(service).register(time).unwrap();
    }
    let mut fired = Vec::new();
    while let Some(timer) = backend.timer_pop(service, 25).unwrap() {
        fired.push(timer.time);
        let mut scope = KeyScope::new(&mut backend, Keyed::with_hash(&timer.key, timer.hash));
        if timer.time == 10 {
            scope.timers(service).register(15).unwrap();
            scope.timers(service).register(5).unwrap();
            scope.timers(service).register(26).unwrap();
            scope.timers(service).delete(20).unwrap();
        }
    }
    assert_eq!(fired, [10, 5, 15], "a timer set in the past fires next");
    assert_eq!(backend.timer_next(service).unwrap(), Some(26));
}

/// Services have their own queues, and one key its own timer in each namespace.
pub fn services_and_namespaces_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let first = backend.register_timers(&TimerDescriptor::<String>::event_time("first")).unwrap();
    let second = backend.register_timers(&TimerDescriptor::<String>::processing_time("second")).unwrap();
    let texts = ["", "\0", "a", "a\0", "\0a"].map(String::from);
    for key in &texts {
        for namespace in &texts {
            let mut scope = KeyScope::new(&mut backend, Keyed::new(key));
            assert!(scope.timers_in(first, namespace).register(1).unwrap());
            assert!(scope.timers_in(second, namespace).register(1).unwrap());
            assert!(!scope.timers_in(first, namespace).delete(2).unwrap());
        }
    }
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&texts[3]));
    assert!(scope.timers_in(second, &texts[1]).delete(1).unwrap());
    let mut taken = BTreeSet::new();
    while let Some(timer) = backend.timer_pop(first, 1).unwrap() {
        assert!(taken.insert((timer.key, timer.namespace)));
    }
    assert_eq!(taken.len(), 25);
    let mut left = 0;
    while let Some(timer) = backend.timer_pop(second, 1).unwrap() {
        assert_ne!((&timer.key, &timer.namespace), (&texts[3], &texts[1]));
        left += 1;
    }
    assert_eq!(left, 24);
}

/// Every timer is visited once, with its key, its namespace and its time; a visit takes none away (Flink: TM-07).
pub fn for_each_visits_every_timer<F: BackendFactory>(subject: &Subject<F>) {
    let mut world = World::new(subject);
    world.shake(71, 400);
    let mut alarms = BTreeSet::new();
    let visit = |timer: &FiredTimer<String, ()>| {
        assert_eq!(timer.hash, timer.key.key_hash());
        assert!(alarms.insert((timer.time, timer.key.clone(), String::new())), "{timer:?} is visited twice");
        Ok(())
    };
    world.backend.timer_for_each(world.states.alarms, visit).unwrap();
    assert_eq!(alarms, world.contents.alarms);
    let mut windows = BTreeSet::new();
    let visit = |timer: &FiredTimer<String, String>| {
        windows.insert((timer.time, timer.key.clone(), timer.namespace.clone()));
        Ok(())
    };
    world.backend.timer_for_each(world.states.windows, visit).unwrap();
    assert_eq!(windows, world.contents.windows);
    world.check().unwrap();
    let stop = |_: &FiredTimer<String, String>| Err(Error::new(ErrorKind::User, "enough"));
    let stopped = world.backend.timer_for_each(world.states.windows, stop);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::User);
}
