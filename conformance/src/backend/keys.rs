//! Which keys a state has, and which keys a backend accepts.

use std::collections::BTreeSet;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    Error, ErrorKind, KeyGroupRange, KeyScope, Keyed, KeyedBackend, ListDescriptor, MapDescriptor,
    ReducingDescriptor, Result, StateHandle, StateKey, TimerDescriptor, ValueDescriptor,
};

use super::simple::rig;
use crate::Subject;

/// Returns the keys and namespaces of a state in a range of key groups; none may occur twice.
fn addresses<B: KeyedBackend<Key = u64>, S: StateHandle>(
    backend: &mut B,
    state: S,
    range: KeyGroupRange,
) -> BTreeSet<(u64, String)> {
    let mut found = BTreeSet::new();
    let visit = |key: Keyed<'_, u64>, namespace: &S::Namespace| {
        assert_eq!(key.hash(), key.key().key_hash());
        assert!(range.contains(key.group()));
        let new = found.insert((*key.key(), format!("{namespace:?}")));
        assert!(new, "key {} is visited twice in {namespace:?}", key.key());
        Ok(())
    };
    backend.for_each_key(state.state_id(), range, visit).unwrap();
    found
}

/// A walk visits the keys of values, lists, maps (once, however many entries) and reducing states, in every
/// namespace; a cleared state has no key (Flink: KS-07).
pub fn every_kind_tells_its_keys<F: BackendFactory>(subject: &Subject<F>) {
    let (mut simple, has) = (rig::<F, u64>(subject), subject.capabilities());
    let b = &mut simple.backend;
    let value = b.register(&ValueDescriptor::<u64>::new("value")).unwrap();
    let reducing = ReducingDescriptor::new("max", |into: &mut u64, n: u64| *into = n.max(*into));
    let reducing = b.register(&reducing).unwrap();
    let list = ListDescriptor::<u64>::new("list").namespaced::<u8>();
    let list = has.lists.then(|| b.register(&list).unwrap());
    let map = MapDescriptor::<u64, u64>::new("map").namespaced::<String>();
    let map = has.maps.then(|| b.register(&map).unwrap());
    let [mut of_value, mut of_list, mut of_map] = [const { BTreeSet::new() }; 3];
    for key in 0..300u64 {
        let mut scope = b.at(&key);
        scope.state(value).put(key).unwrap();
        scope.state(reducing).add(key).unwrap();
        if key % 5 == 0 {
            scope.state(value).clear().unwrap();
            scope.state(reducing).clear().unwrap();
        } else {
            of_value.insert((key, "()".to_owned()));
        }
        if let Some(list) = list {
            scope.state_in(list, &(key as u8 % 3)).push(key).unwrap();
            of_list.insert((key, format!("{:?}", key as u8 % 3)));
        }
        let Some(map) = map else { continue };
        for namespace in ["", "x"].map(String::from) {
            scope.state_in(map, &namespace).put_all((0..key % 4).map(|i| (i, i))).unwrap();
            if key % 4 > 0 {
                of_map.insert((key, format!("{namespace:?}")));
            }
        }
    }
    assert_eq!(addresses(b, value, KeyGroupRange::ALL), of_value);
    assert_eq!(addresses(b, reducing, KeyGroupRange::ALL), of_value);
    if let Some(list) = list {
        assert_eq!(addresses(b, list, KeyGroupRange::ALL), of_list);
    }
    if let Some(map) = map {
        assert_eq!(addresses(b, map, KeyGroupRange::ALL), of_map);
    }
    let stopped = b.keys(value, |_, ()| Err(Error::new(ErrorKind::User, "enough")));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::User);
}

/// Walks over the parts of a partition of the key groups visit the keys of a walk over all of them.
pub fn key_groups_bound_the_walk<F: BackendFactory>(subject: &Subject<F>) {
    for keys in [5, 3_000] {
        let mut simple = rig::<F, u64>(subject);
        let value = simple.backend.register(&ValueDescriptor::<u64>::new("value")).unwrap();
        for key in 0..keys {
            simple.backend.at(&key).state(value).put(key).unwrap();
        }
        let all = addresses(&mut simple.backend, value, KeyGroupRange::ALL);
        assert_eq!(all.len(), keys as usize);
        let mut together = BTreeSet::new();
        for part in 0..7 {
            let range = KeyGroupRange::of_subtask(part, 7);
            let of_part = addresses(&mut simple.backend, value, range);
            assert!(together.is_disjoint(&of_part));
            together.extend(of_part);
        }
        assert_eq!(together, all);
    }
}

/// The function may read, change and clear the state that the call walks over, and other states of the key.
pub fn a_function_applied_to_all_keys<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let value = simple.backend.register(&ValueDescriptor::<u64>::new("value").namespaced::<u8>()).unwrap();
    let calls = ReducingDescriptor::new("calls", |into: &mut u64, n: u64| *into += n);
    let calls = simple.backend.register(&calls).unwrap();
    for key in 0..20_000 {
        let mut scope = simple.backend.at(&key);
        scope.state_in(value, &1).put(key).unwrap();
        if key % 2 == 0 {
            scope.state_in(value, &2).put(key).unwrap();
        }
    }
    let mut all_calls = 0;
    let apply = |scope: &mut KeyScope<'_, F::Backend<u64>>| {
        all_calls += 1;
        let key = *scope.key();
        match key % 3 {
            0 => scope.state_in(value, &2).clear().map(drop)?,
            1 => scope.state_in(value, &2).put(key + 1)?,
            _ => {}
        }
        scope.state(calls).add(1)
    };
    simple.backend.apply_to_all_keys(value, &2, apply).unwrap();
    assert_eq!(all_calls, 10_000);
    for key in 0..20_000 {
        let mut scope = simple.backend.at(&key);
        let wanted = match key % 6 {
            4 => Some(key + 1),
            2 => Some(key),
            _ => None,
        };
        assert_eq!(scope.state_in(value, &2).get().unwrap().copied(), wanted, "key {key}");
        assert_eq!(scope.state_in(value, &1).get().unwrap(), Some(&key));
        assert_eq!(scope.state(calls).get().unwrap().copied(), (key % 2 == 0).then_some(1));
    }
}

/// A key of another subtask is the same error for reads and for writes of every kind: of kind `Invalid`, and
/// it names the key group and those of the subtask.
pub fn a_foreign_key_is_the_same_error_for_all_accesses<F: BackendFactory>(subject: &Subject<F>) {
    let (own, has) = (KeyGroupRange::of_subtask(0, 2), subject.capabilities());
    let mut backend = subject.backend_of::<u64>(own);
    let foreign = (0..).find(|key| !own.contains(Keyed::new(key).group())).unwrap();
    let value = backend.register(&ValueDescriptor::<u64>::new("value")).unwrap();
    let sums = ReducingDescriptor::new("sums", |into: &mut u64, n: u64| *into += n);
    let sums = backend.register(&sums).unwrap();
    let list = has.lists.then(|| backend.register(&ListDescriptor::<u64>::new("list")).unwrap());
    let map = has.maps.then(|| backend.register(&MapDescriptor::<u8, u64>::new("map")).unwrap());
    let timers = TimerDescriptor::<()>::event_time("timers");
    let timers = has.timers.then(|| backend.register(&timers).unwrap());
    let mut key = backend.at(&foreign);
    let read = key.state(value).get().map(drop).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Invalid, "{read}");
    let group = Keyed::new(&foreign).group().to_string();
    assert_eq!(read.context("key group"), Some(group.as_str()), "{read}");
    assert_eq!(read.context("key groups"), Some(own.to_string().as_str()), "{read}");
    let check = |what: &str, result: Result<()>| {
        let error = result.err().unwrap_or_else(|| panic!("{what} of a foreign key is accepted"));
        assert_eq!(error.to_string(), read.to_string(), "{what}");
    };
    check("a put", key.state(value).put(1));
    check("a modify", key.state(value).update_or_default(|value| *value += 1));
    check("a take", key.state(value).take().map(drop));
    check("a clear", key.state(value).clear().map(drop));
    check("a fold", key.state(sums).add(1));
    check("a read of a fold", key.state(sums).get().map(drop));
    if let Some(list) = list {
        check("a read of a list", key.state(list).get().map(drop));
        check("an append", key.state(list).push(1));
    }
    if let Some(map) = map {
        check("a read of an entry", key.state(map).get(&1).map(drop));
        check("a put of an entry", key.state(map).put(1, 1));
        check("a range", key.state(map).range(.., |_, _| Ok(())));
    }
    if let Some(timers) = timers {
        check("a registration", key.state(timers).register(1).map(drop));
        check("a deletion", key.state(timers).delete(1).map(drop));
    }
    if has.counts_entries {
        assert_eq!(backend.entries(), 0);
    }
}
