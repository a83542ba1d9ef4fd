//! Entries that are larger than the format allows are refused by the access, or named by the snapshot, and harm
//! nothing once they are gone.

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::{
    Error, ErrorKind, ListDescriptor, MapDescriptor, ReducingDescriptor, Result, ValueDescriptor,
};

use super::simple::rig;
use crate::Subject;

/// More bytes than an entry may have: 64 MiB less 1 KiB.
const TOO_MANY: usize = 65 << 20;

const KINDS: [SnapshotKind; 2] = [SnapshotKind::Incremental, SnapshotKind::Full];

fn large(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Sets what is too large. The access refuses it, or the next snapshot does, and names state and key; once
/// `remove` has removed it, the next snapshots hold everything else.
fn check<F: BackendFactory>(
    subject: &Subject<F>,
    (state, key): (&str, &str),
    set: impl Fn(&mut F::Backend<String>) -> Result<()>,
    remove: impl Fn(&mut F::Backend<String>) -> Result<()>,
) {
    let small = ValueDescriptor::<u64>::new("small");
    // Where both are in one format, one is enough: each takes seconds.
    let kinds = if subject.capabilities().portable_increments { &KINDS[..1] } else { &KINDS[..] };
    for kind in kinds.iter().copied() {
        let mut simple = rig::<F, String>(subject);
        let counts = simple.backend.register(&small).unwrap();
        // Registers the state.
        remove(&mut simple.backend).unwrap();
        for n in 0..50 {
            simple.backend.at(&format!("key-{n}")).state(counts).put(n).unwrap();
        }
        simple.snapshot(SnapshotKind::Incremental).unwrap();
        simple.backend.at(&"key-1".to_owned()).state(counts).put(1_000).unwrap();
        if let Err(error) = set(&mut simple.backend) {
            named(&error, state);
        } else {
            match simple.snapshot(kind) {
                Ok(_) if kind == SnapshotKind::Incremental && !subject.capabilities().portable_increments => {
                }
                Ok(_) => panic!("{kind:?}: a snapshot of {state} is too large for its format"),
                Err(error) => {
                    named(&error, state);
                    assert!(error.to_string().contains(key), "no {key:?} in: {error}");
                }
            }
        }
        simple.backend.at(&"key-2".to_owned()).state(counts).put(2_000).unwrap();
        remove(&mut simple.backend).unwrap();
        for kind in [kind, SnapshotKind::Incremental] {
            let snapshot = simple.snapshot(kind).unwrap();
            let register = |b: &mut F::Backend<String>| {
                remove(b)?;
                b.register(&small)
            };
            let (mut restored, counts) = simple.restore(&[snapshot], register).unwrap();
            for n in 0..50 {
                let wanted = if n == 1 || n == 2 { n * 1_000 } else { n };
                let key = format!("key-{n}");
                assert_eq!(restored.backend.at(&key).state(counts).get().unwrap(), Some(&wanted), "{state}");
            }
        }
    }
}

fn named(error: &Error, state: &str) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(error.context("state"), Some(state), "{error}");
}

/// A value, of a put, a change and a fold.
pub fn a_value_that_no_snapshot_can_hold<F: BackendFactory>(subject: &Subject<F>) {
    let key = "mine".to_owned();
    let value = ValueDescriptor::<String>::new("texts");
    for changed in [false, true] {
        check(
            subject,
            ("texts", "mine"),
            |b| {
                let state = b.register(&value)?;
                let mut scope = b.at(&key);
                if !changed {
                    return scope.state(state).put(large(TOO_MANY));
                }
                scope.state(state).put("small".into())?;
                scope.state(state).modify(String::new, |text| text.push_str(&large(TOO_MANY)))
            },
            |b| {
                let state = b.register(&value)?;
                b.at(&key).state(state).clear().map(drop)
            },
        );
    }
    let joined = ReducingDescriptor::new("joined", |text: &mut String, more: String| text.push_str(&more));
    check(
        subject,
        ("joined", "mine"),
        |b| {
            let state = b.register(&joined)?;
            b.at(&key).state(state).add(large(TOO_MANY / 2))?;
            b.at(&key).state(state).add(large(TOO_MANY / 2 + 1))
        },
        |b| {
            let state = b.register(&joined)?;
            b.at(&key).state(state).clear().map(drop)
        },
    );
}

/// One element, and a list whose elements are small enough each.
pub fn a_list_that_no_snapshot_can_hold<F: BackendFactory>(subject: &Subject<F>) {
    let key = "mine".to_owned();
    let list = ListDescriptor::<String>::new("lines");
    let clear = |b: &mut F::Backend<String>| {
        let state = b.register(&list)?;
        b.at(&key).state(state).clear().map(drop)
    };
    let push = |b: &mut F::Backend<String>, bytes: usize| {
        let state = b.register(&list)?;
        b.at(&key).state(state).push(large(bytes))
    };
    check(subject, ("lines", "mine"), |b| push(b, TOO_MANY), clear);
    check(subject, ("lines", "mine"), |b| (0..2).try_for_each(|_| push(b, TOO_MANY / 2 + 1)), clear);
}

/// A list that grows over several snapshots, each of which holds a small piece of it.
pub fn a_list_that_grows_too_large<F: BackendFactory>(subject: &Subject<F>) {
    let list = ListDescriptor::<String>::new("lines");
    let mut simple = rig::<F, String>(subject);
    let state = simple.backend.register(&list).unwrap();
    let key = "mine".to_owned();
    let mut refused = false;
    for _ in 0..4 {
        let pushed = simple.backend.at(&key).state(state).push(large(TOO_MANY / 3));
        let taken = pushed.and_then(|()| simple.snapshot(SnapshotKind::Incremental).map(drop));
        if let Err(error) = taken {
            named(&error, "lines");
            refused = true;
        }
    }
    assert!(refused || !subject.capabilities().portable_increments);
    simple.backend.at(&key).state(state).clear().unwrap();
    simple.backend.at(&key).state(state).push("small".into()).unwrap();
    for kind in KINDS {
        let snapshot = simple.snapshot(kind).unwrap();
        let (mut restored, state) = simple.restore(&[snapshot], |b| b.register(&list)).unwrap();
        assert_eq!(restored.backend.at(&key).state(state).get().unwrap(), ["small".to_owned()]);
    }
}

/// A map entry, by its value and by its map key.
pub fn a_map_entry_that_no_snapshot_can_hold<F: BackendFactory>(subject: &Subject<F>) {
    let key = "mine".to_owned();
    let map = MapDescriptor::<String, String>::new("fields");
    for (map_key, value) in [(1, TOO_MANY), (TOO_MANY / 2, TOO_MANY / 2)] {
        check(
            subject,
            ("fields", "mine"),
            |b| {
                let state = b.register(&map)?;
                b.at(&key).state(state).put(large(map_key), large(value))
            },
            |b| {
                let state = b.register(&map)?;
                b.at(&key).state(state).clear().map(drop)
            },
        );
    }
}

/// A key, and a namespace.
pub fn a_key_that_no_snapshot_can_hold<F: BackendFactory>(subject: &Subject<F>) {
    let value = ValueDescriptor::<u64>::new("of-large-keys");
    let key = large(TOO_MANY);
    check(
        subject,
        ("of-large-keys", "xxxx"),
        |b| {
            let state = b.register(&value)?;
            b.at(&key).state(state).put(1)
        },
        |b| {
            let state = b.register(&value)?;
            b.at(&key).state(state).clear().map(drop)
        },
    );
    let windowed = ValueDescriptor::<u64>::new("of-large-namespaces").namespaced::<String>();
    let (mine, namespace) = ("mine".to_owned(), large(TOO_MANY));
    check(
        subject,
        ("of-large-namespaces", "mine"),
        |b| {
            let state = b.register(&windowed)?;
            b.at(&mine).state_in(state, &namespace).put(1)
        },
        |b| {
            let state = b.register(&windowed)?;
            b.at(&mine).state_in(state, &namespace).clear().map(drop)
        },
    );
}
