//! States of a snapshot that the program does not declare, or declares in another form.

use std::sync::Arc;

use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, RestoreSnapshot, SnapshotKind,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    Codec, ErrorKind, Evolution, ListDescriptor, MapDescriptor, ReducingDescriptor, Result, SerdeCodec,
    StateKey, TimerDescriptor, ValueDescriptor,
};
use strandline_state_testing::Rig;

use super::faults::NoThirteen;
use super::simple::{Simple, rig, rig_on};
use crate::wait::wait;
use crate::world::{States, Taken, World};
use crate::{OptionalKind, Subject};

/// Encodes numbers in another byte order.
struct BigEndian;

impl Codec<u64> for BigEndian {
    fn id(&self) -> String {
        "u64-be".into()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        Codec::<u64>::decode(&SerdeCodec, bytes).map(u64::swap_bytes)
    }
}

/// Creates a backend with a value, a list, a map and timers, where it has these kinds, and takes a snapshot.
fn stored<F: BackendFactory>(subject: &Subject<F>) -> (Simple<F, u64>, KeyedSnapshot) {
    let (mut simple, has) = (rig::<F, u64>(subject), subject.capabilities());
    let b = &mut simple.backend;
    let value = b.register(&ValueDescriptor::<u64>::new("value")).unwrap();
    let list = has.lists.then(|| b.register(&ListDescriptor::<u64>::new("list")).unwrap());
    let map = has.maps.then(|| b.register(&MapDescriptor::<u64, u64>::new("map")).unwrap());
    let timers = TimerDescriptor::<()>::event_time("timers");
    let timers = has.timers.then(|| b.register(&timers).unwrap());
    for key in 0..20 {
        let mut scope = b.at(&key);
        scope.state(value).put(key).unwrap();
        if let Some(list) = list {
            scope.state(list).extend([key, key]).unwrap();
        }
        if let Some(map) = map {
            scope.state(map).put(key, key).unwrap();
        }
        if let Some(timers) = timers {
            scope.state(timers).register(key as i64).unwrap();
        }
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    (simple, snapshot)
}

/// A restore refuses another kind, codec, namespace, map key or schema version than was stored, and names the
/// state.
pub fn another_type_than_was_stored_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    use OptionalKind::{Lists, Maps, Timers};
    type Register<B> = fn(&mut B) -> Result<()>;
    type Attempt<'a, B> = (&'a [OptionalKind], &'a str, &'a str, Register<B>);
    let (simple, snapshot) = stored(subject);
    let attempts: Vec<Attempt<'_, F::Backend<u64>>> = vec![
        (&[], "value", "codec", |b| b.register(&ValueDescriptor::<String>::new("value")).map(drop)),
        (&[], "value", "codec of one's own", |b| {
            b.register(&ValueDescriptor::with_codec("value", BigEndian)).map(drop)
        }),
        (&[], "value", "namespace", |b| {
            b.register(&ValueDescriptor::<u64>::new("value").namespaced::<u8>()).map(drop)
        }),
        (&[], "value", "schema version", |b| {
            b.register(&ValueDescriptor::<u64>::new("value").schema_version(2)).map(drop)
        }),
        (&[], "value", "folding kind", |b| {
            b.register(&ReducingDescriptor::<u64>::new("value", |a, b| *a += b)).map(drop)
        }),
        (&[Lists], "value", "kind", |b| b.register(&ListDescriptor::<u64>::new("value")).map(drop)),
        (&[Lists], "list", "codec", |b| b.register(&ListDescriptor::<i64>::new("list")).map(drop)),
        (&[Lists], "list", "kind", |b| b.register(&ValueDescriptor::<u64>::new("list")).map(drop)),
        (&[Maps], "map", "map key", |b| b.register(&MapDescriptor::<i64, u64>::new("map")).map(drop)),
        (&[Maps], "map", "codec", |b| b.register(&MapDescriptor::<u64, i64>::new("map")).map(drop)),
        (&[Maps, Timers], "map", "kind", |b| b.register(&TimerDescriptor::<()>::event_time("map")).map(drop)),
        (&[Timers], "timers", "namespace", |b| {
            b.register(&TimerDescriptor::<u64>::event_time("timers")).map(drop)
        }),
        (&[Maps, Timers], "timers", "kind", |b| {
            b.register(&MapDescriptor::<u64, u64>::new("timers")).map(drop)
        }),
    ];
    for (needs, state, what, register) in attempts {
        if !needs.iter().all(|kind| subject.capabilities().has(*kind)) {
            continue;
        }
        let result = simple.restore(std::slice::from_ref(&snapshot), register);
        let error = result.err().unwrap_or_else(|| panic!("another {what} of `{state}` is accepted"));
        assert_eq!(error.kind(), ErrorKind::Incompatible, "another {what} of `{state}`: {error}");
        assert!(
            error.to_string().contains(state),
            "another {what}: the error does not name `{state}`: {error}"
        );
    }
}

/// A restore refuses keys of another type than were stored.
pub fn another_type_of_key_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    fn restore_as<F: BackendFactory, K: StateKey>(subject: &Subject<F>) {
        let (simple, snapshot) = stored(subject);
        let mut backend = subject.backend::<K>();
        backend.register(&ValueDescriptor::<u64>::new("value")).unwrap();
        let error = wait(backend.restore(&[snapshot], simple.store().as_ref())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "keys as {}: {error}", K::codec());
    }
    restore_as::<F, String>(subject);
    restore_as::<F, i64>(subject);
    restore_as::<F, Vec<u8>>(subject);
}

/// A registration refuses a state that a restore has met before: its types were never compared.
pub fn a_restored_state_is_registered_before_and_not_after<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    let mut writer = rig::<F, u64>(subject);
    let value = ValueDescriptor::<u64>::new("value");
    let state = writer.backend.register(&value).unwrap();
    writer.backend.at(&7).state(state).put(7).unwrap();
    let other = writer.backend.register(&ValueDescriptor::<u64>::new("other")).unwrap();
    writer.backend.at(&7).state(other).put(8).unwrap();
    let snapshot = writer.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut restored, state) = writer.restore(&[snapshot], |b| b.register(&value)).unwrap();
    let refused = |result: Result<()>, name: &str| {
        let error = result.err().unwrap_or_else(|| panic!("`{name}` is registered late"));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(name), "the error does not name `{name}`: {error}");
    };
    refused(restored.backend.register(&ValueDescriptor::<u64>::new("other")).map(drop), "other");
    restored.backend.register(&value).unwrap();
    restored.backend.register(&ValueDescriptor::<u64>::new("brand-new")).unwrap();
    assert_eq!(restored.backend.at(&7).state(state).get().unwrap(), Some(&7));

    let (simple, snapshot) = stored(subject);
    let (mut restored, _) = simple.restore(&[snapshot], |b| b.register(&value)).unwrap();
    if has.lists {
        refused(restored.backend.register(&ListDescriptor::<u64>::new("list")).map(drop), "list");
    }
    if has.maps {
        refused(restored.backend.register(&MapDescriptor::<u64, u64>::new("map")).map(drop), "map");
    }
    if has.timers {
        refused(restored.backend.register(&TimerDescriptor::<()>::event_time("timers")).map(drop), "timers");
    }
}

/// A restore reports state that no registered state claims; the backend keeps it, and writes it in every
/// later snapshot, until a program claims it (Flink: KS-09).
pub fn unclaimed_state_is_kept_and_written_again<F: BackendFactory>(subject: &Subject<F>) {
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full] {
        let mut world = World::new(subject);
        world.shake(600, 300);
        world.snapshot(SnapshotKind::Incremental);
        world.shake(601, 100);
        let Taken { mut snapshot, mut contents } = world.snapshot(SnapshotKind::Incremental);
        for life in 0..3 {
            // The first program knows one of the states, the others know none.
            let simple = rig_on::<F, String>(subject, world.store.clone());
            let total = |backend: &mut F::Backend<String>| match life {
                0 => backend.register(&crate::world::total()).map(Some),
                _ => Ok(None),
            };
            let (mut other, state) = simple.restore(&[snapshot], total).unwrap();
            let mut orphans = other.restored().orphans.clone();
            orphans.sort();
            let names = States::names(subject.capabilities()).into_iter();
            let wanted: Vec<&str> = names.filter(|name| life > 0 || *name != "total").collect();
            assert_eq!(orphans, wanted);
            if let Some(state) = state {
                let key = String::from("a");
                other.backend.at(&key).state(state).put(77).unwrap();
                contents.totals.insert(key, 77);
            }
            let late = other.backend.register(&ValueDescriptor::<String>::new("label"));
            assert_eq!(late.unwrap_err().kind(), ErrorKind::Invalid);
            other.snapshot(kind).unwrap();
            snapshot = other.snapshot(kind).unwrap();
        }
        world.check_snapshot(&Taken { snapshot, contents }).unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
    }
}

/// State that nobody claims is kept, too, by the snapshot that follows one which failed.
pub fn unclaimed_state_survives_a_snapshot_that_fails<F: BackendFactory>(subject: &Subject<F>) {
    let numbers = ValueDescriptor::<u64>::with_codec("numbers", NoThirteen);
    let other = ValueDescriptor::<u64>::new("other");
    let mut simple = rig::<F, u64>(subject);
    let states = (simple.backend.register(&numbers).unwrap(), simple.backend.register(&other).unwrap());
    for key in 0..20 {
        simple.backend.at(&key).state(states.0).put(100 + key).unwrap();
        simple.backend.at(&key).state(states.1).put(200 + key).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&numbers)).unwrap();
    let put = restored.backend.at(&5).state(state).put(13);
    let failed = put.err().or_else(|| restored.snapshot(SnapshotKind::Incremental).err());
    assert_eq!(failed.map(|error| error.kind()), Some(ErrorKind::User), "thirteen cannot be written");
    restored.backend.at(&5).state(state).put(14).unwrap();
    let snapshot = restored.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| Ok((b.register(&numbers)?, b.register(&other)?));
    let (mut again, states) = restored.restore(&[snapshot], register).unwrap();
    for key in 0..20 {
        let mut scope = again.backend.at(&key);
        let wanted = if key == 5 { 14 } else { 100 + key };
        assert_eq!(scope.state(states.0).get().unwrap(), Some(&wanted), "key {key}");
        assert_eq!(scope.state(states.1).get().unwrap(), Some(&(200 + key)), "key {key}");
    }
}

/// State that nobody claims is not mixed where two subtasks have stored it in different forms: the restore
/// refuses it by its name, or keeps both forms, for a program that reads both.
pub fn unclaimed_state_in_two_forms_is_not_mixed<F: BackendFactory>(subject: &Subject<F>) {
    let first = || Evolution::<u32>::first(1, SerdeCodec);
    let second = || first().then(2, SerdeCodec, |old| Ok(1_000 + u64::from(old)));
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full] {
        let simple = rig::<F, u64>(subject);
        let in_half = |subtask| {
            let scope = BackendScope::new(Subject::<F>::scope().operator, subtask, 2);
            Rig::in_scope(subject.factory().clone(), Arc::clone(simple.store()), scope).unwrap()
        };
        let (mut lower, mut upper): (Simple<F, u64>, Simple<F, u64>) = (in_half(0), in_half(1));
        let older = lower.backend.register(&ValueDescriptor::evolving("numbers", first())).unwrap();
        let newer = upper.backend.register(&ValueDescriptor::evolving("numbers", second())).unwrap();
        for key in 0..20 {
            if lower.owns(&key) {
                lower.at(&key).state(older).put(key as u32).unwrap();
            } else {
                upper.at(&key).state(newer).put(1_000 + key).unwrap();
            }
        }
        let snapshots = [lower.snapshot(kind).unwrap(), upper.snapshot(kind).unwrap()];
        let mut restored = match simple.restore(&snapshots, |_| Ok(())) {
            Ok((restored, ())) => restored,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
                assert_eq!(error.context("state"), Some("numbers"), "{error}");
                continue;
            }
        };
        assert_eq!(restored.restored().orphans, ["numbers"]);
        restored.snapshot(SnapshotKind::Incremental).unwrap();
        let snapshot = restored.snapshot(kind).unwrap();
        let numbers = ValueDescriptor::evolving("numbers", second());
        let (mut again, state) = simple.restore(&[snapshot], |b| b.register(&numbers)).unwrap();
        for key in 0..20 {
            assert_eq!(again.at(&key).state(state).get().unwrap(), Some(&(1_000 + key)), "key {key}");
        }
    }
}
