//! List state (Flink: KS-02).

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{KeyedBackend, ListDescriptor, StateKey};

use crate::Subject;

/// Appends keep the order, of single elements and of groups; an append of nothing creates no list.
pub fn elements_come_in_the_order_in_which_they_were_added<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ListDescriptor::<String>::new("lines")).unwrap();
    let mut scope = backend.at(&1);
    assert!(scope.state(state).get().unwrap().is_empty());
    scope.state(state).extend([]).unwrap();
    assert!(!scope.state(state).clear().unwrap(), "appending nothing leaves no list");
    scope.state(state).push("b".into()).unwrap();
    scope.state(state).extend(["a".into(), "c".into()]).unwrap();
    scope.state(state).extend([]).unwrap();
    scope.state(state).push("a".into()).unwrap();
    assert_eq!(scope.state(state).get().unwrap().to_vec(), ["b", "a", "c", "a"]);
    assert_eq!(scope.state(state).get().unwrap().to_vec(), ["b", "a", "c", "a"], "reading changes nothing");
    scope.state(state).push(String::new()).unwrap();
    assert_eq!(scope.state(state).get().unwrap().to_vec(), ["b", "a", "c", "a", ""], "empty elements count");
}

/// `put` replaces all elements; an empty list does not exist.
pub fn put_replaces_and_an_empty_list_clears<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ListDescriptor::<u64>::new("list")).unwrap();
    let mut scope = backend.at(&1);
    scope.state(state).put(vec![1, 2]).unwrap();
    scope.state(state).push(3).unwrap();
    assert_eq!(scope.state(state).get().unwrap(), [1, 2, 3]);
    scope.state(state).put(vec![9]).unwrap();
    assert_eq!(scope.state(state).get().unwrap(), [9]);
    scope.state(state).put(vec![]).unwrap();
    assert!(scope.state(state).get().unwrap().is_empty());
    assert!(!scope.state(state).clear().unwrap(), "an empty list is no list");
    scope.state(state).push(4).unwrap();
    assert_eq!(scope.state(state).get().unwrap(), [4], "nothing comes back");
    assert!(scope.state(state).clear().unwrap());
    assert!(!scope.state(state).clear().unwrap());
    scope.state(state).push(5).unwrap();
    assert_eq!(scope.state(state).get().unwrap(), [5]);
    scope.state(state).clear().unwrap();
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 0, "a cleared list is no entry");
    }
}

/// A list belongs to one key and one namespace.
pub fn keys_and_namespaces_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let state = backend.register(&ListDescriptor::<u64>::new("list").namespaced::<String>()).unwrap();
    let texts = ["", "\0", "a", "a\0", "\0a"].map(String::from);
    for round in 0..3 {
        for (i, key) in (0..).zip(&texts) {
            for (j, namespace) in (0..).zip(&texts) {
                let mut scope = backend.at(key);
                scope.state_in(state, namespace).push(i * 100 + j * 10 + round).unwrap();
            }
        }
    }
    backend.at(&texts[2]).state_in(state, &texts[3]).clear().unwrap();
    for (i, key) in (0..).zip(&texts) {
        for (j, namespace) in (0..).zip(&texts) {
            let wanted: Vec<u64> = if (i, j) == (2, 3) {
                vec![]
            } else {
                (0..3).map(|round| i * 100 + j * 10 + round).collect()
            };
            let mut scope = backend.at(key);
            assert_eq!(
                scope.state_in(state, namespace).get().unwrap().to_vec(),
                wanted,
                "{key:?} {namespace:?}"
            );
        }
    }
}

/// `take` removes and returns all elements, in order.
pub fn take_empties_the_list<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ListDescriptor::<u64>::new("list")).unwrap();
    let mut key = backend.at(&1);
    assert!(key.state(state).take().unwrap().is_empty());
    key.state(state).extend([3, 1, 2]).unwrap();
    assert_eq!(key.state(state).take().unwrap(), [3, 1, 2]);
    assert!(key.state(state).take().unwrap().is_empty());
    assert!(key.state(state).get().unwrap().is_empty());
    key.state(state).push(4).unwrap();
    assert_eq!(key.state(state).get().unwrap(), [4], "nothing comes back");
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 1);
    }
}

/// A list holds 20,000 elements that are added one by one.
pub fn a_long_list<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ListDescriptor::<u64>::new("list")).unwrap();
    for i in 0..20_000 {
        backend.at(&1).state(state).push(i).unwrap();
    }
    let mut scope = backend.at(&1);
    assert!(scope.state(state).get().unwrap().iter().copied().eq(0..20_000));
}

/// An announcement of keys has no observable effect, before the first element and between two.
pub fn prefetch_changes_nothing<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ListDescriptor::<u64>::new("l")).unwrap();
    let keys: Vec<u64> = (0..100).collect();
    let hashes: Vec<_> = keys.iter().map(StateKey::key_hash).collect();
    for round in 0..3 {
        backend.prefetch(&keys, &hashes).unwrap();
        for key in keys.iter().step_by(2) {
            backend.at(key).state(state).push(key + round).unwrap();
        }
    }
    backend.prefetch(&keys, &hashes).unwrap();
    for key in keys {
        let wanted = if key % 2 == 0 { vec![key, key + 1, key + 2] } else { Vec::new() };
        assert_eq!(backend.at(&key).state(state).get().unwrap().to_vec(), wanted);
    }
}
