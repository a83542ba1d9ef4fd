//! Value state, and keys and namespaces of every kind (Flink: KS-01, NS-01).

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use strandline_state_api::backend::{At, BackendFactory, KeyedBackendExt, SnapshotKind, Values};
use strandline_state_api::{
    Codec, Error, Keyed, KeyedBackend, Result, StateKey, TimeWindow, Timestamp, ValueDescriptor,
};

use super::simple::rig;
use crate::Subject;

/// A read returns what the last put set, or nothing; `clear` returns whether a value existed.
pub fn put_get_clear<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ValueDescriptor::<String>::new("v")).unwrap();
    let mut scope = backend.at(&1);
    assert_eq!(scope.state(state).get().unwrap(), None);
    assert!(!scope.state(state).clear().unwrap());
    scope.state(state).put("a".into()).unwrap();
    scope.state(state).put("b".into()).unwrap();
    assert_eq!(scope.state(state).get().unwrap().map(String::as_str), Some("b"));
    assert!(scope.state(state).clear().unwrap());
    assert!(!scope.state(state).clear().unwrap());
    assert_eq!(scope.state(state).get().unwrap(), None);
    scope.state(state).put(String::new()).unwrap();
    assert_eq!(scope.state(state).get().unwrap().map(String::as_str), Some(""), "an empty value is a value");
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 1);
    }
}

/// `modify` calls `initial` only where there is no value, and returns the result of `change`.
pub fn modify_starts_from_the_initial_value_only_once<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ValueDescriptor::<u64>::new("v")).unwrap();
    let mut initials = 0;
    let mut add = |backend: &mut F::Backend<u64>, by| {
        let mut scope = backend.at(&1);
        let initial = || {
            initials += 1;
            100
        };
        let change = |value: &mut u64| {
            *value += by;
            (*value, "changed")
        };
        scope.state(state).modify(initial, change).unwrap()
    };
    assert_eq!(add(&mut backend, 1), (101, "changed"));
    assert_eq!(add(&mut backend, 2), (103, "changed"));
    assert!(backend.at(&1).state(state).clear().unwrap());
    assert_eq!(add(&mut backend, 5), (105, "changed"));
    assert_eq!(initials, 2);
    assert_eq!(backend.at(&1).state(state).get().unwrap(), Some(&105));
}

/// `update_or_default` starts from the default, `update` changes only a value that exists, and `take` removes
/// it.
pub fn update_and_take<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ValueDescriptor::<Vec<u8>>::new("v")).unwrap();
    let mut key = backend.at(&1);
    let push = |byte| move |value: &mut Vec<u8>| value.push(byte);
    assert!(!key.state(state).update(push(1)).unwrap());
    assert_eq!(key.state(state).get().unwrap(), None, "`update` creates no value");
    let len = key.state(state).update_or_default(|value| {
        value.push(2);
        value.len()
    });
    assert_eq!(len.unwrap(), 1);
    key.state(state).update_or_default(push(3)).unwrap();
    assert!(key.state(state).update(push(4)).unwrap());
    assert_eq!(key.state(state).take().unwrap(), Some(vec![2, 3, 4]));
    assert_eq!(key.state(state).take().unwrap(), None);
    key.state(state).update_or_default(push(5)).unwrap();
    assert_eq!(key.state(state).get().unwrap(), Some(&vec![5]), "nothing comes back");
    if subject.capabilities().counts_entries {
        assert_eq!(backend.entries(), 1);
    }
}

/// `change` sees the value or its absence, and stores, replaces or removes it; snapshots and increments hold
/// the outcome.
pub fn change_sets_replaces_and_removes<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, u64>(subject);
    let descriptor = ValueDescriptor::<String>::new("v").namespaced::<u8>();
    let state = simple.backend.register(&descriptor).unwrap();
    let change = |backend: &mut F::Backend<u64>, key: u64, found: Option<&str>, left: Option<&str>| {
        let at = At { key: Keyed::new(&key), namespace: &3u8 };
        let table = backend.values::<String, u8>(state.id()).unwrap();
        let seen = table.change(at, |stored| std::mem::replace(stored, left.map(str::to_owned))).unwrap();
        assert_eq!(seen.as_deref(), found, "key {key}");
        let kept = backend.at(&key).state_in(state, &3).get().unwrap().cloned();
        assert_eq!(kept.as_deref(), left, "key {key}");
    };
    for key in 0..4 {
        change(&mut simple.backend, key, None, Some("first"));
    }
    change(&mut simple.backend, 4, None, None);
    let register = |backend: &mut F::Backend<u64>| backend.register(&descriptor);
    let before = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut early, restored) = simple.restore(&[before], register).unwrap();
    change(&mut simple.backend, 0, Some("first"), None);
    change(&mut simple.backend, 1, Some("first"), Some("second"));
    change(&mut simple.backend, 2, Some("first"), None);
    change(&mut simple.backend, 2, None, Some("third"));
    let after = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut late, relocated) = simple.restore(&[after], register).unwrap();
    for (key, value) in [(0, None), (1, Some("second")), (2, Some("third")), (3, Some("first")), (4, None)] {
        let was = (key < 4).then_some("first");
        assert_eq!(early.backend.at(&key).state_in(restored, &3).get().unwrap().map(String::as_str), was);
        assert_eq!(late.backend.at(&key).state_in(relocated, &3).get().unwrap().map(String::as_str), value);
    }
    if subject.capabilities().counts_entries {
        assert_eq!((early.backend.entries(), late.backend.entries()), (4, 3));
    }
}

/// A value belongs to one key and one namespace, also where these are empty, hold zero bytes or start with
/// each other.
pub fn keys_and_namespaces_stay_apart<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<String>();
    let state = backend.register(&ValueDescriptor::<String>::new("v").namespaced::<String>()).unwrap();
    let texts = ["", "\0", "\0\0", "\0\u{1}", "\u{1}", "a", "a\0", "\0a", "a\0\u{1}", "aa"].map(String::from);
    let put = |backend: &mut F::Backend<String>, key, namespace| {
        let mut scope = backend.at(key);
        scope.state_in(state, namespace).put(format!("{key:?} in {namespace:?}")).unwrap();
    };
    for key in &texts {
        for namespace in &texts {
            put(&mut backend, key, namespace);
        }
    }
    for key in &texts {
        for namespace in &texts {
            let mut scope = backend.at(key);
            let wanted = format!("{key:?} in {namespace:?}");
            assert_eq!(scope.state_in(state, namespace).get().unwrap(), Some(&wanted));
            assert!(scope.state_in(state, namespace).clear().unwrap());
            assert_eq!(scope.state_in(state, namespace).get().unwrap(), None);
            put(&mut backend, key, namespace);
        }
    }
}

/// Every type of key and of namespace that state-api offers, through a snapshot and back.
pub fn every_type_of_key_works<F: BackendFactory>(subject: &Subject<F>) {
    keys_come_back(subject, &[()], &[()]);
    keys_come_back(subject, &[false, true], &[0u8, 255]);
    keys_come_back(subject, &[0u64, 1, u64::MAX], &[i8::MIN, -1, 0, i8::MAX]);
    keys_come_back(subject, &[i64::MIN, -1, 0, i64::MAX], &[u16::MAX, 0]);
    keys_come_back(subject, &[u128::MAX, 0, 1 << 64], &[i128::MIN, 0]);
    keys_come_back(
        subject,
        &["", "\0", "a", "a\0"].map(String::from),
        &["\0", "", "a\0", "a"].map(String::from),
    );
    keys_come_back(subject, &[vec![], vec![0], vec![0, 255], vec![255, 0]], &[vec![0, 1], vec![]]);
    let windows = [-1, 0, 7].map(|time| TimeWindow::tumbling(time, 5));
    keys_come_back(subject, &["a", ""].map(std::sync::Arc::<str>::from), &windows);
    let pairs = [("", "ab"), ("a", "b"), ("ab", ""), ("\0", ""), ("", "\0")];
    let pairs = pairs.map(|(a, b)| (String::from(a), String::from(b)));
    keys_come_back(subject, &pairs, &pairs);
    keys_come_back(subject, &[(1u32, String::from("x"), -1i16, true)], &[(String::new(), 1u8, vec![0u8])]);
}

fn keys_come_back<F: BackendFactory, K: StateKey, N: StateKey>(
    subject: &Subject<F>,
    keys: &[K],
    namespaces: &[N],
) {
    let descriptor = ValueDescriptor::<String>::new("v").namespaced::<N>();
    let wanted = |key: &K, namespace: &N| format!("{key:?} in {namespace:?}");
    let check = |backend: &mut F::Backend<K>| {
        let state = backend.register(&descriptor).unwrap();
        for key in keys {
            for namespace in namespaces {
                let mut scope = backend.at(key);
                let got = scope.state_in(state, namespace).get().unwrap();
                assert_eq!(got, Some(&wanted(key, namespace)));
            }
        }
    };
    let mut simple = rig::<F, K>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    for key in keys {
        for namespace in namespaces {
            let mut scope = simple.backend.at(key);
            scope.state_in(state, namespace).put(wanted(key, namespace)).unwrap();
        }
    }
    check(&mut simple.backend);
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let mut restored = simple.restore(&[snapshot], |backend| backend.register(&descriptor)).unwrap().0;
    check(&mut restored.backend);
}

/// A type without `Clone`, which a backend must not require.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    owner: String,
    limits: Vec<(u8, Option<i64>)>,
}

/// Numbers, texts, nested types and `()` are native on access, and equal after a restore.
pub fn every_type_of_value_works<F: BackendFactory>(subject: &Subject<F>) {
    value_comes_back(subject, || ());
    value_comes_back(subject, || true);
    value_comes_back(subject, || u8::MAX);
    value_comes_back(subject, || i64::MIN);
    value_comes_back(subject, || u128::MAX);
    value_comes_back(subject, || -0.5f64);
    value_comes_back(subject, || String::from("zero \0 byte"));
    value_comes_back(subject, || vec![0u8; 100]);
    value_comes_back(subject, || Some(None::<u64>));
    value_comes_back(subject, || Account { owner: "ä".into(), limits: vec![(1, None), (2, Some(-3))] });
}

fn value_comes_back<F, V>(subject: &Subject<F>, value: impl Fn() -> V)
where
    F: BackendFactory,
    V: Serialize + DeserializeOwned + PartialEq + Debug + Send + 'static,
{
    let descriptor = ValueDescriptor::<V>::new("v");
    let mut simple = rig::<F, u64>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    simple.backend.at(&1).state(state).put(value()).unwrap();
    assert_eq!(simple.backend.at(&1).state(state).get().unwrap(), Some(&value()));
    let snapshot = simple.snapshot(SnapshotKind::Full).unwrap();
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
    let mut scope = restored.backend.at(&1);
    assert_eq!(scope.state(state).get().unwrap(), Some(&value()));
}

/// Encodes numbers as decimal digits.
struct Digits;

impl Codec<u64> for Digits {
    fn id(&self) -> String {
        "digits".into()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value.to_string().as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt("no digits").caused_by(e))?;
        text.parse().map_err(|e| Error::corrupt("no digits").caused_by(e))
    }
}

/// A codec of the user's own encodes the values of a snapshot and decodes them.
pub fn a_codec_of_its_own_is_used_for_snapshots<F: BackendFactory>(subject: &Subject<F>) {
    let descriptor = ValueDescriptor::<u64>::with_codec("v", Digits);
    let mut simple = rig::<F, u64>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    for key in 0..10 {
        simple.backend.at(&key).state(state).put(key * 1_000).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
    for key in 0..10 {
        let mut scope = restored.backend.at(&key);
        assert_eq!(scope.state(state).get().unwrap(), Some(&(key * 1_000)));
    }
}

/// Values of several megabytes beside tiny ones, through a snapshot and back.
pub fn big_values<F: BackendFactory>(subject: &Subject<F>) {
    let descriptor = ValueDescriptor::<Vec<u8>>::new("v");
    let mut rng = fastrand::Rng::with_seed(7);
    let mut random = |len: usize| (0..len).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    let values = [random(3), random(5 << 20), vec![0; 3 << 20], random(70_000), vec![]];
    let mut simple = rig::<F, u64>(subject);
    let state = simple.backend.register(&descriptor).unwrap();
    for (key, value) in (0..).zip(&values) {
        simple.backend.at(&key).state(state).put(value.clone()).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&descriptor)).unwrap();
    for (key, value) in (0..).zip(&values) {
        let mut scope = restored.backend.at(&key);
        assert!(scope.state(state).get().unwrap() == Some(value), "the value of {} bytes", value.len());
    }
}

/// A walk visits each value once, with its key and namespace; an error of the visitor ends it.
pub fn for_each_visits_each_once_and_stops_at_an_error<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ValueDescriptor::<u64>::new("v").namespaced::<u8>()).unwrap();
    let other = backend.register(&ValueDescriptor::<u64>::new("other").namespaced::<u8>()).unwrap();
    for key in 0..500 {
        for namespace in 0..2 {
            let mut scope = backend.at(&key);
            scope.state_in(state, &namespace).put(key * 2 + u64::from(namespace)).unwrap();
            scope.state_in(other, &namespace).put(0).unwrap();
        }
    }
    for key in 0..100 {
        backend.at(&key).state_in(state, &1).clear().unwrap();
    }
    let mut seen = Vec::new();
    backend
        .for_each_value(state, |key, namespace, value| {
            seen.push((*key, *namespace, *value));
            Ok(())
        })
        .unwrap();
    seen.sort_unstable();
    let all = (0..500).flat_map(|key| [(key, 0, key * 2), (key, 1, key * 2 + 1)]);
    let wanted: Vec<(u64, u8, u64)> = all.filter(|(key, ns, _)| *ns == 0 || *key >= 100).collect();
    assert_eq!(seen, wanted);
    let mut visits = 0;
    let stopped = backend.for_each_value(state, |_, _, _| {
        visits += 1;
        if visits == 3 { Err(Error::invalid("enough")) } else { Ok(()) }
    });
    assert_eq!((stopped.unwrap_err().message(), visits), ("enough", 3));
}

/// An announcement of keys has no observable effect, whether they have state or not, with and without namespaces,
/// while a backend prefetches for it and when it has stopped to.
pub fn prefetch_changes_nothing<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let state = backend.register(&ValueDescriptor::<u64>::new("v")).unwrap();
    let windows = backend.register(&ValueDescriptor::<u64>::new("w").namespaced::<TimeWindow>()).unwrap();
    let window = TimeWindow::tumbling(Timestamp::EPOCH, 60_000);
    let keys: Vec<u64> = (0..100).collect();
    let hashes: Vec<_> = keys.iter().map(StateKey::key_hash).collect();
    for key in keys.iter().step_by(2) {
        backend.at(key).state(state).put(*key).unwrap();
        backend.at(key).state_in(windows, &window).put(key + 1).unwrap();
    }
    let entries = backend.entries();
    for accessed in [true, false, true] {
        for _ in 0..40 {
            backend.prefetch(&keys, &hashes).unwrap();
            backend.prefetch(&[], &[]).unwrap();
            for key in keys.iter().filter(|_| accessed) {
                let wanted = (key % 2 == 0).then_some(key);
                assert_eq!(backend.at(key).state(state).get().unwrap(), wanted);
                let wanted = wanted.map(|key| key + 1);
                assert_eq!(backend.at(key).state_in(windows, &window).get().unwrap().copied(), wanted);
            }
        }
    }
    assert_eq!(backend.entries(), entries);
}
