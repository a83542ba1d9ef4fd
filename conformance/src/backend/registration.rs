//! Names identify states (Flink: KS-05).

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    AggregatingDescriptor, AggregatingState, Error, ErrorKind, KeyedBackend, ListDescriptor, ListState,
    MapDescriptor, MapState, ReducingDescriptor, ReducingState, Result, TimerDescriptor, TimerService,
    ValueDescriptor, ValueState,
};

use crate::access::TableAccess;
use crate::world::Mean;
use crate::{Capabilities, OptionalKind, Subject};

fn refused<T>(what: &str, names: &str, result: Result<T>) -> Error {
    let error = result.err().unwrap_or_else(|| panic!("{what} is accepted"));
    assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
    assert!(error.to_string().contains(names), "{what}: the error does not name {names:?}: {error}");
    error
}

fn add(sum: &mut u64, n: u64) {
    *sum += n;
}

/// Two registrations of one name, kind and type return handles of one state, for every kind.
pub fn the_same_name_gives_the_same_state<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let key = String::from("k");
    let values = [(); 2].map(|()| backend.register(&ValueDescriptor::<u64>::new("v")).unwrap());
    backend.at(&key).state(values[0]).put(7).unwrap();
    assert_eq!(backend.at(&key).state(values[1]).get().unwrap(), Some(&7));
    let sums = [(); 2].map(|()| backend.register(&ReducingDescriptor::<u64>::new("s", add)).unwrap());
    backend.at(&key).state(sums[0]).add(7).unwrap();
    assert_eq!(backend.at(&key).state(sums[1]).get().unwrap(), Some(&7));
    let has = subject.capabilities();
    if has.lists {
        let lists = [(); 2].map(|()| backend.register(&ListDescriptor::<u64>::new("l")).unwrap());
        backend.at(&key).state(lists[0]).push(8).unwrap();
        assert_eq!(backend.at(&key).state(lists[1]).get().unwrap(), [8]);
    }
    if has.maps {
        let maps = [(); 2].map(|()| backend.register(&MapDescriptor::<u8, u64>::new("m")).unwrap());
        backend.at(&key).state(maps[0]).put(1, 9).unwrap();
        assert_eq!(backend.at(&key).state(maps[1]).get(&1).unwrap(), Some(&9));
    }
    if has.timers {
        let timers = [(); 2].map(|()| backend.register(&TimerDescriptor::<()>::event_time("t")).unwrap());
        assert!(backend.at(&key).state(timers[0]).register(5).unwrap());
        assert!(!backend.at(&key).state(timers[1]).register(5).unwrap(), "the timer exists already");
    }
}

/// One name, one kind: states of all kinds share one space of names.
pub fn another_kind_under_a_known_name_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let optional = [(3, OptionalKind::Lists), (4, OptionalKind::Maps), (5, OptionalKind::Timers)];
    let optional = optional.into_iter().filter(|(_, kind)| subject.capabilities().has(*kind));
    let kinds: Vec<_> = (0..3).chain(optional.map(|(number, _)| number)).collect();
    for first in &kinds {
        let mut backend = subject.backend::<u64>();
        let mut register = |kind| match kind {
            0 => backend.register(&ValueDescriptor::<u64>::new("clicks")).map(drop),
            1 => backend.register(&ReducingDescriptor::<u64>::new("clicks", add)).map(drop),
            2 => backend.register(&AggregatingDescriptor::new("clicks", Mean)).map(drop),
            3 => backend.register(&ListDescriptor::<u64>::new("clicks")).map(drop),
            4 => backend.register(&MapDescriptor::<u64, u64>::new("clicks")).map(drop),
            _ => backend.register(&TimerDescriptor::<()>::event_time("clicks")).map(drop),
        };
        register(*first).unwrap();
        for other in kinds.iter().filter(|other| *other != first) {
            refused(&format!("kind {other} for {first}"), "clicks", register(*other));
        }
        register(*first).unwrap();
    }
}

/// One name, one type of value, of namespace and of map key, and one time domain.
pub fn another_type_under_a_known_name_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let (mut backend, has) = (subject.backend::<u64>(), subject.capabilities());
    backend.register(&ValueDescriptor::<u64>::new("v")).unwrap();
    let other = backend.register(&ValueDescriptor::<i64>::new("v"));
    refused("another type of value", "v", other);
    let other = backend.register(&ValueDescriptor::<u64>::new("v").namespaced::<u8>());
    refused("another namespace of a value", "v", other);
    if has.lists {
        backend.register(&ListDescriptor::<String>::new("l")).unwrap();
        let other = backend.register(&ListDescriptor::<Vec<u8>>::new("l"));
        refused("another type of element", "l", other);
        let other = backend.register(&ListDescriptor::<String>::new("l").namespaced::<String>());
        refused("another namespace of a list", "l", other);
    }
    if has.maps {
        backend.register(&MapDescriptor::<u64, u64>::new("m")).unwrap();
        let other = backend.register(&MapDescriptor::<String, u64>::new("m"));
        refused("another type of map key", "m", other);
        let other = backend.register(&MapDescriptor::<u64, String>::new("m"));
        refused("another type of map value", "m", other);
    }
    if has.timers {
        backend.register(&TimerDescriptor::<u64>::event_time("t")).unwrap();
        let other = backend.register(&TimerDescriptor::<i64>::event_time("t"));
        refused("another namespace of timers", "t", other);
        let other = backend.register(&TimerDescriptor::<u64>::processing_time("t"));
        refused("another time domain", "t", other);
    }
}

/// The error about conflicting types names both of them, the registered and the wanted one.
pub fn a_conflict_names_both_types<F: BackendFactory>(subject: &Subject<F>) {
    fn names_both<T>(result: Result<T>, registered: &str, wanted: &str) {
        let error = refused(wanted, "clicks", result);
        let field = |name| error.context(name).unwrap_or_default();
        assert!(field("registered").contains(registered), "no {registered:?} in: {error}");
        assert!(field("wanted").contains(wanted), "no {wanted:?} in: {error}");
    }
    let has = subject.capabilities();
    let mut backend = subject.backend::<u64>();
    backend.register(&ValueDescriptor::<u64>::new("clicks")).unwrap();
    names_both(backend.register(&ValueDescriptor::<Vec<i8>>::new("clicks")), "u64", "Vec<i8>");
    names_both(backend.register(&ReducingDescriptor::new("clicks", add)), "value", "reducing");
    if has.lists {
        names_both(backend.register(&ListDescriptor::<u32>::new("clicks")), "u64", "[u32]");
    }
    if has.maps {
        names_both(backend.register(&MapDescriptor::<u32, bool>::new("clicks")), "u64", "(u32, bool)");
        let mut backend = subject.backend::<u64>();
        backend.register(&MapDescriptor::<u32, bool>::new("clicks")).unwrap();
        let other = MapDescriptor::<u32, String>::new("clicks");
        names_both(backend.register(&other), "(u32, bool)", "String");
    }
    if has.timers {
        names_both(
            backend.register(&TimerDescriptor::<()>::event_time("clicks")),
            "u64",
            "event-time timers",
        );
    }
}

/// The handles of states of all kinds.
#[derive(Clone, Copy)]
struct Handles {
    value: ValueState<String>,
    sums: ReducingState<u64>,
    mean: AggregatingState<Mean>,
    list: Option<ListState<String>>,
    map: Option<MapState<String, String>>,
    timers: Option<TimerService>,
}

impl Handles {
    fn register<B: KeyedBackend>(backend: &mut B, has: Capabilities) -> Self {
        let map = MapDescriptor::<String, String>::new("map");
        Self {
            value: backend.register(&ValueDescriptor::new("value")).unwrap(),
            sums: backend.register(&ReducingDescriptor::new("sums", add)).unwrap(),
            mean: backend.register(&AggregatingDescriptor::new("mean", Mean)).unwrap(),
            list: has.lists.then(|| backend.register(&ListDescriptor::new("list")).unwrap()),
            map: has.maps.then(|| backend.register(&map).unwrap()),
            timers: has.timers.then(|| backend.register(&TimerDescriptor::event_time("timers")).unwrap()),
        }
    }
}

/// A backend refuses a handle of another backend in every operation of every kind, also if name, types and
/// position agree with those of a state of its own.
pub fn a_handle_of_another_backend_is_an_error<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let mut owner = subject.backend::<u64>();
    let foreign = Handles::register(&mut owner, has);
    let mut twin = subject.backend::<u64>();
    let own = Handles::register(&mut twin, has);
    every_operation_is_refused(&mut twin, "a twin of its backend", foreign);
    every_operation_is_refused(&mut owner, "a twin of its backend", own);
    every_operation_is_refused(&mut subject.backend::<u64>(), "an empty backend", foreign);
    let mut shifted = subject.backend::<u64>();
    shifted.register(&ValueDescriptor::<u8>::new("first")).unwrap();
    Handles::register(&mut shifted, has);
    every_operation_is_refused(&mut shifted, "a backend with other types at its positions", foreign);
    // The refused operations have left the states alone.
    twin.at(&1).state(own.value).put("own".into()).unwrap();
    assert_eq!(twin.at(&1).state(own.value).get().unwrap(), Some(&"own".to_owned()));
    assert_eq!(owner.at(&1).state(foreign.value).get().unwrap(), None);
}

fn every_operation_is_refused<B: KeyedBackend<Key = u64>>(backend: &mut B, of: &str, handles: Handles) {
    let check = |what: &str, result: Result<()>| {
        refused(&format!("{what} with a foreign handle, in {of}"), "", result);
    };
    let Handles { value, sums, mean, list, map, timers } = handles;
    check("for_each_value", backend.for_each_value(value, |_, (), _| Ok(())));
    check("keys", backend.keys(value, |_, ()| Ok(())));
    let mut key = backend.at(&1);
    check("value get", key.state(value).get().map(drop));
    check("value put", key.state(value).put(String::new()));
    check("value modify", key.state(value).modify(String::new, |_| ()));
    check("value update", key.state(value).update(|_| ()).map(drop));
    check("value take", key.state(value).take().map(drop));
    check("value clear", key.state(value).clear().map(drop));
    check("reducing add", key.state(sums).add(1));
    check("reducing get", key.state(sums).get().map(drop));
    check("reducing clear", key.state(sums).clear().map(drop));
    check("aggregating add", key.state(mean).add(1));
    check("aggregating get", key.state(mean).get().map(drop));
    check("aggregating clear", key.state(mean).clear().map(drop));
    if let Some(list) = list {
        check("list get", key.state(list).get().map(drop));
        check("list push", key.state(list).push(String::new()));
        check("list put", key.state(list).put(vec![String::new()]));
        check("list take", key.state(list).take().map(drop));
        check("list clear", key.state(list).clear().map(drop));
    }
    if let Some(map) = map {
        let map_key = String::new();
        check("map get", key.state(map).get(&map_key).map(drop));
        check("map put", key.state(map).put(String::new(), String::new()));
        check("map modify", key.state(map).modify(String::new(), String::new, |_| ()));
        check("map take", key.state(map).take(&map_key).map(drop));
        check("map remove", key.state(map).remove(&map_key).map(drop));
        check("map contains", key.state(map).contains(&map_key).map(drop));
        check("map for_each", key.state(map).for_each(|_, _| Ok(())));
        check("map range", key.state(map).range(.., |_, _| Ok(())));
        check("map len", key.state(map).len().map(drop));
        check("map is_empty", key.state(map).is_empty().map(drop));
        check("map clear", key.state(map).clear().map(drop));
    }
    if let Some(timers) = timers {
        check("timer register", key.state(timers).register(1).map(drop));
        check("timer delete", key.state(timers).delete(1).map(drop));
        check("timer pop", backend.pop_timer(timers, 9).map(drop));
        check("timer next", backend.next_timer(timers).map(drop));
        check("timer for_each", backend.for_each_timer(timers, |_| Ok(())));
    }
}

/// 100 states of one backend, or 200 with lists, do not see each other.
pub fn many_states_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let mut values = Vec::new();
    let mut lists = Vec::new();
    for i in 0..100 {
        values.push(backend.register(&ValueDescriptor::<u64>::new(format!("value-{i}"))).unwrap());
        if subject.capabilities().lists {
            lists.push(backend.register(&ListDescriptor::<u64>::new(format!("list-{i}"))).unwrap());
        }
    }
    for key in 0..5 {
        for (i, value) in (0..).zip(&values) {
            backend.at(&key).state(*value).put(key * 1_000 + i).unwrap();
        }
        for (i, list) in (0..).zip(&lists) {
            backend.at(&key).state(*list).extend([key, i]).unwrap();
        }
    }
    for key in 0..5 {
        for (i, value) in (0..).zip(&values) {
            assert_eq!(backend.at(&key).state(*value).get().unwrap(), Some(&(key * 1_000 + i)));
        }
        for (i, list) in (0..).zip(&lists) {
            assert_eq!(backend.at(&key).state(*list).get().unwrap(), [key, i]);
        }
    }
}

/// A state that no restored snapshot has may be registered while others are in use.
pub fn a_state_may_be_registered_late<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let early = backend.register(&ValueDescriptor::<u64>::new("early")).unwrap();
    backend.at(&1).state(early).put(10).unwrap();
    let late = backend.register(&ValueDescriptor::<u64>::new("late").namespaced::<u8>()).unwrap();
    assert_eq!(backend.at(&1).state_in(late, &2).get().unwrap(), None);
    backend.at(&1).state_in(late, &2).put(20).unwrap();
    assert_eq!(backend.at(&1).state(early).get().unwrap(), Some(&10));
    assert_eq!(backend.at(&1).state_in(late, &2).get().unwrap(), Some(&20));
    if subject.capabilities().maps {
        let later = backend.register(&MapDescriptor::<u64, u64>::new("later")).unwrap();
        assert!(backend.at(&1).state(later).is_empty().unwrap());
        backend.at(&1).state(later).put(2, 30).unwrap();
        assert_eq!(backend.at(&1).state(later).get(&2).unwrap(), Some(&30));
    }
}
