//! Operator state whose types change between one version of a program and the next.

use serde::{Deserialize, Serialize};

use super::super::*;
use crate::{Evolution, SelfDescribingCodec, SerdeCodec};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct V1 {
    offset: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct V2 {
    offset: u64,
    file: String,
}

fn first() -> Evolution<V1> {
    Evolution::first(1, SerdeCodec)
}

fn second() -> Evolution<V2> {
    first().then(2, SerdeCodec, |v1: V1| match v1.offset {
        41 => Err(Error::new(ErrorKind::User, "41 cannot be")),
        offset => Ok(V2 { offset: offset.into(), file: "a".into() }),
    })
}

/// What one subtask stores: a split list, a union list and a broadcast map of the first version.
fn stored(offsets: &[u32]) -> Vec<OperatorStateEntry> {
    let mut store = OperatorStateStore::new();
    let split = store.register_list(&OperatorListDescriptor::split("split").evolving(first())).unwrap();
    let union = store.register_list(&OperatorListDescriptor::union("union").evolving(first())).unwrap();
    let rules = store.register_broadcast(&BroadcastDescriptor::<u8, V1>::evolving("rules", first())).unwrap();
    for (index, offset) in (0..).zip(offsets) {
        store.get_mut(split).unwrap().push(V1 { offset: *offset });
        store.get_mut(union).unwrap().push(V1 { offset: *offset });
        store.broadcast_mut(rules).unwrap().put(index, V1 { offset: *offset });
    }
    store.snapshot().unwrap()
}

fn v2(offset: u64) -> V2 {
    V2 { offset, file: "a".into() }
}

#[test]
fn lists_and_maps_migrate_whether_registered_before_or_after_the_restore() {
    let entries = [stored(&[1, 2]), stored(&[3])].concat();
    for registered_before in [true, false] {
        let mut store = OperatorStateStore::new();
        if !registered_before {
            store.restore(entries.clone()).unwrap();
        }
        let split = store.register_list(&OperatorListDescriptor::split("split").evolving(second())).unwrap();
        let union = OperatorListDescriptor::union("files").evolving(second()).renamed_from("union");
        let union = store.register_list(&union).unwrap();
        let rules = BroadcastDescriptor::<u8, V2>::evolving("limits", second()).renamed_from("rules");
        let rules = store.register_broadcast(&rules).unwrap();
        if registered_before {
            store.restore(entries.clone()).unwrap();
        }
        assert_eq!(store.get(split).unwrap(), [v2(1), v2(2), v2(3)]);
        assert_eq!(store.get(union).unwrap(), [v2(1), v2(2), v2(3)]);
        let map: Vec<_> = store.broadcast(rules).unwrap().iter().collect();
        assert_eq!(map, [(&0, &v2(1)), (&1, &v2(2))], "one copy");

        // From then on the current form and name are stored.
        let snapshot = store.snapshot().unwrap();
        let names: Vec<_> =
            snapshot.iter().map(|entry| (entry.name.as_str(), entry.schema_version)).collect();
        assert_eq!(names, [("split", 2), ("files", 2), ("limits", 2)]);
        let mut again = OperatorStateStore::restored(snapshot);
        let current = OperatorListDescriptor::<V2>::split("split").schema_version(2);
        let split = again.register_list(&current).unwrap();
        assert_eq!(again.get(split).unwrap(), [v2(1), v2(2), v2(3)]);
    }
}

#[test]
fn a_migration_that_fails_names_the_state() {
    let mut store = OperatorStateStore::restored(stored(&[7, 41]));
    let error = store.register_list(&OperatorListDescriptor::split("split").evolving(second())).unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::User, Some("split")));
    assert!(error.to_string().contains("41 cannot be"), "{error}");
    let rules = BroadcastDescriptor::<u8, V2>::evolving("rules", second());
    assert!(store.register_broadcast(&rules).unwrap_err().to_string().contains("41 cannot be"));
    let split = store.register_list(&OperatorListDescriptor::split("split").evolving(first())).unwrap();
    assert_eq!(store.get(split).unwrap().len(), 2, "what failed is not lost");
}

#[test]
fn a_wrong_declaration_is_refused() {
    let mut store = OperatorStateStore::restored(stored(&[1]));
    let falling = Evolution::<u64>::first(2, SerdeCodec).then(2, SerdeCodec, Ok);
    let error = store.register_list(&OperatorListDescriptor::split("x").evolving(falling)).unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Invalid, Some("x")));
    let both = OperatorListDescriptor::split("split").evolving(first()).renamed_from("union");
    let error = store.register_list(&both).unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Incompatible, Some("split")));
    assert!(error.message().contains("several of its names"), "{error}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Small {
    id: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Grown {
    #[serde(default)]
    tags: Vec<String>,
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Renumbered {
    id: String,
}

fn list<T: Serialize + serde::de::DeserializeOwned + 'static>(version: u32) -> OperatorListDescriptor<T> {
    OperatorListDescriptor::split("a").codec(SelfDescribingCodec).schema_version(version)
}

fn map<T: Serialize + serde::de::DeserializeOwned + 'static>(version: u32) -> BroadcastDescriptor<String, T> {
    BroadcastDescriptor::with_codec("b", SelfDescribingCodec).schema_version(version)
}

/// Stores one element in a list and one entry in a map, of this version.
fn described<T>(version: u32, make: impl Fn() -> T) -> Vec<OperatorStateEntry>
where
    T: Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    let mut store = OperatorStateStore::new();
    let list = store.register_list(&list::<T>(version)).unwrap();
    let map = store.register_broadcast(&map::<T>(version)).unwrap();
    store.get_mut(list).unwrap().push(make());
    store.broadcast_mut(map).unwrap().put("k".into(), make());
    store.snapshot().unwrap()
}

#[test]
fn a_self_describing_type_grows() {
    for version in [1, 2] {
        let mut store = OperatorStateStore::restored(described(1, || Small { id: 7 }));
        let list = store.register_list(&list::<Grown>(version)).unwrap();
        let map = store.register_broadcast(&map::<Grown>(version)).unwrap();
        assert_eq!(store.get(list).unwrap(), [Grown { tags: vec![], id: 7 }]);
        let value = store.broadcast(map).unwrap().get(&"k".into());
        assert_eq!(value, Some(&Grown { tags: vec![], id: 7 }));
    }
}

#[test]
fn an_older_program_refuses_a_newer_form() {
    for (version, why) in [(1, "\"tags\" is stored, and the type lacks it"), (2, "a newer program wrote it")]
    {
        let newer = described(version, || Grown { tags: vec!["t".into()], id: 7 });
        let mut store = OperatorStateStore::restored(newer);
        let of_list = store.register_list(&list::<Small>(1)).unwrap_err();
        let of_map = store.register_broadcast(&map::<Small>(1)).unwrap_err();
        for (error, name) in [(of_list, "a"), (of_map, "b")] {
            assert_eq!(
                (error.kind(), error.context("operator state")),
                (ErrorKind::Incompatible, Some(name))
            );
            assert!(error.message().contains(why), "{error}");
        }
    }
}

#[test]
fn a_field_that_changed_its_type_is_refused_as_incompatible() {
    for version in [1, 2] {
        let mut store = OperatorStateStore::restored(described(1, || Small { id: 7 }));
        let of_list = store.register_list(&list::<Renumbered>(version)).unwrap_err();
        let of_map = store.register_broadcast(&map::<Renumbered>(version)).unwrap_err();
        for (error, name) in [(of_list, "a"), (of_map, "b")] {
            assert_eq!(
                (error.kind(), error.context("operator state")),
                (ErrorKind::Incompatible, Some(name))
            );
            let why = "the field \"id\" is stored as u32, and the type reads str";
            assert!(error.message().contains(why), "{error}");
        }
    }
}
