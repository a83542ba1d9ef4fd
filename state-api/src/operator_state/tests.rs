mod evolving;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Codec, SerdeCodec};

#[test]
fn a_restore_returns_the_snapshotted_state_and_keeps_unclaimed_state() {
    let mut store = OperatorStateStore::new();
    let positions =
        store.register_list(&OperatorListDescriptor::<(String, u64)>::split("positions")).unwrap();
    let files = store.register_list(&OperatorListDescriptor::<String>::union("files")).unwrap();
    let rules = store.register_broadcast(&BroadcastDescriptor::<u32, String>::new("rules")).unwrap();
    store.get_mut(positions).unwrap().push(("a.csv".into(), 7));
    store.get_mut(files).unwrap().push("f1".into());
    store.broadcast_mut(rules).unwrap().put(3, "three".into());
    let snapshot = store.snapshot().unwrap();

    let mut again = OperatorStateStore::restored(snapshot.clone());
    let positions =
        again.register_list(&OperatorListDescriptor::<(String, u64)>::split("positions")).unwrap();
    assert_eq!(again.get(positions).unwrap(), [("a.csv".into(), 7)]);
    let names: Vec<_> = again.snapshot().unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["positions", "files", "rules"], "a snapshot writes unclaimed state again");
    assert_eq!(again.snapshot().unwrap(), snapshot);
    let rules = again.register_broadcast(&BroadcastDescriptor::<u32, String>::new("rules")).unwrap();
    assert_eq!(again.broadcast(rules).unwrap().get(&3).map(String::as_str), Some("three"));
    assert_eq!(again.snapshot().unwrap().len(), 3, "a snapshot writes claimed state once");
}

/// Checks that the error names the state, its actual form and the wanted form.
fn refused<T: fmt::Debug>(result: Result<T>, kind: ErrorKind, is: &str, wanted: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (kind, Some("a")), "{error}");
    let (before, after) = error.message().split_once("wanted is").unwrap();
    assert!(before.contains(is) && after.contains(wanted), "{error}");
}

#[test]
fn a_name_has_one_type_one_mode_one_codec_and_one_version() {
    let split = OperatorListDescriptor::<u64>::split("a");
    let union = OperatorListDescriptor::<u64>::union("a");
    let rules = BroadcastDescriptor::<u64, u64>::new("a");
    let text = OperatorListDescriptor::<String>::split("a");
    let (lists, maps) = (("a split list", "a union list"), ("a split list", "a broadcast map"));

    let mut store = OperatorStateStore::new();
    let handle = store.register_list(&split).unwrap();
    store.get_mut(handle).unwrap().push(1);
    assert_eq!(store.register_list(&split).unwrap().index, handle.index, "the same again is the same list");
    refused(store.register_list(&union), ErrorKind::Invalid, lists.0, lists.1);
    refused(store.register_broadcast(&rules), ErrorKind::Invalid, maps.0, maps.1);
    refused(store.register_list(&text), ErrorKind::Invalid, "u64", "String");
    let newer = split.clone().schema_version(2);
    refused(store.register_list(&newer), ErrorKind::Invalid, "version 1", "version 2");

    let mut again = OperatorStateStore::restored(store.snapshot().unwrap());
    refused(again.register_list(&union), ErrorKind::Incompatible, lists.0, lists.1);
    refused(again.register_broadcast(&rules), ErrorKind::Incompatible, maps.0, maps.1);
    refused(again.register_list(&text), ErrorKind::Incompatible, "u64-le", "postcard");
    refused(again.register_list(&newer), ErrorKind::Incompatible, "version 1", "version 2");
    let handle = again.register_list(&split).unwrap();
    assert_eq!(again.get(handle).unwrap(), [1], "what was refused is not lost");
}

#[test]
fn a_broadcast_name_has_one_type_one_mode_one_codec_and_one_version() {
    let rules = BroadcastDescriptor::<u64, u64>::new("a");
    let list = OperatorListDescriptor::<u64>::union("a");
    let mut store = OperatorStateStore::new();
    let handle = store.register_broadcast(&rules).unwrap();
    assert_eq!(store.register_broadcast(&rules).unwrap().index, handle.index);
    let (map, key, version) =
        ("a broadcast map", BroadcastDescriptor::<i64, u64>::new("a"), rules.clone().schema_version(2));
    refused(store.register_list(&list), ErrorKind::Invalid, map, "a union list");
    refused(store.register_broadcast(&key), ErrorKind::Invalid, "(u64, u64)", "(i64, u64)");
    refused(store.register_broadcast(&version), ErrorKind::Invalid, "version 1", "version 2");

    let mut again = OperatorStateStore::restored(store.snapshot().unwrap());
    refused(again.register_list(&list), ErrorKind::Incompatible, map, "a union list");
    refused(again.register_broadcast(&key), ErrorKind::Incompatible, "u64 -> u64-le", "i64 -> u64-le");
    refused(again.register_broadcast(&version), ErrorKind::Incompatible, "version 1", "version 2");
    again.register_broadcast(&rules).unwrap();
}

/// Numbers in decimal, under the name of a custom codec.
struct Decimal;

impl Codec<u64> for Decimal {
    fn id(&self) -> String {
        "decimal".into()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(value.to_string().as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        text.ok_or_else(|| Error::corrupt("no number"))
    }
}

#[test]
fn a_broadcast_state_accepts_a_custom_codec() {
    let descriptor = BroadcastDescriptor::<String, u64>::with_codec("a", Decimal);
    let mut store = OperatorStateStore::new();
    let limits = store.register_broadcast(&descriptor).unwrap();
    store.broadcast_mut(limits).unwrap().put("books".into(), 100);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot[0].elements, [b"\x05\0\0\0books100"], "the documented form of an entry");
    let mut again = OperatorStateStore::restored(snapshot);
    let default = BroadcastDescriptor::<String, u64>::new("a");
    refused(again.register_broadcast(&default), ErrorKind::Incompatible, "decimal", "u64-le");
    let limits = again.register_broadcast(&descriptor).unwrap();
    assert_eq!(again.broadcast(limits).unwrap().get(&"books".into()), Some(&100));
}

#[test]
fn a_restore_takes_one_broadcast_copy_and_joins_lists() {
    let rules = BroadcastDescriptor::<u64, u64>::new("rules");
    let list = OperatorListDescriptor::<u64>::union("list");
    let copy = |n: u64| {
        let mut store = OperatorStateStore::new();
        let (list, rules) = (store.register_list(&list).unwrap(), store.register_broadcast(&rules).unwrap());
        store.get_mut(list).unwrap().push(n);
        store.broadcast_mut(rules).unwrap().put(n, n);
        store.snapshot().unwrap()
    };
    let mut store = OperatorStateStore::restored([copy(1), copy(2)].concat());
    let rules = store.register_broadcast(&rules).unwrap();
    assert_eq!(store.broadcast(rules).unwrap().iter().collect::<Vec<_>>(), [(&1, &1)], "never merged");
    let list = store.register_list(&list).unwrap();
    assert_eq!(store.get(list).unwrap(), [1, 2]);
}

#[test]
fn damaged_entries_are_refused_with_the_name_of_the_state() {
    let descriptor = BroadcastDescriptor::<u64, u64>::new("a");
    let mut store = OperatorStateStore::new();
    let rules = store.register_broadcast(&descriptor).unwrap();
    store.broadcast_mut(rules).unwrap().put(1, 2);
    let snapshot = store.snapshot().unwrap();
    let good = &snapshot[0].elements[0];
    let longer_key = [&9_u32.to_le_bytes()[..], &good[4..]].concat();
    let huge_key = [&u32::MAX.to_le_bytes()[..], &good[4..]].concat();
    let hostile = [vec![], vec![8, 0], good[..12].to_vec(), good[..15].to_vec(), longer_key, huge_key];
    for elements in hostile.into_iter().map(|element| vec![element]).chain([vec![good.clone(); 2]]) {
        let mut entry = snapshot[0].clone();
        entry.elements = elements;
        let error = OperatorStateStore::restored(vec![entry]).register_broadcast(&descriptor).unwrap_err();
        assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Corrupt, Some("a")));
    }
}

#[test]
fn a_store_refuses_the_handles_of_another() {
    let mut store = OperatorStateStore::new();
    let of_text = store.register_broadcast(&BroadcastDescriptor::<u64, String>::new("a")).unwrap();
    let mut other = OperatorStateStore::new();
    assert_eq!(other.broadcast(of_text).unwrap_err().kind(), ErrorKind::Invalid);
    other.register_broadcast(&BroadcastDescriptor::<u64, u64>::new("a")).unwrap();
    assert_eq!(other.broadcast_mut(of_text).unwrap_err().kind(), ErrorKind::Invalid);
}

#[derive(Clone, Debug)]
enum Op {
    Put(String, u32),
    Change(String),
    Remove(String),
    Clear,
    Restore,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || "[ab]{0,3}";
    let op = prop_oneof![
        8 => (key(), any::<u32>()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => key().prop_map(Op::Change),
        3 => key().prop_map(Op::Remove),
        1 => Just(Op::Clear),
        1 => Just(Op::Restore),
    ];
    proptest::collection::vec(op, 0..60)
}

proptest! {
    /// A broadcast state behaves as an ordered map, even across checkpoints.
    #[test]
    fn a_broadcast_state_is_an_ordered_map(ops in ops()) {
        let descriptor = BroadcastDescriptor::<String, u32>::with_codec("rules", SerdeCodec);
        let mut store = OperatorStateStore::new();
        let mut rules = store.register_broadcast(&descriptor).unwrap();
        let mut model = BTreeMap::new();
        for op in ops {
            let map = store.broadcast_mut(rules).unwrap();
            match op {
                Op::Put(key, value) => prop_assert_eq!(map.put(key.clone(), value), model.insert(key, value)),
                Op::Change(key) => {
                    prop_assert_eq!(map.get_mut(&key).map(|v| *v /= 2), model.get_mut(&key).map(|v| *v /= 2));
                }
                Op::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                Op::Clear => {
                    map.clear();
                    model.clear();
                }
                Op::Restore => {
                    store = OperatorStateStore::restored(store.snapshot().unwrap());
                    rules = store.register_broadcast(&descriptor).unwrap();
                }
            }
            let map = store.broadcast(rules).unwrap();
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), model.iter().collect::<Vec<_>>());
            prop_assert_eq!(map.iter().next_back(), model.iter().next_back());
            prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            for key in ["", "a", "ba"].map(String::from) {
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.contains(&key), model.contains_key(&key));
            }
        }
    }
}
