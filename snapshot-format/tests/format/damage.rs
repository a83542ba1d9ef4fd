//! A reader detects damage of any kind: no read of a damaged segment succeeds.

use proptest::prelude::*;
use strandline_snapshot_format::{Compression, SegmentIndex, SegmentKind, WriterOptions};
use strandline_state_api::ErrorKind;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::common::{Entry, cases, read_bytes, states, write};

/// Writes a segment of a few blocks of about `block_bytes`, some compressed, with all kinds of state.
fn segment(groups: u16, block_bytes: usize) -> (Vec<Entry>, Vec<u8>) {
    let states = states();
    let mut entries = Vec::new();
    for group in 0..groups {
        for (number, meta) in states.iter().enumerate() {
            let when = |present: bool, bytes: &[u8]| if present { bytes.to_vec() } else { Vec::new() };
            entries.push(Entry {
                group,
                state: meta.name.clone(),
                key: if group % 2 == 0 { vec![number as u8; 16] } else { noise(group, number) },
                namespace: when(meta.has_namespace(), b"ns"),
                rank: true,
                sub: when(meta.has_sub(), b"sub"),
                op: 0,
                value: when(meta.has_value(), &[0; 20][..number]),
            });
        }
    }
    let options = WriterOptions { compression: Compression::Zstd(1), block_bytes };
    let bytes = write(&states, SegmentKind::Delta, options, &entries).unwrap().bytes;
    (entries, bytes)
}

/// Returns 16 bytes that do not compress.
fn noise(group: u16, number: usize) -> Vec<u8> {
    xxh3_128_with_seed(&group.to_le_bytes(), number as u64).to_le_bytes().to_vec()
}

fn assert_detected(bytes: &[u8], what: std::fmt::Arguments<'_>) {
    let error = read_bytes(bytes).map(|entries| entries.len()).expect_err(&what.to_string());
    let known = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible);
    assert!(known && error.context("segment").is_some(), "{what}: {error}");
}

#[test]
fn every_flip_of_a_small_segment_is_detected() {
    let (entries, bytes) = segment(4, 150);
    assert_eq!(read_bytes(&bytes).unwrap(), entries);
    let index = SegmentIndex::parse(&bytes).unwrap();
    assert!(index.blocks().len() > 1);
    assert!(index.blocks().iter().any(|block| block.raw_len + 24 > block.stored_len), "none is compressed");
    assert!(index.blocks().iter().any(|block| block.raw_len + 24 == block.stored_len), "all are compressed");
    for at in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 0xff, bytes[at], bytes[at].wrapping_add(1) ^ bytes[at]] {
            if flip == 0 {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert_detected(&damaged, format_args!("byte {at} ^ {flip:#x}"));
        }
    }
}

#[test]
fn every_truncation_and_extension_is_detected() {
    let (_, bytes) = segment(2, 250);
    for len in 0..bytes.len() {
        assert_detected(&bytes[..len], format_args!("cut to {len}"));
        assert_detected(&bytes[bytes.len() - len..], format_args!("cut to the last {len}"));
    }
    for more in 1..bytes.len() {
        assert_detected(&[&bytes[..], &vec![0; more]].concat(), format_args!("{more} zeros more"));
        assert_detected(
            &[&bytes[..], &bytes[bytes.len() - more..]].concat(),
            format_args!("last {more} twice"),
        );
        assert_detected(&[&bytes[..more], &bytes[..]].concat(), format_args!("first {more} twice"));
    }
}

#[test]
fn a_block_in_the_place_of_another_is_detected() {
    let (_, bytes) = segment(16, 100);
    let index = SegmentIndex::parse(&bytes).unwrap();
    let mut swapped = 0;
    for a in index.blocks() {
        for b in index.blocks().iter().filter(|b| b.stored_len == a.stored_len && b.offset > a.offset) {
            let mut damaged = bytes.clone();
            let (at, to, len) = (a.offset as usize, b.offset as usize, a.stored_len as usize);
            damaged[at..at + len].copy_from_slice(&bytes[to..to + len]);
            damaged[to..to + len].copy_from_slice(&bytes[at..at + len]);
            assert_detected(&damaged, format_args!("block at {at} and {to}"));
            swapped += 1;
        }
    }
    assert!(swapped > 10);
}

#[test]
fn an_error_names_the_block() {
    let (_, bytes) = segment(40, 100);
    let index = SegmentIndex::parse(&bytes).unwrap();
    for (number, block) in index.blocks().iter().enumerate() {
        let mut damaged = bytes.clone();
        damaged[(block.offset + u64::from(block.stored_len) / 2) as usize] ^= 4;
        let error = read_bytes(&damaged).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("block")),
            (ErrorKind::Corrupt, Some(&number.to_string()[..]))
        );
    }
}

/// A reader reads the header of a large segment apart from the index, unlike that of a small one.
#[test]
fn every_flip_in_the_header_of_a_large_segment_is_detected() {
    let (_, bytes) = segment(1_500, 500);
    for at in 0..12 {
        for flip in [1, 2, 128, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert_detected(&damaged, format_args!("byte {at} ^ {flip:#x}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    /// The segment is larger than the first read from the end of a file.
    #[test]
    fn damage_of_a_large_segment_is_detected(
        places in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 1..4),
        hole in proptest::option::of((any::<prop::sample::Index>(), 1usize..5_000)),
    ) {
        thread_local!(static SEGMENT: Vec<u8> = {
            let (entries, bytes) = segment(1_500, 500);
            assert!(bytes.len() > 200_000, "{}", bytes.len());
            assert_eq!(read_bytes(&bytes).unwrap(), entries);
            bytes
        });
        let mut damaged = SEGMENT.with(Clone::clone);
        for (place, flip) in places {
            let at = place.index(damaged.len());
            damaged[at] ^= flip;
        }
        if let Some((from, len)) = hole {
            let from = from.index(damaged.len());
            damaged.drain(from..(from + len).min(damaged.len() - 1).max(from));
        }
        prop_assume!(damaged != SEGMENT.with(Clone::clone));
        assert_detected(&damaged, format_args!("random damage"));
    }
}
