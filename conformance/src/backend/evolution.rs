//! States whose types change between one life of a program and the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strandline_state_api::{
    BackendFactory, Compatibility, Error, ErrorKind, Evolution, KeyScope, Keyed, KeyedBackend, KeyedSnapshot,
    ListDescriptor, MapDescriptor, Result, SelfDescribingCodec, SerdeCodec, SnapshotKind, Ttl,
    ValueDescriptor,
};

use super::simple::Simple;
use crate::Subject;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    cents: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    cents: u64,
    owner: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct V3 {
    euros: f64,
    owner: Option<String>,
}

fn first() -> Evolution<V1> {
    Evolution::first(1, SerdeCodec)
}

fn second() -> Evolution<V2> {
    first().then(2, SerdeCodec, |v1: V1| Ok(V2 { cents: v1.cents.into(), owner: "nobody".into() }))
}

fn third() -> Evolution<V3> {
    second().then(3, SerdeCodec, |v2: V2| {
        Ok(V3 { euros: v2.cents as f64 / 100.0, owner: Some(v2.owner).filter(|owner| owner != "nobody") })
    })
}

/// Keys of the cases.
const KEYS: u64 = 60;

/// Writes a value, a list of two and a map of two for each key, in two increments; `make` makes the values.
fn written<F: BackendFactory, V: Clone + Send + 'static>(
    subject: &Subject<F>,
    kind: SnapshotKind,
    evolution: impl Fn() -> Evolution<V>,
    make: impl Fn(u64) -> V,
) -> (Simple<F, u64>, KeyedSnapshot) {
    let mut simple = Simple::<F, u64>::new(subject);
    let states = register(&mut simple.backend, &evolution).unwrap();
    let mut snapshot = KeyedSnapshot::default();
    for keys in [0..KEYS / 2, KEYS / 3..KEYS] {
        for key in keys {
            let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
            scope.value(states.0).put(make(key)).unwrap();
            scope.list(states.1).put(vec![make(key), make(key + 1)]).unwrap();
            scope
                .map(states.2)
                .put_all([("a".to_owned(), make(key)), ("b".to_owned(), make(key + 2))])
                .unwrap();
        }
        snapshot = simple.snapshot(kind).unwrap();
    }
    (simple, snapshot)
}

type Handles<V> = (
    strandline_state_api::ValueState<V>,
    strandline_state_api::ListState<V>,
    strandline_state_api::MapState<String, V>,
);

fn register<B: KeyedBackend, V: Send + 'static>(
    backend: &mut B,
    evolution: &impl Fn() -> Evolution<V>,
) -> Result<Handles<V>> {
    Ok((
        backend.register(&ValueDescriptor::evolving("value", evolution()))?,
        backend.register(&ListDescriptor::evolving("list", evolution()))?,
        backend.register(&MapDescriptor::evolving("map", evolution()))?,
    ))
}

fn check<F: BackendFactory>(simple: &mut Simple<F, u64>, states: Handles<V3>, make: impl Fn(u64) -> V3) {
    for key in 0..KEYS {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        assert_eq!(scope.value(states.0).get().unwrap(), Some(&make(key)), "key {key}");
        assert_eq!(scope.list(states.1).get().unwrap(), [make(key), make(key + 1)], "key {key}");
        assert_eq!(scope.map(states.2).get(&"b".to_owned()).unwrap(), Some(&make(key + 2)), "key {key}");
    }
}

const KINDS: [SnapshotKind; 2] = [SnapshotKind::Incremental, SnapshotKind::Full];

/// From any version of a chain to the last, for values, lists and maps, whatever kind of snapshot; and on from there.
pub fn every_older_version_is_migrated<F: BackendFactory>(subject: &Subject<F>) {
    let from_first = |n: u64| V3 { euros: n as f64 / 100.0, owner: None };
    let from_second = |n: u64| V3 { euros: n as f64 / 100.0, owner: Some(format!("o{n}")) };
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let (mut restored, states) = simple.restore(&[snapshot], |b| register(b, &third)).unwrap();
        check(&mut restored, states, from_first);
        go_on(restored, states, from_first);
        let (simple, snapshot) = written(subject, kind, second, |n| V2 { cents: n, owner: format!("o{n}") });
        let (mut restored, states) = simple.restore(&[snapshot], |b| register(b, &third)).unwrap();
        check(&mut restored, states, from_second);
        go_on(restored, states, from_second);
        let (simple, snapshot) = written(subject, kind, third, from_second);
        let (mut restored, states) = simple.restore(&[snapshot], |b| register(b, &third)).unwrap();
        check(&mut restored, states, from_second);
    }
}

/// Snapshots after a migration hold everything in the form of today, what nobody touched too.
fn go_on<F: BackendFactory>(mut simple: Simple<F, u64>, states: Handles<V3>, make: impl Fn(u64) -> V3) {
    for round in 0..3 {
        let key = 1_000 + round;
        KeyScope::new(&mut simple.backend, Keyed::new(&key)).value(states.0).put(make(key)).unwrap();
        let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
        let of_today = || Evolution::<V3>::first(3, SerdeCodec);
        let (mut restored, states) = simple.restore(&[snapshot], |b| register(b, &of_today)).unwrap();
        check(&mut restored, states, &make);
        for key in 1_000..=key {
            let mut scope = KeyScope::new(&mut restored.backend, Keyed::new(&key));
            assert_eq!(scope.value(states.0).get().unwrap(), Some(&make(key)));
        }
    }
}

/// Reading what was migrated does not migrate it again.
pub fn a_migration_is_done_once<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let calls = Arc::new(AtomicU64::new(0));
        let counted = || {
            let calls = Arc::clone(&calls);
            first().then(2, SerdeCodec, move |v1: V1| {
                calls.fetch_add(1, Ordering::Relaxed);
                Ok(V2 { cents: v1.cents.into(), owner: String::new() })
            })
        };
        let (mut restored, states) = simple.restore(&[snapshot], |b| register(b, &counted)).unwrap();
        for _ in 0..3 {
            for key in 0..KEYS {
                let mut scope = KeyScope::new(&mut restored.backend, Keyed::new(&key));
                let value = scope.value(states.0).get().unwrap().unwrap();
                assert_eq!(value.cents, key);
                scope.list(states.1).get().unwrap();
            }
            restored.snapshot(kind).unwrap();
        }
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls <= 5 * KEYS, "{calls} values of {} were migrated", 5 * KEYS);
    }
}

/// An error of a migration comes back with the state that it happened to.
pub fn a_migration_that_fails_names_the_state<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let failing = || {
            first().then(2, SerdeCodec, |v1: V1| match v1.cents {
                41 => Err(Error::new(ErrorKind::User, "41 cents cannot be")),
                cents => Ok(V2 { cents: cents.into(), owner: String::new() }),
            })
        };
        let value = |b: &mut F::Backend<u64>| b.register(&ValueDescriptor::evolving("value", failing()));
        let error = simple.restore(&[snapshot], value).err().expect("a migration failed");
        let text = error.to_string();
        assert!(
            text.contains("41 cents") && text.contains("value") && text.contains("conformance"),
            "{text}"
        );
    }
}

/// A state gets a time-to-live, loses it, and gets it back; the values are there each time (Flink: TTL-11).
pub fn a_time_to_live_comes_and_goes<F: BackendFactory>(subject: &Subject<F>) {
    let plain = ValueDescriptor::<u64>::new("value");
    let elements = ListDescriptor::<u64>::new("list");
    let ttl = Ttl::processing_time(Duration::from_millis(10));
    let (brief, brief_elements) = (plain.clone().time_to_live(ttl), elements.clone().time_to_live(ttl));
    for kind in KINDS {
        let mut simple = Simple::<F, u64>::new(subject);
        let states = (simple.backend.register(&plain).unwrap(), simple.backend.register(&elements).unwrap());
        for key in 0..KEYS {
            let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
            scope.value(states.0).put(key).unwrap();
            scope.list(states.1).extend([key, key]).unwrap();
        }
        let snapshot = simple.snapshot(kind).unwrap();
        let register = |b: &mut F::Backend<u64>| Ok((b.register(&brief)?, b.register(&brief_elements)?));
        let (mut timed, states) = simple.restore(&[snapshot], register).unwrap();
        timed.backend.clock().processing_time = 1_000_000;
        for key in 0..KEYS {
            let mut scope = KeyScope::new(&mut timed.backend, Keyed::new(&key));
            assert_eq!(scope.value(states.0).get().unwrap(), Some(&key), "what has no stamp is fresh");
            assert_eq!(scope.list(states.1).get().unwrap().count(), 2);
            if key % 2 == 0 {
                scope.value(states.0).put(key).unwrap();
            }
        }
        timed.backend.clock().processing_time = 1_000_010;
        for key in 0..KEYS {
            let got =
                KeyScope::new(&mut timed.backend, Keyed::new(&key)).value(states.0).get().unwrap().copied();
            assert_eq!(got, (key % 2 == 1).then_some(key), "what was written has a stamp");
        }
        let snapshot = timed.snapshot(kind).unwrap();
        let register = |b: &mut F::Backend<u64>| Ok((b.register(&plain)?, b.register(&elements)?));
        let (mut untimed, states) = simple.restore(&[snapshot], register).unwrap();
        for key in 0..KEYS {
            let mut scope = KeyScope::new(&mut untimed.backend, Keyed::new(&key));
            assert_eq!(scope.value(states.0).get().unwrap().copied(), (key % 2 == 1).then_some(key));
            assert_eq!(scope.list(states.1).get().unwrap(), [key, key]);
        }
    }
}

/// What is stored under an old name is restored into the state that declares it; later snapshots have the new name only.
pub fn a_state_is_renamed<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let renamed = ValueDescriptor::evolving("amount", second()).renamed_from("value");
        let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&renamed)).unwrap();
        assert!(!restored.restored.unclaimed.contains(&"value".to_owned()), "{:?}", restored.restored);
        let snapshot = restored.snapshot(kind).unwrap();
        let plain = ValueDescriptor::evolving("amount", second());
        let (mut again, second) = restored.restore(&[snapshot], |b| b.register(&plain)).unwrap();
        for key in 0..KEYS {
            for (simple, state) in [(&mut restored, state), (&mut again, second)] {
                let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
                assert_eq!(scope.value(state).get().unwrap().map(|v| v.cents), Some(key));
            }
        }
        assert!(!again.restored.unclaimed.contains(&"value".to_owned()), "{:?}", again.restored);
    }
}

/// States that the program does not have stay what they were beside one that migrates.
pub fn what_nobody_claims_survives_a_migration<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let value = ValueDescriptor::evolving("value", third());
        let (mut restored, _) = simple.restore(&[snapshot], |b| b.register(&value)).unwrap();
        restored.restored.unclaimed.sort();
        assert_eq!(restored.restored.unclaimed, ["list", "map"]);
        let late = restored.backend.register(&ListDescriptor::<u8>::new("list"));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Invalid);
        restored.snapshot(SnapshotKind::Incremental).unwrap();
        let snapshot = restored.snapshot(kind).unwrap();
        let (mut again, states) = simple.restore(&[snapshot], |b| register(b, &third)).unwrap();
        check(&mut again, states, |n| V3 { euros: n as f64 / 100.0, owner: None });
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Small {
    id: u64,
    gone: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Grown {
    #[serde(default)]
    tags: Vec<String>,
    id: u64,
}

/// Fields that are added and removed need no migration with a codec that describes itself; going back is refused.
pub fn a_self_describing_type_grows<F: BackendFactory>(subject: &Subject<F>) {
    let small = ValueDescriptor::<Small>::with_codec("value", SelfDescribingCodec);
    let grown = ValueDescriptor::<Grown>::with_codec("value", SelfDescribingCodec).schema_version(2);
    assert_eq!(grown.schema::<u64>().compatibility(&small.meta::<u64>()).unwrap(), Compatibility::AsIs,);
    for kind in KINDS {
        let mut simple = Simple::<F, u64>::new(subject);
        let state = simple.backend.register(&small).unwrap();
        for key in 0..KEYS {
            let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
            scope.value(state).put(Small { id: key, gone: "x".into() }).unwrap();
        }
        let snapshot = simple.snapshot(kind).unwrap();
        let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&grown)).unwrap();
        for key in 0..KEYS {
            let mut scope = KeyScope::new(&mut restored.backend, Keyed::new(&key));
            assert_eq!(scope.value(state).get().unwrap(), Some(&Grown { tags: vec![], id: key }));
            if key % 2 == 0 {
                scope.value(state).put(Grown { tags: vec!["new".into()], id: key }).unwrap();
            }
        }
        let snapshot = restored.snapshot(kind).unwrap();
        let error = simple.restore(std::slice::from_ref(&snapshot), |b| b.register(&small)).err();
        let error = error.expect("an older program drops what it does not know");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let (mut again, state) = simple.restore(&[snapshot], |b| b.register(&grown)).unwrap();
        for key in 0..KEYS {
            let tags = if key % 2 == 0 { vec!["new".to_owned()] } else { vec![] };
            let mut scope = KeyScope::new(&mut again.backend, Keyed::new(&key));
            assert_eq!(scope.value(state).get().unwrap(), Some(&Grown { tags, id: key }));
        }
    }
}

/// A type that changed without a new version is not misread: the codec tells the forms apart.
pub fn another_form_of_a_type_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let (simple, snapshot) = written(subject, SnapshotKind::Incremental, first, |n| V1 { cents: n as u32 });
    let changed = ValueDescriptor::<V2>::new("value");
    let error = simple.restore(&[snapshot], |b| b.register(&changed)).err().expect("V1 is no V2");
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{text}");
    for wanted in ["value", "conformance", "version 1", "Evolution"] {
        assert!(text.contains(wanted), "no {wanted:?} in: {text}");
    }
}

/// Versions that do not rise are a mistake, told when the state is registered.
pub fn versions_must_rise<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let falling = Evolution::<u64>::first(2, SerdeCodec).then(2, SerdeCodec, Ok);
    let error = backend.register(&ValueDescriptor::<u64>::evolving("value", falling)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("value"), "{error}");
}
