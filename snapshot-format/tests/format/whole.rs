//! Whole snapshots, beyond what the conformance suite asks of every backend.

use strandline_snapshot_format::whole::WholeStates;
use strandline_snapshot_format::{EntryRef, MemorySegments, Op, SegmentKind, SegmentWriter, WriterOptions};
use strandline_state_api::backend::{
    BackendScope, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, ErrorKind, KeyGroup, KeyHash};

use crate::common::now;
use crate::forms::{merged, part_of};

/// Stores a snapshot with one entry of a state that no backend registers.
fn stored(store: &MemorySegments, meta: StateMeta, key: &[u8]) -> KeyedSnapshot {
    let mut writer =
        SegmentWriter::new(vec![meta.clone()], SegmentKind::Base, WriterOptions::default()).unwrap();
    let group = KeyGroup::of(KeyHash::of_encoded(key));
    writer.push(EntryRef { value: b"v", ..EntryRef::new(group, 0, Op::Put, key) }).unwrap();
    let finished = writer.finish().unwrap();
    let segment = now(store.put(finished.bytes)).unwrap();
    let parts = vec![SnapshotPart::portable(segment, finished.key_groups)];
    KeyedSnapshot { parts, written_bytes: 0, states: vec![meta] }
}

fn empty() -> WholeStates<u64> {
    WholeStates::new(BackendScope::whole("op").unwrap())
}

#[test]
fn an_unclaimed_state_of_several_snapshots_is_written_again() {
    let store = MemorySegments::new();
    let meta = StateMeta::new("old", StateKind::Value);
    let snapshots = [b"a", b"b"].map(|key| stored(&store, meta.clone(), key));
    let mut states = empty();
    let restored = now(states.restore(&snapshots, &store)).unwrap();
    assert_eq!((restored.entries, restored.orphans), (2, vec!["old".to_owned()]));
    states.prepare(CheckpointId(1), SnapshotKind::Full).unwrap();
    let Progress::Ready(CheckpointId(1), whole) = states.advance(1).unwrap() else { panic!("not ready") };
    assert!(matches!(states.advance(1).unwrap(), Progress::Idle));
    let again = now(states.take_writer().unwrap().commit(whole, &store)).unwrap();
    assert_eq!(now(empty().restore(&[again], &store)).unwrap().entries, 2);
}

/// Restores an unclaimed state and stores it again.
fn stored_again(store: &MemorySegments, snapshots: &[KeyedSnapshot]) -> KeyedSnapshot {
    let mut states = empty();
    let restored = now(states.restore(snapshots, store)).unwrap();
    assert_eq!(restored.orphans, ["old"]);
    states.prepare(CheckpointId(1), SnapshotKind::Full).unwrap();
    let Progress::Ready(_, whole) = states.advance(1).unwrap() else { panic!("not ready") };
    now(states.take_writer().unwrap().commit(whole, store)).unwrap()
}

#[test]
fn an_unclaimed_state_keeps_all_its_forms() {
    let store = MemorySegments::new();
    let first = StateMeta { schema_version: 1, ..StateMeta::new("old", StateKind::List) };
    let second = StateMeta { schema_version: 2, ..first.clone() };
    // The forms come in one order in the lists of `a`, and in the other in those of `b`.
    let chain = |key: &str, forms: [&StateMeta; 2]| {
        let parts = [(forms[0], Op::Put, b"x"), (forms[1], Op::Append, b"y")];
        let parts = parts.map(|(form, op, value)| part_of(&store, form, op, &[(key, value)]));
        KeyedSnapshot { parts: parts.to_vec(), ..KeyedSnapshot::default() }
    };
    let snapshots = [chain("a", [&first, &second]), chain("b", [&second, &first])];
    let parts: Vec<_> = snapshots.iter().flat_map(|snapshot| snapshot.parts.clone()).collect();
    let again = stored_again(&store, &snapshots);
    assert_eq!(merged(&store, &again.parts).unwrap(), merged(&store, &parts).unwrap());
    assert!(again.states.contains(&first) && again.states.contains(&second), "{:?}", again.states);
    let third = stored_again(&store, std::slice::from_ref(&again));
    assert_eq!(merged(&store, &third.parts).unwrap(), merged(&store, &parts).unwrap());
}

#[test]
fn an_unclaimed_state_with_two_kinds_of_keys_is_refused() {
    let store = MemorySegments::new();
    let meta = StateMeta::new("old", StateKind::Value);
    let other = StateMeta { key_codec: "str".into(), ..meta.clone() };
    let snapshots = [stored(&store, meta, b"a"), stored(&store, other, b"b")];
    let error = now(empty().restore(&snapshots, &store)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert!(error.to_string().contains("old"), "{error}");
}
