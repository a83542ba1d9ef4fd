//! Map state (Flink: KS-03).

use std::collections::BTreeMap;
use std::ops::Bound;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{Error, KeyedBackend, MapDescriptor, MapState, StateKey};

use crate::Subject;

/// Single entries can be set, read, replaced and removed.
pub fn put_get_contains_remove<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<String, u64>::new("map")).unwrap();
    let (a, b) = (String::from("a"), String::from("b"));
    let mut scope = backend.at(&1);
    assert!(scope.state(state).is_empty().unwrap());
    assert_eq!(scope.state(state).get(&a).unwrap(), None);
    assert!(!scope.state(state).contains(&a).unwrap());
    assert!(!scope.state(state).remove(&a).unwrap());
    scope.state(state).put(a.clone(), 1).unwrap();
    scope.state(state).put(a.clone(), 2).unwrap();
    scope.state(state).put(b.clone(), 3).unwrap();
    assert_eq!(scope.state(state).get(&a).unwrap(), Some(&2));
    assert!(scope.state(state).contains(&b).unwrap());
    assert!(!scope.state(state).is_empty().unwrap());
    assert!(scope.state(state).remove(&a).unwrap());
    assert!(!scope.state(state).remove(&a).unwrap());
    assert_eq!(scope.state(state).get(&a).unwrap(), None);
    assert_eq!(scope.state(state).get(&b).unwrap(), Some(&3));
    assert!(scope.state(state).remove(&b).unwrap());
    assert!(scope.state(state).is_empty().unwrap(), "a map without entries is empty");
    assert!(!scope.state(state).clear().unwrap(), "and cleared already");
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 0);
    }
}

/// `modify` and `update_or_default` change one entry in one access, `take` removes and returns it, and `len`
/// counts the entries.
pub fn modify_take_and_len<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<String, Vec<u8>>::new("map").namespaced::<u8>()).unwrap();
    let (a, b) = (String::from("a"), String::from("b"));
    let mut initials = 0;
    let mut key = backend.at(&1);
    for byte in 1..4 {
        let initial = || {
            initials += 1;
            vec![0]
        };
        let push = |value: &mut Vec<u8>| {
            value.push(byte);
            value.len()
        };
        let len = key.state_in(state, &0).modify(a.clone(), initial, push).unwrap();
        assert_eq!(len, usize::from(byte) + 1);
        assert_eq!(key.state_in(state, &0).len().unwrap(), 1);
    }
    assert_eq!(initials, 1);
    key.state_in(state, &0).update_or_default(b.clone(), |value| value.push(7)).unwrap();
    key.state_in(state, &1).put(a.clone(), vec![]).unwrap();
    assert_eq!(key.state_in(state, &0).len().unwrap(), 2);
    assert_eq!(key.state_in(state, &0).get(&b).unwrap(), Some(&vec![7]));
    assert_eq!(key.state_in(state, &0).take(&a).unwrap(), Some(vec![0, 1, 2, 3]));
    assert_eq!(key.state_in(state, &0).take(&a).unwrap(), None);
    assert_eq!(key.state_in(state, &0).len().unwrap(), 1);
    key.state_in(state, &0).update_or_default(a.clone(), |value| value.push(8)).unwrap();
    assert_eq!(key.state_in(state, &0).get(&a).unwrap(), Some(&vec![8]), "nothing comes back");
    assert_eq!(key.state_in(state, &1).len().unwrap(), 1, "the other namespace keeps its entry");
    assert_eq!(key.state_in(state, &2).len().unwrap(), 0);
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 3);
    }
}

/// A walk visits each entry once; an error of the visitor ends it.
pub fn for_each_visits_each_entry_once_and_stops_at_an_error<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<u32, String>::new("map")).unwrap();
    for key in 0..3 {
        for i in 0..50 {
            let mut scope = backend.at(&key);
            scope.state(state).put(i, format!("{key}-{i}")).unwrap();
        }
    }
    let mut seen = Vec::new();
    let mut scope = backend.at(&1);
    scope
        .state(state)
        .for_each(|map_key, value| {
            seen.push((*map_key, value.clone()));
            Ok(())
        })
        .unwrap();
    seen.sort();
    assert_eq!(seen, (0..50).map(|i| (i, format!("1-{i}"))).collect::<Vec<_>>());
    let mut visits = 0;
    let error = scope
        .state(state)
        .for_each(|_, _| {
            visits += 1;
            Err(Error::invalid("enough"))
        })
        .unwrap_err();
    assert_eq!((visits, error.message()), (1, "enough"));
}

/// A range visits its entries in the order of their map keys, also when some of them changed recently and
/// others long ago.
pub fn range_visits_in_order<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<i32, String>::new("map")).unwrap();
    let mut model = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..3_000 {
        let mut scope = backend.at(&1);
        let map_key = rng.i32(-100..100);
        if rng.u8(..4) == 0 {
            assert_eq!(scope.state(state).remove(&map_key).unwrap(), model.remove(&map_key).is_some());
        } else {
            let value = rng.u32(..).to_string();
            scope.state(state).put(map_key, value.clone()).unwrap();
            model.insert(map_key, value);
        }
    }
    backend.at(&2).state(state).put(0, "other".into()).unwrap();
    let bounds = [
        (Bound::Unbounded, Bound::Unbounded),
        (Bound::Included(-5), Bound::Excluded(5)),
        (Bound::Excluded(-5), Bound::Included(5)),
        (Bound::Unbounded, Bound::Excluded(-90)),
        (Bound::Included(90), Bound::Unbounded),
        (Bound::Included(i32::MIN), Bound::Included(i32::MAX)),
        (Bound::Included(1_000), Bound::Unbounded),
    ];
    for range in bounds {
        let mut seen = Vec::new();
        let mut scope = backend.at(&1);
        let visited = scope.state(state).range(range, |map_key, value| {
            seen.push((*map_key, value.clone()));
            Ok(())
        });
        visited.unwrap();
        let wanted: Vec<_> = model.range(range).map(|(k, v)| (*k, v.clone())).collect();
        assert_eq!(seen, wanted, "{range:?}");
    }
    let mut scope = backend.at(&1);
    let error = scope.state(state).range(.., |_, _| Err(Error::invalid("enough"))).unwrap_err();
    assert_eq!(error.message(), "enough");
}

/// `clear` removes all entries of one key and namespace, and no others.
pub fn clear_empties_one_map_only<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let state = backend.register(&MapDescriptor::<u32, u32>::new("map").namespaced::<String>()).unwrap();
    let texts = ["", "\0", "a", "a\0", "b"].map(String::from);
    for key in &texts {
        for namespace in &texts {
            for i in 0..4 {
                let mut scope = backend.at(key);
                scope.state_in(state, namespace).put(i, i * i).unwrap();
            }
        }
    }
    let mut scope = backend.at(&texts[2]);
    assert!(scope.state_in(state, &texts[2]).clear().unwrap());
    assert!(!scope.state_in(state, &texts[2]).clear().unwrap());
    assert!(scope.state_in(state, &texts[2]).is_empty().unwrap());
    for key in &texts {
        for namespace in &texts {
            let wanted = if (key, namespace) == (&texts[2], &texts[2]) { 0 } else { 4 };
            assert_eq!(count(&mut backend, state, key, namespace), wanted, "{key:?} {namespace:?}");
        }
    }
    let mut scope = backend.at(&texts[2]);
    scope.state_in(state, &texts[2]).put(2, 7).unwrap();
    assert_eq!(scope.state_in(state, &texts[2]).get(&2).unwrap(), Some(&7));
    assert_eq!(scope.state_in(state, &texts[2]).get(&1).unwrap(), None, "cleared entries stay away");
}

fn count<B: KeyedBackend<Key = String>>(
    backend: &mut B,
    state: MapState<u32, u32, String>,
    key: &String,
    namespace: &String,
) -> u32 {
    let mut count = 0;
    let mut scope = backend.at(key);
    let counted = scope.state_in(state, namespace).for_each(|map_key, value| {
        assert_eq!(*value, map_key * map_key);
        count += 1;
        Ok(())
    });
    counted.unwrap();
    count
}

/// Map keys of any type stay apart: empty ones, ones with zero bytes, and ones that start with each other.
pub fn map_keys_of_every_kind_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    map_keys_stay_apart(subject, &["", "\0", "\0\0", "a", "a\0", "a\0b", "ab"].map(String::from));
    map_keys_stay_apart(subject, &[vec![], vec![0], vec![0, 0], vec![0, 1], vec![0, 255], vec![255]]);
    map_keys_stay_apart(subject, &[i64::MIN, -1, 0, 1, i64::MAX]);
    map_keys_stay_apart(subject, &[false, true]);
    map_keys_stay_apart(subject, &[()]);
    let pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("", ""), ("\0", ""), ("", "\0")];
    map_keys_stay_apart(subject, &pairs.map(|(a, b)| (String::from(a), String::from(b))));
}

fn map_keys_stay_apart<F: BackendFactory, MK: StateKey>(subject: &Subject<F>, map_keys: &[MK]) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<MK, usize>::new("map")).unwrap();
    let mut scope = backend.at(&1);
    for (i, map_key) in map_keys.iter().enumerate() {
        scope.state(state).put(map_key.clone(), i).unwrap();
    }
    for (i, map_key) in map_keys.iter().enumerate() {
        assert_eq!(scope.state(state).get(map_key).unwrap(), Some(&i), "{map_key:?}");
        assert!(scope.state(state).remove(map_key).unwrap());
        assert!(!scope.state(state).contains(map_key).unwrap());
    }
    assert!(scope.state(state).is_empty().unwrap());
}

/// One map holds 20,000 entries.
pub fn a_large_map<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&MapDescriptor::<u64, u64>::new("map")).unwrap();
    let mut scope = backend.at(&1);
    for i in 0..20_000 {
        scope.state(state).put(i, !i).unwrap();
    }
    for i in (0..20_000).step_by(2) {
        assert!(scope.state(state).remove(&i).unwrap());
    }
    for i in 0..20_000 {
        let wanted = (i % 2 == 1).then_some(!i);
        assert_eq!(scope.state(state).get(&i).unwrap().copied(), wanted);
    }
    assert!(scope.state(state).clear().unwrap());
    assert_eq!(scope.state(state).get(&1).unwrap(), None);
}
