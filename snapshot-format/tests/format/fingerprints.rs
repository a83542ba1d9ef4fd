//! The fingerprint of a snapshot is that of its entries, however they are spread.

use proptest::prelude::*;
use strandline_snapshot_format::{
    Compression, Fingerprint, MemorySegments, SegmentIndex, SegmentKind, WriterOptions, fingerprint,
    snapshot_fingerprint,
};
use strandline_state_api::snapshot::{PartFormat, SegmentStore, SnapshotPart};
use strandline_state_api::{ErrorKind, KeyGroup, KeyGroupRange};

use crate::common::{Entry, cases, merge, now, read, states, write};
use crate::model::chain;
use crate::samples::SAMPLES;

const SMALL_BLOCKS: WriterOptions = WriterOptions { compression: Compression::None, block_bytes: 160 };

fn store_part(store: &MemorySegments, kind: SegmentKind, entries: &[Entry]) -> SnapshotPart {
    let segment = write(&states(), kind, SMALL_BLOCKS, entries).unwrap();
    SnapshotPart::portable(now(store.put(segment.bytes)).unwrap(), KeyGroupRange::ALL)
}

/// Computes the fingerprint from the entries, one by one.
fn counted(entries: &[Entry]) -> Fingerprint {
    let states = states();
    let of = |entry: &Entry| Fingerprint { entries: 1, sum: fingerprint(&entry.state, &entry.lend(&states)) };
    entries.iter().map(of).sum()
}

fn stored(store: &MemorySegments, parts: &[SnapshotPart], range: KeyGroupRange) -> Fingerprint {
    now(snapshot_fingerprint(parts, store, range)).unwrap()
}

/// Stores a base with many blocks, whose borders fall into key groups.
fn base(store: &MemorySegments) -> (SnapshotPart, Vec<Entry>) {
    let mut entries = Vec::new();
    for group in [0u16, 1, 2, 16_383, 16_384, 32_767] {
        for key in 0..23u8 {
            entries.push(Entry {
                group,
                state: "counts".into(),
                key: vec![key; 5],
                namespace: Vec::new(),
                rank: true,
                sub: Vec::new(),
                op: 0,
                value: vec![group as u8; 9],
            });
        }
    }
    (store_part(store, SegmentKind::Base, &entries), entries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200)))]

    #[test]
    fn the_fingerprint_of_a_chain_is_the_sum_over_its_entries(
        chain in chain(),
        cuts in proptest::collection::vec(prop_oneof![0u32..4, 10_000u32..10_003, 0..KeyGroup::COUNT], 0..4),
    ) {
        let store = MemorySegments::new();
        let parts: Vec<_> = chain.iter().map(|(kind, entries)| store_part(&store, *kind, entries)).collect();
        let held = merge(&store, &parts, SegmentKind::Base, KeyGroupRange::ALL).unwrap();
        let whole = stored(&store, &parts, KeyGroupRange::ALL);
        prop_assert_eq!(whole, counted(&held));
        // The fingerprints of consecutive runs of key groups add up.
        let mut cuts = [&cuts[..], &[0, KeyGroup::COUNT]].concat();
        cuts.sort_unstable();
        let runs = cuts.windows(2).map(|run| KeyGroupRange::new(run[0], run[1]));
        prop_assert_eq!(runs.map(|run| stored(&store, &parts, run)).sum::<Fingerprint>(), whole);
    }
}

#[test]
fn the_fingerprint_of_bases_is_read_from_their_indexes() {
    let store = MemorySegments::new();
    let (part, entries) = base(&store);
    for range in [(0, 32_768), (1, 3), (2, 16_384), (16_384, 32_767), (5, 9)] {
        let range = KeyGroupRange::new(range.0, range.1);
        let inside = |e: &&Entry| range.contains(KeyGroup::new(e.group).unwrap());
        let wanted = counted(&entries.iter().filter(inside).cloned().collect::<Vec<_>>());
        assert_eq!(stored(&store, std::slice::from_ref(&part), range), wanted, "{range}");
    }
    // These are two disjoint clips of one base, as after a rescale.
    let clip = |from, to| SnapshotPart { key_groups: KeyGroupRange::new(from, to), ..part.clone() };
    assert_eq!(
        stored(&store, &[clip(2, 40_000), clip(0, 2)], KeyGroupRange::ALL),
        counted(&entries),
        "clips add up"
    );
    // The same part twice counts once.
    assert_eq!(stored(&store, &[part.clone(), part.clone()], KeyGroupRange::ALL), counted(&entries));

    // No read meets the damaged entry, so it goes undetected; a reader names segment and key groups.
    let mut bytes = store.get(&part.segment.name).unwrap().to_vec();
    bytes[12 + 16 + 20] ^= 1;
    store.replace(part.segment.name.clone(), &bytes);
    assert_eq!(stored(&store, std::slice::from_ref(&part), KeyGroupRange::ALL), counted(&entries));
    let error = read(&store, &part.segment, KeyGroupRange::ALL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.context("segment"), Some(part.segment.name.0.as_str()));
    assert_eq!(error.context("key groups"), Some("[0, 1)"));
    // A block that reaches over the end of the range is read.
    let index = SegmentIndex::parse(&bytes).unwrap();
    let over = index.blocks().iter().find(|block| block.first != block.last).unwrap();
    bytes[over.offset as usize + 20] ^= 1;
    store.replace(part.segment.name.clone(), &bytes);
    let cut = KeyGroupRange::new(0, u32::from(over.first.index()) + 1);
    let error = now(snapshot_fingerprint(&[part], &store, cut)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.context("key groups"), Some(over.key_groups().to_string().as_str()));
    assert!(error.context("segment").is_some());
}

#[test]
fn golden_files_have_the_fingerprints_of_their_entries() {
    for sample in SAMPLES.iter().filter(|sample| sample.kind == SegmentKind::Base) {
        let store = MemorySegments::new();
        let segment = now(store.put(sample.write().unwrap())).unwrap();
        let part = SnapshotPart::portable(segment, KeyGroupRange::ALL);
        let states = (sample.states)();
        let entries = (sample.entries)(sample.kind);
        let of = |e: &Entry| Fingerprint { entries: 1, sum: fingerprint(&e.state, &e.lend(&states)) };
        assert_eq!(stored(&store, &[part], KeyGroupRange::ALL), entries.iter().map(of).sum());
    }
}

#[test]
fn native_parts_have_no_fingerprint() {
    let store = MemorySegments::new();
    let (part, _) = base(&store);
    let part = SnapshotPart { format: PartFormat::Native("other-1".into()), ..part };
    let error = now(snapshot_fingerprint(&[part], &store, KeyGroupRange::ALL)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}
