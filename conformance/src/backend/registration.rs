//! States are known by their names (Flink: KS-05).

use strandline_state_api::{
    BackendFactory, ErrorKind, KeyScope, Keyed, KeyedBackend, ListDescriptor, ListState, MapDescriptor,
    MapState, Result, TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

use crate::Subject;

fn refused<T>(what: &str, kind: ErrorKind, names: &str, result: Result<T>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is accepted"));
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert!(error.to_string().contains(names), "{what}: the error does not name {names:?}: {error}");
}

/// Registering twice gives handles of one state, of every kind.
pub fn the_same_name_gives_the_same_state<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let key = String::from("k");
    let values = [(); 2].map(|()| backend.register_value(&ValueDescriptor::<u64>::new("v")).unwrap());
    let lists = [(); 2].map(|()| backend.register_list(&ListDescriptor::<u64>::new("l")).unwrap());
    let maps = [(); 2].map(|()| backend.register_map(&MapDescriptor::<u8, u64>::new("m")).unwrap());
    let timers = [(); 2].map(|()| backend.register_timers(&TimerDescriptor::<()>::event_time("t")).unwrap());
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&key));
    scope.value(values[0]).put(7).unwrap();
    scope.list(lists[0]).push(8).unwrap();
    scope.map(maps[0]).put(1, 9).unwrap();
    assert!(scope.timers(timers[0]).register(5).unwrap());
    assert_eq!(scope.value(values[1]).get().unwrap(), Some(&7));
    assert_eq!(scope.list(lists[1]).get().unwrap(), [8]);
    assert_eq!(scope.map(maps[1]).get(&1).unwrap(), Some(&9));
    assert!(!scope.timers(timers[1]).register(5).unwrap(), "the timer is there already");
}

/// One name, one kind: values, lists, maps and timers share a space of names.
pub fn another_kind_under_a_known_name_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    for first in 0..4 {
        let mut backend = subject.backend::<u64>();
        let mut register = |kind| match kind {
            0 => backend.register_value(&ValueDescriptor::<u64>::new("clicks")).map(drop),
            1 => backend.register_list(&ListDescriptor::<u64>::new("clicks")).map(drop),
            2 => backend.register_map(&MapDescriptor::<u64, u64>::new("clicks")).map(drop),
            _ => backend.register_timers(&TimerDescriptor::<()>::event_time("clicks")).map(drop),
        };
        register(first).unwrap();
        for other in (0..4).filter(|other| *other != first) {
            refused(&format!("kind {other} for {first}"), ErrorKind::Invalid, "clicks", register(other));
        }
        register(first).unwrap();
    }
}

/// One name, one type of value, of namespace and of map key, and one time domain.
pub fn another_type_under_a_known_name_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let invalid = ErrorKind::Invalid;
    backend.register_value(&ValueDescriptor::<u64>::new("v")).unwrap();
    let other = backend.register_value(&ValueDescriptor::<i64>::new("v"));
    refused("another type of value", invalid, "v", other);
    let other = backend.register_value(&ValueDescriptor::<u64>::new("v").namespaced::<u8>());
    refused("another namespace of a value", invalid, "v", other);
    backend.register_list(&ListDescriptor::<String>::new("l")).unwrap();
    let other = backend.register_list(&ListDescriptor::<Vec<u8>>::new("l"));
    refused("another type of element", invalid, "l", other);
    let other = backend.register_list(&ListDescriptor::<String>::new("l").namespaced::<String>());
    refused("another namespace of a list", invalid, "l", other);
    backend.register_map(&MapDescriptor::<u64, u64>::new("m")).unwrap();
    let other = backend.register_map(&MapDescriptor::<String, u64>::new("m"));
    refused("another type of map key", invalid, "m", other);
    let other = backend.register_map(&MapDescriptor::<u64, String>::new("m"));
    refused("another type of map value", invalid, "m", other);
    backend.register_timers(&TimerDescriptor::<u64>::event_time("t")).unwrap();
    let other = backend.register_timers(&TimerDescriptor::<i64>::event_time("t"));
    refused("another namespace of timers", invalid, "t", other);
}

/// A handle that the backend never gave is refused, without a panic, by every operation.
pub fn a_foreign_handle_is_an_error<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    backend.register_value(&ValueDescriptor::<u64>::new("v")).unwrap();
    backend.register_list(&ListDescriptor::<u64>::new("l")).unwrap();
    // Numbers that do not exist here, and numbers that exist with other types: in both cases nothing may be touched.
    for index in [0, 1, 2, 1_000, u32::MAX] {
        every_operation_is_refused(&mut backend, index);
    }
}

fn every_operation_is_refused<B: KeyedBackend<Key = u64>>(backend: &mut B, index: u32) {
    fn check<T>(what: &str, index: u32, result: Result<T>) {
        refused(&format!("{what} with foreign handle #{index}"), ErrorKind::Invalid, "", result);
    }
    let value = ValueState::<String>::from_index(index);
    check("value_for_each", index, backend.value_for_each(value, |_, (), _| Ok(())));
    let timers = TimerService::<()>::from_index(index);
    check("timer_pop", index, backend.timer_pop(timers, 9));
    check("timer_next", index, backend.timer_next(timers));
    let mut scope = KeyScope::new(backend, Keyed::new(&1));
    check("value_get", index, scope.value(value).get().map(drop));
    check("value_put", index, scope.value(value).put(String::new()));
    check("value_modify", index, scope.value(value).modify(String::new, |_| ()));
    check("value_clear", index, scope.value(value).clear());
    let list = ListState::<String>::from_index(index);
    check("list_get", index, scope.list(list).get().map(drop));
    check("list_append", index, scope.list(list).push(String::new()));
    check("list_put", index, scope.list(list).put(vec![String::new()]));
    check("list_clear", index, scope.list(list).clear());
    let map = MapState::<String, String>::from_index(index);
    let map_key = String::new();
    check("map_get", index, scope.map(map).get(&map_key).map(drop));
    check("map_put", index, scope.map(map).put(String::new(), String::new()));
    check("map_remove", index, scope.map(map).remove(&map_key));
    check("map_contains", index, scope.map(map).contains(&map_key));
    check("map_for_each", index, scope.map(map).for_each(|_, _| Ok(())));
    check("map_is_empty", index, scope.map(map).is_empty());
    check("map_clear", index, scope.map(map).clear());
    check("timer_register", index, scope.timers(timers).register(1));
    check("timer_delete", index, scope.timers(timers).delete(1));
}

/// 200 states of one backend do not see each other.
pub fn many_states_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let mut states = Vec::new();
    for i in 0..100 {
        let value = backend.register_value(&ValueDescriptor::<u64>::new(format!("value-{i}"))).unwrap();
        let list = backend.register_list(&ListDescriptor::<u64>::new(format!("list-{i}"))).unwrap();
        states.push((value, list));
    }
    for key in 0..5 {
        for (i, (value, list)) in (0..).zip(&states) {
            let mut scope = KeyScope::new(&mut backend, Keyed::new(&key));
            scope.value(*value).put(key * 1_000 + i).unwrap();
            scope.list(*list).extend([key, i]).unwrap();
        }
    }
    for key in 0..5 {
        for (i, (value, list)) in (0..).zip(&states) {
            let mut scope = KeyScope::new(&mut backend, Keyed::new(&key));
            assert_eq!(scope.value(*value).get().unwrap(), Some(&(key * 1_000 + i)));
            assert_eq!(scope.list(*list).get().unwrap(), [key, i]);
        }
    }
}

/// A state that nothing was restored for may be registered while others are in use.
pub fn a_state_may_be_registered_late<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let early = backend.register_value(&ValueDescriptor::<u64>::new("early")).unwrap();
    KeyScope::new(&mut backend, Keyed::new(&1)).value(early).put(10).unwrap();
    let late = backend.register_map(&MapDescriptor::<u64, u64>::new("late")).unwrap();
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&1));
    assert!(scope.map(late).is_empty().unwrap());
    scope.map(late).put(2, 20).unwrap();
    assert_eq!(scope.value(early).get().unwrap(), Some(&10));
    assert_eq!(scope.map(late).get(&2).unwrap(), Some(&20));
}
