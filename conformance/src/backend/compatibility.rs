//! What a snapshot holds and what the program declares: unclaimed, changed, and refused.

use strandline_state_api::{
    BackendFactory, Codec, ErrorKind, KeyScope, Keyed, KeyedBackend, ListDescriptor, MapDescriptor,
    RestoreSnapshot, Result, SerdeCodec, SnapshotKind, StateKey, TimerDescriptor, ValueDescriptor,
};

use super::simple::Simple;
use crate::Subject;
use crate::wait::wait;
use crate::world::{States, Taken, World};

/// Another byte form of the same numbers.
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

/// A backend that holds a value, a list, a map and timers, and its snapshot.
fn stored<F: BackendFactory>(subject: &Subject<F>) -> (Simple<F, u64>, strandline_state_api::KeyedSnapshot) {
    let mut simple = Simple::<F, u64>::new(subject);
    let value = simple.backend.register_value(&ValueDescriptor::<u64>::new("value")).unwrap();
    let list = simple.backend.register_list(&ListDescriptor::<u64>::new("list")).unwrap();
    let map = simple.backend.register_map(&MapDescriptor::<u64, u64>::new("map")).unwrap();
    let timers = simple.backend.register_timers(&TimerDescriptor::<()>::event_time("timers")).unwrap();
    for key in 0..20 {
        let mut scope = KeyScope::new(&mut simple.backend, Keyed::new(&key));
        scope.value(value).put(key).unwrap();
        scope.list(list).extend([key, key]).unwrap();
        scope.map(map).put(key, key).unwrap();
        scope.timers(timers).register(key as i64).unwrap();
    }
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    (simple, snapshot)
}

/// Another kind, codec, namespace, map key or schema version than was stored: refused, with the name of the state.
pub fn another_type_than_was_stored_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    type Register<B> = Box<dyn FnOnce(&mut B) -> Result<()>>;
    type Case<'a, B> = (&'a str, &'a str, Register<B>);
    let (simple, snapshot) = stored(subject);
    let cases: Vec<Case<'_, F::Backend<u64>>> = vec![
        (
            "value",
            "codec",
            Box::new(|b| b.register_value(&ValueDescriptor::<String>::new("value")).map(drop)),
        ),
        (
            "value",
            "codec of one's own",
            Box::new(|b| b.register_value(&ValueDescriptor::with_codec("value", BigEndian)).map(drop)),
        ),
        (
            "value",
            "namespace",
            Box::new(|b| {
                b.register_value(&ValueDescriptor::<u64>::new("value").namespaced::<u8>()).map(drop)
            }),
        ),
        (
            "value",
            "schema version",
            Box::new(|b| b.register_value(&ValueDescriptor::<u64>::new("value").schema_version(2)).map(drop)),
        ),
        ("value", "kind", Box::new(|b| b.register_list(&ListDescriptor::<u64>::new("value")).map(drop))),
        ("list", "codec", Box::new(|b| b.register_list(&ListDescriptor::<i64>::new("list")).map(drop))),
        ("list", "kind", Box::new(|b| b.register_value(&ValueDescriptor::<u64>::new("list")).map(drop))),
        ("map", "map key", Box::new(|b| b.register_map(&MapDescriptor::<i64, u64>::new("map")).map(drop))),
        ("map", "codec", Box::new(|b| b.register_map(&MapDescriptor::<u64, i64>::new("map")).map(drop))),
        ("map", "kind", Box::new(|b| b.register_timers(&TimerDescriptor::<()>::event_time("map")).map(drop))),
        (
            "timers",
            "namespace",
            Box::new(|b| b.register_timers(&TimerDescriptor::<u64>::event_time("timers")).map(drop)),
        ),
        ("timers", "kind", Box::new(|b| b.register_map(&MapDescriptor::<u64, u64>::new("timers")).map(drop))),
    ];
    for (state, what, register) in cases {
        let result = simple.restore(std::slice::from_ref(&snapshot), register);
        let error = result.err().unwrap_or_else(|| panic!("another {what} of `{state}` is accepted"));
        assert_eq!(error.kind(), ErrorKind::Incompatible, "another {what} of `{state}`: {error}");
        assert!(
            error.to_string().contains(state),
            "another {what}: the error does not name `{state}`: {error}"
        );
    }
}

/// Keys of another type than were stored are refused.
pub fn another_type_of_key_is_refused<F: BackendFactory>(subject: &Subject<F>) {
    fn restore_as<F: BackendFactory, K: StateKey>(subject: &Subject<F>) {
        let (simple, snapshot) = stored(subject);
        let mut backend = subject.backend::<K>();
        backend.register_value(&ValueDescriptor::<u64>::new("value")).unwrap();
        let error = wait(backend.restore(&[snapshot], simple.store.as_ref())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "keys as {}: {error}", K::codec());
    }
    restore_as::<F, String>(subject);
    restore_as::<F, i64>(subject);
    restore_as::<F, Vec<u8>>(subject);
}

/// A state that was restored may not be registered afterwards with types that were never compared.
pub fn a_restored_state_is_registered_before_and_not_after<F: BackendFactory>(subject: &Subject<F>) {
    let (simple, snapshot) = stored(subject);
    let value = ValueDescriptor::<u64>::new("value");
    let (mut restored, state) = simple.restore(&[snapshot], |b| b.register_value(&value)).unwrap();
    let results = [
        restored.backend.register_list(&ListDescriptor::<u64>::new("list")).map(drop),
        restored.backend.register_map(&MapDescriptor::<u64, u64>::new("map")).map(drop),
        restored.backend.register_timers(&TimerDescriptor::<()>::event_time("timers")).map(drop),
    ];
    for (result, name) in results.into_iter().zip(["list", "map", "timers"]) {
        let error = result.err().unwrap_or_else(|| panic!("`{name}` is registered late"));
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(name), "the error does not name `{name}`: {error}");
    }
    restored.backend.register_value(&value).unwrap();
    restored.backend.register_value(&ValueDescriptor::<u64>::new("brand-new")).unwrap();
    let mut scope = KeyScope::new(&mut restored.backend, Keyed::new(&7));
    assert_eq!(scope.value(state).get().unwrap(), Some(&7));
}

/// State that no registered state claims is reported, kept, written again by every later snapshot, and there when it is
/// claimed at last (Flink: KS-09).
pub fn unclaimed_state_is_kept_and_written_again<F: BackendFactory>(subject: &Subject<F>) {
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full] {
        let mut world = World::new(subject);
        world.shake(600, 300);
        world.snapshot(SnapshotKind::Incremental);
        world.shake(601, 100);
        let Taken { mut snapshot, mut contents } = world.snapshot(SnapshotKind::Incremental);
        for life in 0..3 {
            // A program that knows one of the states, and two that know none.
            let simple = Simple::<F, String> { store: world.store.clone(), ..Simple::new(subject) };
            let total = |backend: &mut F::Backend<String>| match life {
                0 => backend.register_value(&crate::world::total()).map(Some),
                _ => Ok(None),
            };
            let (mut other, state) = simple.restore(&[snapshot], total).unwrap();
            other.restored.unclaimed.sort();
            let wanted: Vec<&str> =
                States::NAMES.iter().copied().filter(|name| life > 0 || *name != "total").collect();
            assert_eq!(other.restored.unclaimed, wanted);
            if let Some(state) = state {
                let key = String::from("a");
                KeyScope::new(&mut other.backend, Keyed::new(&key)).value(state).put(77).unwrap();
                contents.totals.insert(key, 77);
            }
            let late = other.backend.register_list(&ListDescriptor::<String>::new("lines"));
            assert_eq!(late.unwrap_err().kind(), ErrorKind::Invalid);
            other.snapshot(kind).unwrap();
            snapshot = other.snapshot(kind).unwrap();
        }
        world.check_snapshot(&Taken { snapshot, contents }).unwrap_or_else(|e| panic!("{kind:?}: {e:?}"));
    }
}
