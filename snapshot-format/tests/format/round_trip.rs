//! A reader returns what a writer wrote: all of it, in order, and any range of key groups of it.

use std::collections::BTreeMap;

use crate::common::{Entry, cases, now, read, states, write};
use proptest::collection::vec;
use proptest::prelude::*;
use strandline_snapshot_format::{
    Block, Compression, EntryRef, MemorySegments, Op, SegmentIndex, SegmentKind, SegmentWriter,
    WriterOptions, fingerprint, list, timer_key,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::SegmentStore;
use strandline_state_api::{ErrorKind, KeyGroup, KeyGroupRange, KeyHash};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(0u8..3, 0..4),
        4 => vec(any::<u8>(), 8),
        1 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0usize..3_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

/// Generates entries that a segment of `kind` may hold, in order and without two of one position.
fn entries(kind: SegmentKind) -> impl Strategy<Value = Vec<Entry>> {
    let group = prop_oneof![0u16..4, Just(32_767), 0u16..32_768];
    let one = (group, 0..states().len(), 0u8..4, bytes(), bytes(), bytes(), bytes());
    vec(one, 0..120).prop_map(move |drawn| {
        let states = states();
        let mut unique = BTreeMap::new();
        for (group, state, op, mut key, namespace, sub, value) in drawn {
            let meta = &states[state];
            let drawn_op = [Op::Put, Op::Delete, Op::Append, Op::Clear][usize::from(op)];
            let legal = kind == SegmentKind::Delta && drawn_op.is_of(meta.kind);
            let op = if legal { drawn_op } else { Op::Put };
            if meta.kind.is_timers() {
                key.splice(0..0, [7; 8]);
            }
            let when = |present: bool, bytes: Vec<u8>| if present { bytes } else { Vec::new() };
            let entry = Entry {
                group,
                state: meta.name.clone(),
                key,
                namespace: when(meta.has_namespace(), namespace),
                rank: op != Op::Clear,
                sub: when(meta.has_sub() && op != Op::Clear, sub),
                op: 0,
                value: Vec::new(),
            };
            unique.insert(entry, (op.code(), when(meta.has_value() && op.has_value(), value)));
        }
        unique.into_iter().map(|(entry, (op, value))| Entry { op, value, ..entry }).collect()
    })
}

fn options() -> impl Strategy<Value = WriterOptions> {
    let compression = prop_oneof![Just(Compression::None), (-3..5i32).prop_map(Compression::Zstd)];
    let block_bytes = prop_oneof![Just(0usize), 50usize..400, Just(64 << 10)];
    (compression, block_bytes)
        .prop_map(|(compression, block_bytes)| WriterOptions { compression, block_bytes })
}

fn ranges() -> impl Strategy<Value = KeyGroupRange> {
    let bound = || prop_oneof![0u32..6, 0u32..=KeyGroup::COUNT];
    (bound(), bound()).prop_map(|(a, b)| KeyGroupRange::new(a.min(b), a.max(b)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]

    #[test]
    fn a_reader_returns_what_the_writer_wrote(
        (kind, entries) in prop_oneof![Just(SegmentKind::Base), Just(SegmentKind::Delta)]
            .prop_flat_map(|kind| (Just(kind), entries(kind))),
        options in options(),
        range in ranges(),
    ) {
        let finished = write(&states(), kind, options, &entries).unwrap();
        let index = SegmentIndex::parse(&finished.bytes).unwrap();
        prop_assert_eq!(index.kind(), kind);
        prop_assert_eq!(index.states(), states());
        prop_assert_eq!(index.entries(), entries.len() as u64);
        let sum = entries.iter().fold(0u64, |sum, e| sum.wrapping_add(fingerprint(&e.state, &e.lend(&states()))));
        prop_assert_eq!((finished.fingerprint, index.fingerprint()), (sum, sum));
        prop_assert_eq!(finished.raw_bytes, index.raw_bytes());

        let mut decoded = Vec::new();
        for (number, info) in index.blocks().iter().enumerate() {
            let stored = &finished.bytes[info.offset as usize..][..info.stored_len as usize];
            let block = Block::decode(&index, number, stored).unwrap();
            for entry in block.entries() {
                decoded.push(Entry::of(index.states(), entry.unwrap()));
            }
        }
        prop_assert_eq!(&decoded, &entries);

        let store = MemorySegments::new();
        let segment = now(store.put(finished.bytes)).unwrap();
        let mut expected = entries;
        expected.retain(|entry| range.contains(KeyGroup::new(entry.group).unwrap()));
        prop_assert_eq!(read(&store, &segment, range).unwrap(), expected);
    }

    #[test]
    fn timer_keys_sort_by_time(a: (i64, Vec<u8>), b: (i64, Vec<u8>)) {
        let pack = |(time, key): &(i64, Vec<u8>)| {
            let mut packed = Vec::new();
            timer_key::pack(*time, key, &mut packed);
            packed
        };
        prop_assert_eq!(pack(&a).cmp(&pack(&b)), a.cmp(&b));
        let packed = pack(&a);
        prop_assert_eq!(timer_key::unpack(&packed).unwrap(), (a.0, &a.1[..]));
    }

    #[test]
    fn lists_hold_their_elements_and_concatenate(
        a in vec(vec(any::<u8>(), 0..300), 0..5),
        b in vec(vec(any::<u8>(), 0..300), 0..5),
    ) {
        let encode = |elements: &[Vec<u8>]| {
            let mut value = Vec::new();
            elements.iter().for_each(|element| list::push(&mut value, element));
            value
        };
        let both = [encode(&a), encode(&b)].concat();
        let decoded: Vec<_> = list::elements(&both).map(Result::unwrap).collect();
        prop_assert_eq!(decoded, [a, b].concat());
    }

    #[test]
    fn bytes_that_are_no_list_end_with_one_error(value in vec(any::<u8>(), 0..40)) {
        let items: Vec<_> = list::elements(&value).collect();
        prop_assert!(items.len() <= value.len());
        prop_assert!(items.iter().rev().skip(1).all(Result::is_ok));
        prop_assert!(items.iter().filter_map(|item| item.as_ref().ok()).map(|e| e.len()).sum::<usize>() <= value.len());
    }
}

#[test]
fn short_timer_keys_are_refused() {
    assert_eq!(timer_key::unpack(&[1; 7]).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn pushes(kind: SegmentKind, entries: &[EntryRef<'_>]) -> Vec<Result<(), ErrorKind>> {
    let mut writer = SegmentWriter::new(states(), kind, WriterOptions::default()).unwrap();
    let results = entries.iter().map(|entry| writer.push(*entry).map_err(|error| error.kind())).collect();
    writer.finish().unwrap();
    results
}

#[test]
fn the_writer_refuses_entries_that_no_reader_accepts() {
    let group = |index| KeyGroup::new(index).unwrap();
    let ok = EntryRef { value: b"v", ..EntryRef::new(group(5), 0, Op::Put, b"k") };
    let (base, delta) = (SegmentKind::Base, SegmentKind::Delta);
    for (kind, entry) in [
        (delta, ok),
        (delta, EntryRef { op: Op::Delete, ..ok }),
        (delta, EntryRef { group: group(4), key: b"z", ..ok }),
        (delta, EntryRef { key: b"j", ..ok }),
        (delta, EntryRef { state: 9, ..ok }),
        (delta, EntryRef { key: b"l", namespace: b"n", ..ok }),
        (delta, EntryRef { key: b"l", sub: b"s", ..ok }),
        (delta, EntryRef { key: b"l", op: Op::Append, ..ok }),
        (delta, EntryRef { key: b"l", op: Op::Clear, value: b"", ..ok }),
        (delta, EntryRef { key: b"l", op: Op::Delete, ..ok }),
        (delta, EntryRef { state: 2, op: Op::Clear, sub: b"s", value: b"", ..ok }),
        (delta, EntryRef { state: 3, sub: b"s", ..ok }),
        (delta, EntryRef { state: 4, key: b"7 bytes", ..ok }),
        (base, EntryRef { key: b"l", op: Op::Delete, value: b"", ..ok }),
        (base, EntryRef { state: 1, op: Op::Append, ..ok }),
    ] {
        assert_eq!(pushes(kind, &[ok, entry]), [Ok(()), Err(ErrorKind::Invalid)], "{entry:?}");
    }
    // The refused entries leave the segment unharmed.
    let later = EntryRef { key: b"l", ..ok };
    assert_eq!(pushes(base, &[ok, ok, later]), [Ok(()), Err(ErrorKind::Invalid), Ok(())]);
}

#[test]
fn the_writer_refuses_states_that_are_not_sorted_or_have_no_name() {
    let state = |name: &str| StateMeta::new(name, StateKind::Value);
    for table in [vec![state("b"), state("a")], vec![state("a"), state("a")], vec![state("")]] {
        let error = SegmentWriter::new(table, SegmentKind::Base, WriterOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_giant_entry_is_stored_and_a_larger_one_refused_by_name() {
    use strandline_snapshot_format::MAX_ENTRY_BYTES;
    let states = [StateMeta::new("blob", StateKind::Value)];
    let mut writer =
        SegmentWriter::new(states.to_vec(), SegmentKind::Base, WriterOptions::default()).unwrap();
    let mut value = vec![7; MAX_ENTRY_BYTES];
    let group = KeyGroup::new(1).unwrap();
    let error =
        writer.push(EntryRef { value: &value, ..EntryRef::new(group, 0, Op::Put, b"k") }).unwrap_err();
    assert_eq!((error.kind(), error.context("state")), (ErrorKind::Unsupported, Some("blob")));
    value.pop();
    writer.push(EntryRef { value: &value, ..EntryRef::new(group, 0, Op::Put, b"k") }).unwrap();
    let bytes = writer.finish().unwrap().bytes;
    assert!(bytes.len() < 100_000);
    let read = crate::common::read_bytes(&bytes).unwrap();
    assert!(read.len() == 1 && read[0].value == value);
}

/// The worst case of small state is `u64 -> u64`, spread thinly over all key groups: such state is all
/// overhead.
#[test]
fn overhead_stays_small_at_any_density() {
    for (count, least) in [(10_000u64, 1.0), (33_000, 1.0), (100_000, 1.0)] {
        let mut pairs: Vec<_> = (0..count)
            .map(|n| {
                let key = n.to_le_bytes();
                (KeyGroup::of(KeyHash::of_encoded(&key)), key)
            })
            .collect();
        pairs.sort_unstable();
        for kind in [SegmentKind::Base, SegmentKind::Delta] {
            let options = WriterOptions { compression: Compression::None, ..WriterOptions::default() };
            let states =
                vec![StateMeta::new("counts", StateKind::Value), StateMeta::new("other", StateKind::Value)];
            let mut writer = SegmentWriter::new(states, kind, options).unwrap();
            for (group, key) in &pairs {
                let value = u64::from_le_bytes(*key).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
                writer.push(EntryRef { value: &value, ..EntryRef::new(*group, 1, Op::Put, key) }).unwrap();
            }
            let ratio = writer.finish().unwrap().bytes.len() as f64 / (16 * count) as f64;
            assert!((least..1.2).contains(&ratio), "{count} entries: {ratio}");
        }
    }
}
