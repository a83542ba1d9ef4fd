//! Chains with several forms of a state, beyond what the conformance suite asks of every backend.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_snapshot_format::{MemorySegments, SegmentIndex, SegmentKind};
use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::{KeyedSnapshot, SnapshotPart};
use strandline_state_api::{
    Evolution, KeyedBackend, ListDescriptor, ListState, Result, SerdeCodec, ValueDescriptor, ValueState,
};
use strandline_state_testing::Rig;

type MemoryRig = Rig<MemoryBackendFactory, u64>;

fn first() -> Evolution<u32> {
    Evolution::first(1, SerdeCodec)
}

fn second() -> Evolution<u64> {
    first().then(2, SerdeCodec, |old| Ok(u64::from(old)))
}

fn values<B: KeyedBackend, V: Send + 'static>(
    evolution: Evolution<V>,
) -> impl FnOnce(&mut B) -> Result<ValueState<V>> {
    move |backend| backend.register(&ValueDescriptor::evolving("numbers", evolution))
}

fn lists<B: KeyedBackend, V: Send + 'static>(
    evolution: Evolution<V>,
) -> impl FnOnce(&mut B) -> Result<ListState<V>> {
    move |backend| backend.register(&ListDescriptor::evolving("lists", evolution))
}

/// Returns kind, versions and number of entries of a part.
fn described(store: &MemorySegments, part: &SnapshotPart) -> (SegmentKind, Vec<u32>, u64) {
    let index = SegmentIndex::parse(&store.get(&part.segment.name).unwrap()).unwrap();
    let versions = index.states().iter().map(|meta| meta.schema_version).collect();
    (index.kind(), versions, index.entries())
}

/// Returns a backend with the numbers below `count` in the second version, restored from the first one.
fn migrated(count: u32) -> (MemoryRig, ValueState<u64>, KeyedSnapshot) {
    let mut old = MemoryRig::new(MemoryBackendFactory::default()).unwrap();
    let state = values(first())(&mut old.backend).unwrap();
    for number in 0..count {
        old.at(&u64::from(number)).state(state).put(number).unwrap();
    }
    let snapshot = old.snapshot(SnapshotKind::Incremental).unwrap();
    let (new, state) = old.restore(std::slice::from_ref(&snapshot), values(second())).unwrap();
    (new, state, snapshot)
}

#[test]
fn an_increment_after_a_migration_has_the_entries_that_changed() {
    let (mut rig, state, before) = migrated(100_000);
    for key in 0..10 {
        rig.at(&(key * 9_999)).state(state).put(key).unwrap();
    }
    let snapshot = rig.snapshot(SnapshotKind::Incremental).unwrap();
    assert_eq!(snapshot.parts[..before.parts.len()], before.parts);
    let added: Vec<_> = snapshot.parts[before.parts.len()..].to_vec();
    let added: Vec<_> = added.iter().map(|part| described(rig.store(), part)).collect();
    assert_eq!(added, [(SegmentKind::Delta, vec![2], 10)]);
    assert!(snapshot.written_bytes < before.written_bytes / 100, "{}", snapshot.written_bytes);
}

#[test]
fn after_a_savepoint_in_the_current_form_the_next_increment_is_a_base() {
    let (mut rig, state, _) = migrated(1_000);
    let savepoint = rig.snapshot(SnapshotKind::Savepoint).unwrap();
    let parts: Vec<_> = savepoint.parts.iter().map(|part| described(rig.store(), part)).collect();
    assert_eq!(parts, [(SegmentKind::Base, vec![2], 1_000)]);
    rig.at(&1_000).state(state).put(7).unwrap();
    let next = rig.snapshot(SnapshotKind::Incremental).unwrap();
    let parts: Vec<_> = next.parts.iter().map(|part| described(rig.store(), part)).collect();
    assert_eq!(parts, [(SegmentKind::Base, vec![2], 1_001)]);
    let again = rig.snapshot(SnapshotKind::Incremental).unwrap();
    assert_eq!(again.written_bytes, 0, "a base in the current form is written once");
}

/// A chain that became too long is not folded while it has older forms: the next cut replaces it.
#[test]
fn a_long_chain_is_replaced_by_a_base_in_the_current_form() {
    let (mut rig, state, _) = migrated(10_000);
    let mut forms = Vec::new();
    for round in 0..24 {
        rig.at(&round).state(state).put(round).unwrap();
        let snapshot = rig.snapshot(SnapshotKind::Incremental).unwrap();
        forms.push(snapshot.states.len());
        assert!(snapshot.parts.len() <= 19, "round {round}: {} parts", snapshot.parts.len());
    }
    let renewed = forms.iter().position(|forms| *forms == 1).unwrap();
    assert!((16..20).contains(&renewed), "{forms:?}");
    assert!(forms[renewed..].iter().all(|forms| *forms == 1), "{forms:?}");
}

/// Changes of aborted snapshots are merged; a list that nobody claims keeps the elements of both its forms.
#[test]
fn unclaimed_lists_survive_the_merge_of_aborted_bases() {
    let mut old = MemoryRig::new(MemoryBackendFactory::default()).unwrap();
    let list = lists(first())(&mut old.backend).unwrap();
    for key in 0..50 {
        old.at(&u64::from(key)).state(list).push(key).unwrap();
    }
    let snapshot = old.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut new, list) = old.restore(&[snapshot], lists(second())).unwrap();
    for key in (0..50).step_by(5) {
        new.at(&key).state(list).push(1_000).unwrap();
    }
    let snapshot = new.snapshot(SnapshotKind::Incremental).unwrap();
    assert_eq!(snapshot.states.len(), 2, "elements of both forms");

    // Each cut of this one takes everything, as something changed.
    let mut factory = MemoryBackendFactory::default();
    factory.options.full_share = 0.0;
    let other = MemoryRig::on(factory, Arc::clone(old.store())).unwrap();
    let (mut other, state) = other.restore(&[snapshot], values(second())).unwrap();
    for round in 0..4 {
        other.at(&round).state(state).put(round).unwrap();
        other.prepare(SnapshotKind::Incremental).unwrap();
        drop(other.hand_over().unwrap());
    }
    let snapshot = other.snapshot(SnapshotKind::Incremental).unwrap();
    let (mut again, list) = other.restore(&[snapshot], lists(second())).unwrap();
    for key in 0..50 {
        let wanted = if key % 5 == 0 { vec![key, 1_000] } else { vec![key] };
        assert_eq!(again.at(&key).state(list).get().unwrap().to_vec(), wanted, "key {key}");
    }
}
