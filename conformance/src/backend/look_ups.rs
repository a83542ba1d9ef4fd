//! Look-ups of one key from outside (Flink: queryable state).

use std::collections::BTreeMap;

use strandline_snapshot_format::{Merge, SegmentKind};
use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    ErrorKind, KeyGroupRange, Keyed, KeyedBackend, ListDescriptor, MapDescriptor, StateKey, ValueDescriptor,
};

use super::simple::{Simple, rig};
use crate::Subject;
use crate::wait::wait;

/// Entries by state and key: namespace, map key and value of each.
type Entries = BTreeMap<(String, Vec<u8>), BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>>;

/// What a snapshot in the portable format holds.
fn stored<F: BackendFactory>(simple: &Simple<F, String>, snapshot: &KeyedSnapshot) -> Entries {
    let mut found = Entries::new();
    wait(async {
        let store = simple.store();
        let merge = Merge::open(&**store, &snapshot.parts, SegmentKind::Base, KeyGroupRange::ALL).await;
        let mut merge = merge.unwrap();
        let names: Vec<_> = merge.states().iter().map(|meta| meta.name.clone()).collect();
        while let Some(entry) = merge.next().await.unwrap() {
            let at = (names[usize::from(entry.state)].clone(), entry.key.to_vec());
            let part = (entry.namespace.to_vec(), entry.sub.to_vec());
            found.entry(at).or_default().insert(part, entry.value.to_vec());
        }
    });
    found
}

/// A look-up finds the entries of a key as a snapshot at the same moment stores them, whatever was stored or changed
/// before, and changes nothing.
pub fn a_look_up_finds_what_a_snapshot_stores<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = rig::<F, String>(subject);
    let capabilities = subject.capabilities();
    let value = simple.backend.register(&ValueDescriptor::<u64>::new("value")).unwrap();
    let spaced =
        simple.backend.register(&ValueDescriptor::<String>::new("spaced").namespaced::<String>()).unwrap();
    let list = capabilities
        .lists
        .then(|| simple.backend.register(&ListDescriptor::<u32>::new("list").namespaced::<u8>()).unwrap());
    let map = capabilities
        .maps
        .then(|| simple.backend.register(&MapDescriptor::<String, u64>::new("map")).unwrap());
    // One is the beginning of another, and one has zero bytes.
    let keys = ["", "a", "aa", "a\0", "b", "\u{7f}", "none"].map(String::from);
    for round in 0..3u64 {
        for (at, key) in (0..).zip(&keys[..6]) {
            if (at + round) % 3 == 2 {
                simple.backend.at(key).state(value).clear().unwrap();
            } else {
                simple.backend.at(key).state(value).put(at + round).unwrap();
            }
            for namespace in ["", "x", "x\0"].map(String::from).iter().skip(round as usize) {
                simple.backend.at(key).state_in(spaced, namespace).put(format!("{at} {round}")).unwrap();
            }
            if let Some(list) = list {
                simple.backend.at(key).state_in(list, &(round as u8 / 2)).extend([1, at as u32]).unwrap();
            }
            if let Some(map) = map {
                simple.backend.at(key).state(map).put(format!("{}", round % 2), at + round).unwrap();
            }
        }
        if round == 1 {
            simple.snapshot(SnapshotKind::Incremental).unwrap();
            continue;
        }
        let mut found = Entries::new();
        for state in ["value", "spaced", "list", "map"] {
            if (state == "list" && list.is_none()) || (state == "map" && map.is_none()) {
                continue;
            }
            for key in &keys {
                let mut entries = BTreeMap::new();
                let looked_up = simple.backend.look_up(state, Keyed::new(key), &mut |entry| {
                    let part = (entry.namespace.to_vec(), entry.map_key.to_vec());
                    assert!(entries.insert(part, entry.value.to_vec()).is_none(), "an entry comes twice");
                    Ok(())
                });
                match looked_up {
                    // The backend has no look-ups.
                    Err(error) if error.kind() == ErrorKind::Unsupported => return,
                    looked_up => looked_up.unwrap(),
                }
                if !entries.is_empty() {
                    let mut encoded = Vec::new();
                    key.encode(&mut encoded);
                    found.insert((state.to_owned(), encoded), entries);
                }
            }
        }
        let snapshot = simple.snapshot(SnapshotKind::Full).unwrap();
        assert_eq!(found, stored(&simple, &snapshot), "round {round}");
    }
    let unknown = simple.backend.look_up("other", Keyed::new(&keys[0]), &mut |_| Ok(()));
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}
