//! States whose types change between one version of a program and the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::schema::Compatibility;
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    Codec, Error, ErrorKind, Evolution, KeyedBackend, ListDescriptor, ListState, MapDescriptor, MapState,
    Result, SelfDescribingCodec, SerdeCodec, Ttl, ValueDescriptor, ValueState,
};

use super::simple::{Simple, rig};
use crate::access::ms;
use crate::{Capabilities, Subject};

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

/// The number of keys in each case.
const KEYS: u64 = 60;

/// States of one evolving type.
#[derive(Clone, Copy)]
struct Evolving<V> {
    value: ValueState<V>,
    list: Option<ListState<V>>,
    map: Option<MapState<String, V>>,
}

impl<V: Send + 'static> Evolving<V> {
    fn register<B: KeyedBackend>(
        backend: &mut B,
        has: Capabilities,
        evolution: &impl Fn() -> Evolution<V>,
    ) -> Result<Self> {
        let list = || ListDescriptor::evolving("list", evolution());
        let map = || MapDescriptor::evolving("map", evolution());
        Ok(Self {
            value: backend.register(&ValueDescriptor::evolving("value", evolution()))?,
            list: has.lists.then(|| backend.register(&list())).transpose()?,
            map: has.maps.then(|| backend.register(&map())).transpose()?,
        })
    }
}

/// Writes a value, a list of two and a map of two for each key, in two increments; `make` creates the values.
fn written<F: BackendFactory, V: Clone + Send + 'static>(
    subject: &Subject<F>,
    kind: SnapshotKind,
    evolution: impl Fn() -> Evolution<V>,
    make: impl Fn(u64) -> V,
) -> (Simple<F, u64>, KeyedSnapshot) {
    let mut simple = rig::<F, u64>(subject);
    let states = Evolving::register(&mut simple.backend, subject.capabilities(), &evolution).unwrap();
    let mut snapshot = KeyedSnapshot::default();
    for keys in [0..KEYS / 2, KEYS / 3..KEYS] {
        for key in keys {
            let mut scope = simple.backend.at(&key);
            scope.state(states.value).put(make(key)).unwrap();
            if let Some(list) = states.list {
                scope.state(list).put(vec![make(key), make(key + 1)]).unwrap();
            }
            if let Some(map) = states.map {
                let entries = [("a".to_owned(), make(key)), ("b".to_owned(), make(key + 2))];
                scope.state(map).put_all(entries).unwrap();
            }
        }
        snapshot = simple.snapshot(kind).unwrap();
    }
    (simple, snapshot)
}

fn check<F: BackendFactory>(simple: &mut Simple<F, u64>, states: &Evolving<V3>, make: impl Fn(u64) -> V3) {
    for key in 0..KEYS {
        let mut scope = simple.backend.at(&key);
        assert_eq!(scope.state(states.value).get().unwrap(), Some(&make(key)), "key {key}");
        if let Some(list) = states.list {
            assert_eq!(scope.state(list).get().unwrap(), [make(key), make(key + 1)], "key {key}");
        }
        if let Some(map) = states.map {
            assert_eq!(scope.state(map).get(&"b".to_owned()).unwrap(), Some(&make(key + 2)), "key {key}");
        }
    }
}

const KINDS: [SnapshotKind; 2] = [SnapshotKind::Incremental, SnapshotKind::Full];

/// A restore migrates values, lists and maps from any version of a chain to the last, from any kind of
/// snapshot.
pub fn every_older_version_is_migrated<F: BackendFactory>(subject: &Subject<F>) {
    let from_first = |n: u64| V3 { euros: n as f64 / 100.0, owner: None };
    let from_second = |n: u64| V3 { euros: n as f64 / 100.0, owner: Some(format!("o{n}")) };
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, subject.capabilities(), &third)).unwrap();
        check(&mut restored, &states, from_first);
        go_on(restored, subject.capabilities(), &states, from_first);
        let (simple, snapshot) = written(subject, kind, second, |n| V2 { cents: n, owner: format!("o{n}") });
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, subject.capabilities(), &third)).unwrap();
        check(&mut restored, &states, from_second);
        go_on(restored, subject.capabilities(), &states, from_second);
        let (simple, snapshot) = written(subject, kind, third, from_second);
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, subject.capabilities(), &third)).unwrap();
        check(&mut restored, &states, from_second);
    }
}

/// Checks that snapshots after a migration hold everything, untouched entries, too; and that full ones hold
/// it in the current form.
fn go_on<F: BackendFactory>(
    mut simple: Simple<F, u64>,
    has: Capabilities,
    states: &Evolving<V3>,
    make: impl Fn(u64) -> V3,
) {
    let current = || Evolution::<V3>::first(3, SerdeCodec);
    for (round, kind) in [KINDS[0], KINDS[0], KINDS[1], KINDS[0]].into_iter().enumerate() {
        let key = 1_000 + round as u64;
        simple.backend.at(&key).state(states.value).put(make(key)).unwrap();
        let snapshot = simple.snapshot(kind).unwrap();
        let register = |b: &mut F::Backend<u64>| {
            // An increment after the full snapshot builds upon it.
            if round < 2 { Evolving::register(b, has, &third) } else { Evolving::register(b, has, &current) }
        };
        let (mut restored, states) = simple.restore(&[snapshot], register).unwrap();
        check(&mut restored, &states, &make);
        for key in 1_000..=key {
            let mut scope = restored.backend.at(&key);
            assert_eq!(scope.state(states.value).get().unwrap(), Some(&make(key)));
        }
    }
}

/// A read of a migrated value does not migrate it again.
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
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, subject.capabilities(), &counted)).unwrap();
        for _ in 0..3 {
            for key in 0..KEYS {
                let mut scope = restored.backend.at(&key);
                let value = scope.state(states.value).get().unwrap().unwrap();
                assert_eq!(value.cents, key);
                if let Some(list) = states.list {
                    scope.state(list).get().unwrap();
                }
            }
            restored.snapshot(kind).unwrap();
        }
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls <= 5 * KEYS, "{calls} values of {} were migrated", 5 * KEYS);
    }
}

/// The error of a failed migration names the state.
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
        let error = simple.restore(&[snapshot], value).expect_err("a migration failed");
        let text = error.to_string();
        assert!(
            text.contains("41 cents") && text.contains("value") && text.contains("conformance"),
            "{text}"
        );
    }
}

/// A state gains a time-to-live, loses it, and gains it again, and keeps its values each time (Flink:
/// TTL-11).
pub fn a_time_to_live_comes_and_goes<F: BackendFactory>(subject: &Subject<F>) {
    let plain = ValueDescriptor::<u64>::new("value");
    let elements = ListDescriptor::<u64>::new("list");
    let ttl = Ttl::processing_time(Duration::from_millis(10));
    let (brief, brief_elements) = (plain.clone().time_to_live(ttl), elements.clone().time_to_live(ttl));
    let has = subject.capabilities();
    let lasting = |b: &mut F::Backend<u64>| {
        Ok((b.register(&plain)?, has.lists.then(|| b.register(&elements)).transpose()?))
    };
    let expiring = |b: &mut F::Backend<u64>| {
        Ok((b.register(&brief)?, has.lists.then(|| b.register(&brief_elements)).transpose()?))
    };
    for kind in KINDS {
        let mut simple = rig::<F, u64>(subject);
        let (value, list) = lasting(&mut simple.backend).unwrap();
        for key in 0..KEYS {
            simple.backend.at(&key).state(value).put(key).unwrap();
            if let Some(list) = list {
                simple.backend.at(&key).state(list).extend([key, key]).unwrap();
            }
        }
        let snapshot = simple.snapshot(kind).unwrap();
        let (mut timed, (value, list)) = simple.restore(&[snapshot], expiring).unwrap();
        timed.backend.clock().processing_time = ms(1_000_000);
        for key in 0..KEYS {
            let mut scope = timed.backend.at(&key);
            assert_eq!(scope.state(value).get().unwrap(), Some(&key), "a value without a stamp is fresh");
            if let Some(list) = list {
                assert_eq!(scope.state(list).get().unwrap().len(), 2);
            }
            if key % 2 == 0 {
                scope.state(value).put(key).unwrap();
            }
        }
        timed.backend.clock().processing_time = ms(1_000_010);
        for key in 0..KEYS {
            let got = timed.backend.at(&key).state(value).get().unwrap().copied();
            assert_eq!(got, (key % 2 == 1).then_some(key), "a write stamps the value");
        }
        let snapshot = timed.snapshot(kind).unwrap();
        let (mut untimed, (value, list)) = simple.restore(&[snapshot], lasting).unwrap();
        for key in 0..KEYS {
            let mut scope = untimed.backend.at(&key);
            assert_eq!(scope.state(value).get().unwrap().copied(), (key % 2 == 1).then_some(key));
            if let Some(list) = list {
                assert_eq!(scope.state(list).get().unwrap(), [key, key]);
            }
        }
    }
}

/// A state restores what is stored under its former name; later snapshots have the new name only.
pub fn a_state_is_renamed<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let renamed = ValueDescriptor::evolving("amount", second()).renamed_from("value");
        let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&renamed)).unwrap();
        assert!(!restored.restored().orphans.contains(&"value".to_owned()), "{:?}", restored.restored());
        let snapshot = restored.snapshot(kind).unwrap();
        let plain = ValueDescriptor::evolving("amount", second());
        let (mut again, second) = restored.restore(&[snapshot], |b| b.register(&plain)).unwrap();
        for key in 0..KEYS {
            for (simple, state) in [(&mut restored, state), (&mut again, second)] {
                let mut scope = simple.backend.at(&key);
                assert_eq!(scope.state(state).get().unwrap().map(|v| v.cents), Some(key));
            }
        }
        assert!(!again.restored().orphans.contains(&"value".to_owned()), "{:?}", again.restored());
    }
}

/// States that no program claims stay as they are beside one that migrates.
pub fn what_nobody_claims_survives_a_migration<F: BackendFactory>(subject: &Subject<F>) {
    for kind in KINDS {
        let (simple, snapshot) = written(subject, kind, first, |n| V1 { cents: n as u32 });
        let value = ValueDescriptor::evolving("value", third());
        let (mut restored, _) = simple.restore(&[snapshot], |b| b.register(&value)).unwrap();
        let mut orphans = restored.restored().orphans.clone();
        orphans.sort();
        assert_eq!(orphans, ["list", "map"]);
        let late = restored.backend.register(&ListDescriptor::<u8>::new("list"));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Invalid);
        restored.snapshot(SnapshotKind::Incremental).unwrap();
        let snapshot = restored.snapshot(kind).unwrap();
        let (mut again, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, subject.capabilities(), &third)).unwrap();
        check(&mut again, &states, |n| V3 { euros: n as f64 / 100.0, owner: None });
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

/// Added and removed fields need no migration with a self-describing codec; an older program is refused.
pub fn a_self_describing_type_grows<F: BackendFactory>(subject: &Subject<F>) {
    let small = ValueDescriptor::<Small>::with_codec("value", SelfDescribingCodec);
    let grown = ValueDescriptor::<Grown>::with_codec("value", SelfDescribingCodec).schema_version(2);
    let schema = |register: &dyn Fn(&mut F::Backend<u64>) -> Result<()>| {
        let mut backend = subject.backend();
        register(&mut backend).unwrap();
        backend.schemas().remove(0)
    };
    let stored = schema(&|b| b.register(&small).map(|_| ())).meta;
    let current = schema(&|b| b.register(&grown).map(|_| ()));
    assert_eq!(current.compatibility(&stored).unwrap(), Compatibility::AsIs);
    for kind in KINDS {
        let mut simple = rig::<F, u64>(subject);
        let state = simple.backend.register(&small).unwrap();
        for key in 0..KEYS {
            let mut scope = simple.backend.at(&key);
            scope.state(state).put(Small { id: key, gone: "x".into() }).unwrap();
        }
        let snapshot = simple.snapshot(kind).unwrap();
        let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&grown)).unwrap();
        for key in 0..KEYS {
            let mut scope = restored.backend.at(&key);
            assert_eq!(scope.state(state).get().unwrap(), Some(&Grown { tags: vec![], id: key }));
            if key % 2 == 0 {
                scope.state(state).put(Grown { tags: vec!["new".into()], id: key }).unwrap();
            }
        }
        let snapshot = restored.snapshot(kind).unwrap();
        let error = simple.restore(std::slice::from_ref(&snapshot), |b| b.register(&small)).err();
        let error = error.expect("an older program would drop fields that it does not have");
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let (mut again, state) = simple.restore(&[snapshot], |b| b.register(&grown)).unwrap();
        for key in 0..KEYS {
            let tags = if key % 2 == 0 { vec!["new".to_owned()] } else { vec![] };
            let mut scope = again.backend.at(&key);
            assert_eq!(scope.state(state).get().unwrap(), Some(&Grown { tags, id: key }));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cents {
    cents: u32,
    owner: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CentsAsText {
    cents: String,
    #[serde(default)]
    owner: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WiderCents {
    cents: u64,
    #[serde(alias = "owner")]
    holder: Option<String>,
}

/// The self-describing codec as it was before its id held the form of the type.
struct Unnamed;

impl<T: Serialize + serde::de::DeserializeOwned + 'static> Codec<T> for Unnamed {
    fn id(&self) -> String {
        "msgpack".into()
    }

    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        SelfDescribingCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<T> {
        SelfDescribingCodec.decode(bytes)
    }

    fn is_self_describing(&self) -> bool {
        true
    }
}

/// A field that changed its type is refused under a self-describing codec, too: by the plan, and by a restore
/// before it reads anything, as incompatible and not as corrupt. A wider number and another name are read; so
/// is what was stored before forms were.
pub fn a_field_of_another_type_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let make = |n: u64| Cents { cents: n as u32, owner: Some(format!("o{n}")) };
    for (kind, version) in KINDS.into_iter().zip([1, 2]) {
        let first = || Evolution::<Cents>::first(1, SelfDescribingCodec);
        let (simple, snapshot) = written(subject, kind, first, make);
        let text = || Evolution::<CentsAsText>::first(version, SelfDescribingCodec);
        let restored = simple.restore(std::slice::from_ref(&snapshot), |b| Evolving::register(b, has, &text));
        let refused = restored.err().expect("a number is no text");
        let mut backend = subject.backend::<u64>();
        Evolving::register(&mut backend, has, &text).unwrap();
        for schema in backend.schemas() {
            let stored = snapshot.states.iter().find(|meta| meta.name == schema.meta.name).unwrap();
            let planned = schema.compatibility(stored).unwrap_err();
            for error in [&refused, &planned] {
                assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
                for wanted in ["\"cents\"", "u32", "str"] {
                    assert!(error.to_string().contains(wanted), "no {wanted:?} in: {error}");
                }
            }
            assert_eq!(planned.context("state"), Some(schema.meta.name.as_str()));
        }
        let wider = || Evolution::<WiderCents>::first(version, SelfDescribingCodec);
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, has, &wider)).unwrap();
        let wanted = WiderCents { cents: 5, holder: Some("o5".into()) };
        assert_eq!(restored.backend.at(&5).state(states.value).get().unwrap(), Some(&wanted));

        let before = || Evolution::<Cents>::first(1, Unnamed);
        let (simple, snapshot) = written(subject, kind, before, make);
        let (mut restored, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, has, &first)).unwrap();
        assert_eq!(restored.backend.at(&5).state(states.value).get().unwrap(), Some(&make(5)));
        restored.backend.at(&5).state(states.value).put(make(6)).unwrap();
        let snapshot = restored.snapshot(SnapshotKind::Incremental).unwrap();
        let (mut again, states) =
            simple.restore(&[snapshot], |b| Evolving::register(b, has, &first)).unwrap();
        for (key, n) in [(5, 6), (7, 7)] {
            assert_eq!(again.backend.at(&key).state(states.value).get().unwrap(), Some(&make(n)));
        }
    }
}

/// A restore refuses a type that changed without a new version: the codec's name differs.
pub fn another_form_of_a_type_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    let (simple, snapshot) = written(subject, SnapshotKind::Incremental, first, |n| V1 { cents: n as u32 });
    let changed = ValueDescriptor::<V2>::new("value");
    let error = simple.restore(&[snapshot], |b| b.register(&changed)).expect_err("V1 is no V2");
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{text}");
    for wanted in ["value", "conformance", "version 1", "Evolution"] {
        assert!(text.contains(wanted), "no {wanted:?} in: {text}");
    }
}

/// The registration refuses versions that do not rise.
pub fn versions_must_rise<F: BackendFactory>(subject: &Subject<F>) {
    let mut backend = subject.backend::<u64>();
    let falling = Evolution::<u64>::first(2, SerdeCodec).then(2, SerdeCodec, Ok);
    let error = backend.register(&ValueDescriptor::<u64>::evolving("value", falling)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("value"), "{error}");
}
