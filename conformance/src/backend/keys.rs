//! Walks over all keys of a state.

use std::collections::BTreeSet;

use strandline_state_api::{
    BackendFactory, Error, ErrorKind, KeyGroupRange, KeyScope, Keyed, KeyedBackend, ListDescriptor,
    MapDescriptor, ReducingDescriptor, StateHandle, StateKey, ValueDescriptor,
};

use super::simple::Simple;
use crate::Subject;

/// The places of a state in a range of key groups; none may come twice.
fn places<B: KeyedBackend<Key = u64>, S: StateHandle>(
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
    backend.for_each_key(state, range, visit).unwrap();
    found
}

/// Values, lists, maps (once, however many entries) and reducing states, in every namespace; not what was cleared (Flink:
/// KS-07).
pub fn every_kind_tells_its_keys<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let b = &mut simple.backend;
    let value = b.register(&ValueDescriptor::<u64>::new("value")).unwrap();
    let list = b.register(&ListDescriptor::<u64>::new("list").namespaced::<u8>()).unwrap();
    let map = b.register(&MapDescriptor::<u64, u64>::new("map").namespaced::<String>()).unwrap();
    let max = (|into: &mut u64, n: u64| *into = n.max(*into)) as fn(&mut u64, u64);
    let reducing = b.register(&ReducingDescriptor::new("max", max)).unwrap();
    let mut wanted = [const { BTreeSet::new() }; 4];
    for key in 0..300u64 {
        let mut scope = KeyScope::new(b, Keyed::new(&key));
        scope.value(value).put(key).unwrap();
        scope.list_in(list, &(key as u8 % 3)).push(key).unwrap();
        for namespace in ["", "x"].map(String::from) {
            scope.map_in(map, &namespace).put_all((0..key % 4).map(|i| (i, i))).unwrap();
            if key % 4 > 0 {
                wanted[2].insert((key, format!("{namespace:?}")));
            }
        }
        scope.reducing(&reducing).add(key).unwrap();
        if key % 5 == 0 {
            scope.value(value).clear().unwrap();
            scope.reducing(&reducing).clear().unwrap();
        } else {
            wanted[0].insert((key, "()".to_owned()));
            wanted[3].insert((key, "()".to_owned()));
        }
        wanted[1].insert((key, format!("{:?}", key as u8 % 3)));
    }
    assert_eq!(places(b, value, KeyGroupRange::ALL), wanted[0]);
    assert_eq!(places(b, list, KeyGroupRange::ALL), wanted[1]);
    assert_eq!(places(b, map, KeyGroupRange::ALL), wanted[2]);
    assert_eq!(places(b, &reducing, KeyGroupRange::ALL), wanted[3]);
    let stopped =
        b.for_each_key(value, KeyGroupRange::ALL, |_, ()| Err(Error::new(ErrorKind::User, "enough")));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::User);
}

/// A walk over parts of the key groups visits what a walk over all of them does.
pub fn key_groups_bound_the_walk<F: BackendFactory>(subject: &Subject<F>) {
    for keys in [5, 3_000] {
        let mut simple = Simple::<F, u64>::new(subject);
        let value = simple.backend.register(&ValueDescriptor::<u64>::new("value")).unwrap();
        for key in 0..keys {
            KeyScope::new(&mut simple.backend, Keyed::new(&key)).value(value).put(key).unwrap();
        }
        let all = places(&mut simple.backend, value, KeyGroupRange::ALL);
        assert_eq!(all.len(), keys as usize);
        let mut together = BTreeSet::new();
        for part in 0..7 {
            let range = KeyGroupRange::of_subtask(part, 7);
            let of_part = places(&mut simple.backend, value, range);
            assert!(together.is_disjoint(&of_part));
            together.extend(of_part);
        }
        assert_eq!(together, all);
    }
}

/// The function may read, change and clear the state that it walks over, and others of the key.
pub fn a_function_applied_to_all_keys<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let value = simple.backend.register(&ValueDescriptor::<u64>::new("value").namespaced::<u8>()).unwrap();
    let other = simple.backend.register(&ListDescriptor::<u64>::new("other")).unwrap();
    for key in 0..20_000 {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        scope.value_in(value, &1).put(key).unwrap();
        if key % 2 == 0 {
            scope.value_in(value, &2).put(key).unwrap();
        }
    }
    let mut calls = 0;
    let apply = |scope: &mut KeyScope<'_, F::Backend<u64>>| {
        calls += 1;
        let key = *scope.key();
        match key % 3 {
            0 => scope.value_in(value, &2).clear().map(drop)?,
            1 => scope.value_in(value, &2).put(key + 1)?,
            _ => {}
        }
        scope.list(other).push(key)
    };
    simple.backend.apply_to_all_keys(value, &2, apply).unwrap();
    assert_eq!(calls, 10_000);
    for key in 0..20_000 {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        let wanted = match key % 6 {
            4 => Some(key + 1),
            2 => Some(key),
            _ => None,
        };
        assert_eq!(scope.value_in(value, &2).get().unwrap().copied(), wanted, "key {key}");
        assert_eq!(scope.value_in(value, &1).get().unwrap(), Some(&key));
        assert_eq!(scope.list(other).get().unwrap().len(), usize::from(key % 2 == 0));
    }
}
