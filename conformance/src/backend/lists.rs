//! List state (Flink: KS-02).

use strandline_state_api::{BackendFactory, KeyScope, Keyed, KeyedBackend, ListDescriptor};

use crate::Subject;

/// Appending keeps order, over any mix of single elements and groups; appending nothing makes no list.
pub fn elements_come_in_the_order_in_which_they_were_added<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register_list(&ListDescriptor::<String>::new("lines")).unwrap();
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&1));
    assert!(scope.list(state).get().unwrap().is_empty());
    scope.list(state).extend([]).unwrap();
    assert!(!scope.list(state).clear().unwrap(), "appending nothing leaves no list");
    scope.list(state).push("b".into()).unwrap();
    scope.list(state).extend(["a".into(), "c".into()]).unwrap();
    scope.list(state).extend([]).unwrap();
    scope.list(state).push("a".into()).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), ["b", "a", "c", "a"]);
    assert_eq!(scope.list(state).get().unwrap(), ["b", "a", "c", "a"], "reading changes nothing");
    scope.list(state).push(String::new()).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), ["b", "a", "c", "a", ""], "empty elements count");
}

/// Replacing drops what was there, and an empty list is no list.
pub fn put_replaces_and_an_empty_list_clears<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register_list(&ListDescriptor::<u64>::new("list")).unwrap();
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&1));
    scope.list(state).put(vec![1, 2]).unwrap();
    scope.list(state).push(3).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), [1, 2, 3]);
    scope.list(state).put(vec![9]).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), [9]);
    scope.list(state).put(vec![]).unwrap();
    assert!(scope.list(state).get().unwrap().is_empty());
    assert!(!scope.list(state).clear().unwrap(), "an empty list is no list");
    scope.list(state).push(4).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), [4], "nothing comes back");
    assert!(scope.list(state).clear().unwrap());
    assert!(!scope.list(state).clear().unwrap());
    scope.list(state).push(5).unwrap();
    assert_eq!(scope.list(state).get().unwrap(), [5]);
    scope.list(state).clear().unwrap();
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 0, "a cleared list is no entry");
    }
}

/// A list belongs to one key and one namespace.
pub fn keys_and_namespaces_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let state = backend.register_list(&ListDescriptor::<u64>::new("list").namespaced::<String>()).unwrap();
    let texts = ["", "\0", "a", "a\0", "\0a"].map(String::from);
    for round in 0..3 {
        for (i, key) in (0..).zip(&texts) {
            for (j, namespace) in (0..).zip(&texts) {
                let mut scope = KeyScope::new(&mut backend, Keyed::new(key));
                scope.list_in(state, namespace).push(i * 100 + j * 10 + round).unwrap();
            }
        }
    }
    KeyScope::new(&mut backend, Keyed::new(&texts[2])).list_in(state, &texts[3]).clear().unwrap();
    for (i, key) in (0..).zip(&texts) {
        for (j, namespace) in (0..).zip(&texts) {
            let wanted: Vec<u64> = if (i, j) == (2, 3) {
                vec![]
            } else {
                (0..3).map(|round| i * 100 + j * 10 + round).collect()
            };
            let mut scope = KeyScope::new(&mut backend, Keyed::new(key));
            assert_eq!(scope.list_in(state, namespace).get().unwrap(), wanted, "{key:?} {namespace:?}");
        }
    }
}

/// 20,000 elements, added one by one.
pub fn a_long_list<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register_list(&ListDescriptor::<u64>::new("list")).unwrap();
    for i in 0..20_000 {
        KeyScope::new(&mut backend, Keyed::new(&1)).list(state).push(i).unwrap();
    }
    let mut scope = KeyScope::new(&mut backend, Keyed::new(&1));
    assert!(scope.list(state).get().unwrap().iter().copied().eq(0..20_000));
}
