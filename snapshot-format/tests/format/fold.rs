//! A merge of a chain of parts holds what its entries do one after the other.

use proptest::prelude::*;
use strandline_snapshot_format::{
    Compression, EntryRef, FoldOptions, MemorySegments, Op, SegmentKind, SegmentWriter, WriterOptions, fold,
    fold_into, list,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentStore, SnapshotPart};
use strandline_state_api::{ErrorKind, KeyGroup, KeyGroupRange};

use crate::common::{Entry, cases, merge, now, read, states, write};
use crate::model::{Model, apply, as_base, chain};

const SMALL_BLOCKS: WriterOptions = WriterOptions { compression: Compression::Zstd(1), block_bytes: 80 };

/// Stores a part with only those states that it needs, so that tables differ.
fn store_part(
    store: &MemorySegments,
    kind: SegmentKind,
    entries: &[Entry],
    key_groups: KeyGroupRange,
) -> SnapshotPart {
    let mut used = states();
    used.retain(|meta| entries.iter().any(|entry| entry.state == meta.name));
    let segment = write(&used, kind, SMALL_BLOCKS, entries).unwrap();
    SnapshotPart::portable(now(store.put(segment.bytes)).unwrap(), key_groups)
}

fn clip(entries: &[Entry], range: KeyGroupRange) -> Vec<Entry> {
    entries.iter().filter(|entry| range.contains(KeyGroup::new(entry.group).unwrap())).cloned().collect()
}

fn read_parts(store: &MemorySegments, parts: &[SnapshotPart]) -> Vec<Entry> {
    parts.iter().flat_map(|part| read(store, &part.segment, part.key_groups).unwrap()).collect()
}

fn ranges() -> impl Strategy<Value = KeyGroupRange> {
    let bound = || prop_oneof![0u32..4, Just(10_001), Just(20_000), Just(KeyGroup::COUNT)];
    prop_oneof![
        Just(KeyGroupRange::ALL),
        (bound(), bound()).prop_map(|(a, b)| KeyGroupRange::new(a.min(b), a.max(b)))
    ]
}

fn options(max_segment_bytes: usize) -> FoldOptions {
    FoldOptions { max_segment_bytes, writer: SMALL_BLOCKS }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(400)))]

    #[test]
    fn a_base_holds_the_state_of_its_chain(
        chain in chain(),
        clips in proptest::collection::vec(ranges(), 7),
        range in ranges(),
        max in prop_oneof![Just(1usize), 100usize..2_000, Just(1 << 20)],
    ) {
        let (store, mut parts, mut model) = (MemorySegments::new(), Vec::new(), Model::new());
        for ((kind, entries), part_range) in chain.iter().zip(&clips) {
            parts.push(store_part(&store, *kind, entries, *part_range));
            apply(&mut model, &clip(entries, part_range.intersect(range)));
        }
        let expected = as_base(&model);
        prop_assert_eq!(&merge(&store, &parts, SegmentKind::Base, range).unwrap(), &expected);

        let folded = now(fold(&parts, &store, SegmentKind::Base, range, &options(max))).unwrap();
        prop_assert_eq!(read_parts(&store, &folded.parts), &expected[..]);
        prop_assert_eq!(folded.entries, expected.len() as u64);
        prop_assert_eq!(folded.parts.is_empty(), expected.is_empty());
        for pair in folded.parts.windows(2) {
            prop_assert!(pair[0].key_groups.end() <= pair[1].key_groups.start() + 1);
        }
    }

    /// A delta can replace any consecutive parts, whatever is under and over them.
    #[test]
    fn a_delta_takes_the_place_of_its_parts(chain in chain(), from in 0usize..7, len in 0usize..7, range in ranges()) {
        let store = MemorySegments::new();
        let parts: Vec<_> =
            chain.iter().map(|(kind, entries)| store_part(&store, *kind, entries, KeyGroupRange::ALL)).collect();
        let from = from.min(parts.len());
        let to = (from + len).min(parts.len());
        let folded = now(fold(&parts[from..to], &store, SegmentKind::Delta, range, &options(300))).unwrap();

        let mut replaced = parts[..from].to_vec();
        replaced.extend(folded.parts.iter().cloned());
        replaced.extend_from_slice(&parts[to..]);
        let before = merge(&store, &parts, SegmentKind::Base, range).unwrap();
        prop_assert_eq!(&merge(&store, &replaced, SegmentKind::Base, range).unwrap(), &before);

        // The naive model agrees, entry by entry.
        let mut model = Model::new();
        chain[..from].iter().for_each(|(_, entries)| apply(&mut model, &clip(entries, range)));
        apply(&mut model, &read_parts(&store, &folded.parts));
        chain[to..].iter().for_each(|(_, entries)| apply(&mut model, &clip(entries, range)));
        prop_assert_eq!(as_base(&model), before);
    }

    /// The fingerprint of a state does not depend on how it is spread over segments.
    #[test]
    fn fingerprints_sum_up_over_rescaling(chain in chain(), cut in 0u32..=KeyGroup::COUNT) {
        let (store, whole) = (MemorySegments::new(), KeyGroupRange::ALL);
        let parts: Vec<_> = chain.iter().map(|(kind, entries)| store_part(&store, *kind, entries, whole)).collect();
        let base = |range| now(fold(&parts, &store, SegmentKind::Base, range, &options(500))).unwrap();
        let halves = [base(KeyGroupRange::new(0, cut)), base(KeyGroupRange::new(cut, KeyGroup::COUNT))];
        let sum = halves[0].fingerprint.wrapping_add(halves[1].fingerprint);
        prop_assert_eq!(sum, base(whole).fingerprint);
        // The halves are folded together again, as when a job scales in.
        let again = now(fold(
            &[&halves[1].parts[..], &halves[0].parts[..]].concat(), &store, SegmentKind::Base, whole, &options(500),
        )).unwrap();
        prop_assert_eq!(again.fingerprint, sum);
        prop_assert_eq!(again.parts, base(whole).parts);
    }
}

/// This is the table in the documentation of `Merge`, row by row.
#[test]
fn the_parts_of_one_list_merge_by_the_rules() {
    use Op::{Append, Delete, Put};
    let meta = StateMeta::new("items", StateKind::List);
    let values: [&[u8]; 3] = [b"\x01a", b"\x01b", b"\x01c"];
    let cases: &[(&[Op], Option<Op>, &[u8])] = &[
        (&[Put, Put], Some(Put), b"\x01b"),
        (&[Put, Delete], Some(Delete), b""),
        (&[Put, Append], Some(Put), b"\x01a\x01b"),
        (&[Append, Append], Some(Append), b"\x01a\x01b"),
        (&[Append, Put], Some(Put), b"\x01b"),
        (&[Append, Delete], Some(Delete), b""),
        (&[Delete, Append], Some(Put), b"\x01b"),
        (&[Delete, Append, Append], Some(Put), b"\x01b\x01c"),
        (&[Append, Delete, Append], Some(Put), b"\x01c"),
        (&[Delete, Delete], Some(Delete), b""),
        (&[Delete, Put], Some(Put), b"\x01b"),
    ];
    for (ops, in_delta, value) in cases {
        let store = MemorySegments::new();
        let parts: Vec<_> = (ops.iter().zip(values))
            .map(|(op, value)| {
                let value = if op.has_value() { value } else { &[] };
                let entry = EntryRef { value, ..EntryRef::new(KeyGroup::new(3).unwrap(), 0, *op, b"k") };
                stored(&store, single(&meta, SegmentKind::Delta, &[entry]))
            })
            .collect();
        let merged = |target| {
            let entries = merge(&store, &parts, target, KeyGroupRange::ALL).unwrap();
            assert!(entries.len() <= 1);
            entries.into_iter().next().map(|entry| (entry.op(), entry.value))
        };
        assert_eq!(merged(SegmentKind::Delta), in_delta.map(|op| (op, value.to_vec())), "{ops:?}");
        let in_base = in_delta.filter(|op| *op != Delete).map(|_| (Put, value.to_vec()));
        assert_eq!(merged(SegmentKind::Base), in_base, "{ops:?}");
    }
}

fn single(meta: &StateMeta, kind: SegmentKind, entries: &[EntryRef<'_>]) -> Vec<u8> {
    let mut writer = SegmentWriter::new(vec![meta.clone()], kind, WriterOptions::default()).unwrap();
    entries.iter().for_each(|entry| writer.push(*entry).unwrap());
    writer.finish().unwrap().bytes
}

fn stored(store: &MemorySegments, bytes: Vec<u8>) -> SnapshotPart {
    SnapshotPart::portable(now(store.put(bytes)).unwrap(), KeyGroupRange::ALL)
}

#[test]
fn states_of_one_name_must_have_the_same_addresses() {
    let meta = StateMeta::new("total", StateKind::Value);
    let different = [
        (StateMeta { kind: StateKind::Reducing, ..meta.clone() }, ["value", "reducing"]),
        (StateMeta { key_codec: "str".into(), ..meta.clone() }, ["\"bytes\"", "\"str\""]),
        (StateMeta { namespace_codec: "window".into(), ..meta.clone() }, ["\"\"", "\"window\""]),
    ];
    for (other, named) in different {
        let store = MemorySegments::new();
        let parts = [&meta, &other].map(|meta| stored(&store, single(meta, SegmentKind::Base, &[])));
        // Both parts are empty, but a state table also counts for entries that come later.
        let error =
            now(fold(&parts, &store, SegmentKind::Base, KeyGroupRange::ALL, &options(1))).unwrap_err();
        assert_eq!((error.kind(), error.context("state")), (ErrorKind::Incompatible, Some("total")));
        assert!(named.iter().all(|name| error.message().contains(name)), "{error}");
    }
}

#[test]
fn a_segment_ends_at_a_key_group_unless_the_group_is_huge() {
    let meta = StateMeta::new("total", StateKind::Value);
    let raw = WriterOptions { compression: Compression::None, block_bytes: 200 };
    let options = FoldOptions { max_segment_bytes: 10_000, writer: raw };
    // The input has 40 groups of 1,000 bytes, then one of 100,000.
    let key = |n: u32| n.to_be_bytes();
    let keys: Vec<_> =
        (0..400u32).map(|n| (n / 10, key(n))).chain((400..1_400).map(|n| (40, key(n)))).collect();
    let value = [9u8; 92];
    let entries = keys.iter().map(|(group, key)| {
        let group = KeyGroup::new(*group as u16).unwrap();
        EntryRef { value: &value, ..EntryRef::new(group, 0, Op::Put, key) }
    });
    let store = MemorySegments::new();
    let part = stored(&store, single(&meta, SegmentKind::Base, &entries.collect::<Vec<_>>()));
    let folded = now(fold(&[part], &store, SegmentKind::Base, KeyGroupRange::ALL, &options)).unwrap();
    assert!(folded.parts.len() > 10);
    assert!(folded.parts.iter().all(|part| part.segment.len < 16_000), "{:?}", folded.parts);
    for pair in folded.parts.windows(2) {
        let (a, b) = (pair[0].key_groups, pair[1].key_groups);
        assert!(a.end() <= b.start() || b.start() == 40, "{a} {b}");
    }
    assert_eq!(read_parts(&store, &folded.parts).len(), 1_400);
}

#[test]
fn a_fold_moves_a_snapshot_to_another_store() {
    let (from, into) = (MemorySegments::new(), MemorySegments::new());
    let mut value = Vec::new();
    list::push(&mut value, b"x");
    let group = KeyGroup::new(3).unwrap();
    let append = EntryRef { value: &value, ..EntryRef::new(group, 0, Op::Append, b"k") };
    let meta = StateMeta::new("items", StateKind::List);
    let part = stored(&from, single(&meta, SegmentKind::Delta, &[append]));
    let parts = [part.clone(), part];
    let all = KeyGroupRange::ALL;
    let folded =
        now(fold_into(&parts, &from, &into, SegmentKind::Base, all, &FoldOptions::default())).unwrap();
    assert_eq!((from.segments().len(), into.segments().len()), (1, 1));
    let entries = read_parts(&into, &folded.parts);
    let elements: Vec<_> = list::elements(&entries[0].value).map(Result::unwrap).collect();
    assert_eq!((entries[0].op(), elements), (Op::Put, vec![&b"x"[..], b"x"]));
}

#[test]
fn nothing_folds_to_nothing() {
    let store = MemorySegments::new();
    let folded =
        now(fold(&[], &store, SegmentKind::Base, KeyGroupRange::ALL, &FoldOptions::default())).unwrap();
    assert!(folded.parts.is_empty() && store.segments().is_empty());
}

#[test]
fn a_list_that_grows_over_the_limit_is_refused_by_name() {
    let meta = StateMeta::new("items", StateKind::List);
    let value = vec![0; 40 << 20];
    let append = EntryRef { value: &value, ..EntryRef::new(KeyGroup::new(3).unwrap(), 0, Op::Append, b"k") };
    let store = MemorySegments::new();
    let part = stored(&store, single(&meta, SegmentKind::Delta, &[append]));
    let error = merge(&store, &[part.clone(), part], SegmentKind::Base, KeyGroupRange::ALL).unwrap_err();
    assert_eq!((error.kind(), error.context("state")), (ErrorKind::Unsupported, Some("items")));
}
