//! Crafted segments: every checksum matches, but something else is wrong. A reader refuses each of them,
//! allocates no more than their bytes or the documented maximum, and never panics.

use proptest::collection::vec;
use proptest::prelude::*;
use strandline_snapshot_format::MAX_BLOCK_BYTES;
use strandline_state_api::ErrorKind;

use crate::common::{Entry, cases, read_bytes};
use crate::craft::{Craft, CraftBlock, put, state};

fn refused(craft: &Craft, because: &str) {
    refused_bytes(&craft.build(), because);
}

fn refused_bytes(bytes: &[u8], because: &str) {
    let error = read_bytes(bytes).expect_err(because);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.message().contains(because), "expected {because:?}: {error}");
}

fn with(change: impl FnOnce(&mut Craft)) -> Craft {
    let mut craft = Craft::new();
    change(&mut craft);
    craft
}

/// Crafts one block with this payload, which claims to hold `entries` of group 5 to 6.
fn payload(bytes: &[u8], entries: u32) -> Craft {
    Craft::of(vec![CraftBlock::plain(bytes, entries, [5, 6], 0)])
}

/// Without this, the tests below would prove nothing.
#[test]
fn what_the_specification_allows_is_read() {
    let entries = read_bytes(&Craft::new().build()).unwrap();
    let brief: Vec<_> = entries.iter().map(|e| (e.group, &e.key[..], &e.value[..])).collect();
    assert_eq!(brief, [(5, &b"a"[..], &b"x"[..]), (5, b"b", b"y"), (6, b"a", b"z")]);
}

#[test]
fn newer_versions_are_refused_by_number() {
    let header = [&b"\x89SLSEG\r\n"[..], &[2, 0, 0, 0]].concat();
    for craft in [with(|c| c.version = 2), with(|c| c.header = header)] {
        let error = read_bytes(&craft.build()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.message().contains("version 2") && error.message().contains("up to 1"), "{error}");
    }
    // A newer version may compute the checksum of the footer otherwise, so the error names the version.
    let mut bytes = with(|c| c.version = 7).build();
    let len = bytes.len();
    bytes[len - 20] ^= 1;
    assert_eq!(read_bytes(&bytes).unwrap_err().kind(), ErrorKind::Incompatible);
    refused(&with(|c| c.version = 0), "version 0");
}

#[test]
fn footers_that_point_elsewhere_are_refused() {
    let craft = Craft::new();
    let bytes = craft.build();
    let body = &bytes[..bytes.len() - 36];
    let index = craft.index().len() as u64;
    let at = body.len() as u64 - index;
    for (offset, len) in
        [(at, index + 1), (at + 1, index), (u64::MAX, index), (at, u64::MAX), (0, body.len() as u64)]
    {
        refused_bytes(&craft.with_footer(body.to_vec(), offset, len), "does not lie before it");
    }
    // The location is valid, but holds no index.
    refused_bytes(&craft.with_footer(body.to_vec(), at + 1, index - 1), "index is wrong");
    refused_bytes(&craft.with_footer(body.to_vec(), body.len() as u64, 0), "index is wrong");
    refused_bytes(&craft.with_footer(body.to_vec(), 12, body.len() as u64 - 12), "index is wrong");
}

#[test]
fn wrong_indexes_are_refused() {
    refused(&with(|c| c.kind = 0), "unknown kind of segment");
    refused(&with(|c| c.kind = 3), "unknown kind of segment");
    refused(&with(|c| c.reserved = 1), "reserved");
    refused(&with(|c| c.state_count = 2), "state table");
    refused(&with(|c| c.state_count = u16::MAX), "state table");
    refused(&with(|c| c.block_count = 3), "are not 3 blocks");
    refused(&with(|c| c.block_count = u32::MAX), "blocks");
    let states =
        |states: Vec<Vec<u8>>| with(|c| (c.state_count, c.states) = (states.len() as u16, states.concat()));
    let plain = |name: &str| state(name, 1, ["k", "", "", "v"]);
    refused(&states(vec![plain("b"), plain("a")]), "not sorted");
    refused(&states(vec![plain("a"), plain("a")]), "not sorted");
    refused(&states(vec![plain("")]), "no name");
    refused(&states(vec![state("n", 0, ["k", "", "", "v"])]), "unknown kind");
    refused(&states(vec![state("n", 8, ["k", "", "", "v"])]), "unknown kind");
    refused(&states(vec![state("n", 1, ["k", "", "s", "v"])]), "codec for map keys");
    let mut no_text = plain("n");
    no_text[7] = 0xff;
    refused(&states(vec![no_text]), "UTF-8");
    let mut long = plain("n");
    long[5..7].copy_from_slice(&[0xff, 0xff]);
    refused(&states(vec![long]), "cut short");
}

#[test]
fn wrong_blocks_in_the_index_are_refused() {
    let block = |change: fn(&mut CraftBlock)| with(|c| change(&mut c.blocks[0]));
    refused(&block(|b| b.groups = [32_768, 32_768]), "no such key group");
    refused(&block(|b| b.groups = [6, 5]), "not in order");
    refused(&block(|b| b.groups = [5, 7]), "not in order");
    refused(&block(|b| b.record[0] += 1), "stored length");
    refused(&block(|b| b.record[0] = 24), "stored length");
    refused(&block(|b| b.record[0] = 0), "stored length");
    refused(&block(|b| b.record[0] = u32::MAX), "stored length");
    refused(&block(|b| b.record[0] -= 1), "the index starts at");
    refused(&block(|b| b.record[2] = 0), "number of entries");
    refused(&block(|b| b.record[2] = 10), "number of entries");
    refused(&block(|b| b.claim_raw_len(MAX_BLOCK_BYTES as u32 + 1)), "its length");
    refused(&block(|b| b.claim_raw_len(u32::MAX)), "its length");
}

#[test]
fn blocks_that_are_not_those_of_the_index_are_refused() {
    let block = |change: fn(&mut CraftBlock)| with(|c| change(&mut c.blocks[1]));
    refused(&block(|b| b.record[1] = 99), "header is not that of the index");
    refused(&block(|b| b.lens[1] = 99), "header is not that of the index");
    refused(&block(|b| b.record[2] = 2), "header is not that of the index");
    refused(&block(|b| b.claim_raw_len(99)), "not compressed, but has two lengths");
    refused(&block(|b| b.method = [2, 0, 0, 0]), "unknown way");
    refused(&block(|b| b.method = [0, 0, 0, 1]), "unknown way");
    refused(&block(|b| b.method = [1, 0, 0, 0]), "cannot decompress");
    refused(&block(|b| b.fingerprint ^= 1), "fingerprint");
    refused(&block(|b| b.groups = [5, 6]), "first key group");
    refused(&block(|b| b.groups = [6, 7]), "last key group");
    refused(&block(|b| (b.lens[2], b.record[2]) = (2, 2)), "number of entries");
    // Both blocks are right, but the second does not come after the first.
    let again = with(|c| c.blocks[1] = c.blocks[0].clone());
    refused(&again, "starts before the block before it ends");
    let last = [5 << 2, 1 << 3, b'b', 1, b'y'];
    let last = with(|c| c.blocks[1] = CraftBlock::plain(&last, 1, [5, 5], put(5, b"b", b"y")));
    refused(&last, "starts before the block before it ends");
}

#[test]
fn zstd_frames_of_another_length_are_refused() {
    let payload = [6 << 2, 1 << 3, b'a', 100].into_iter().chain([b'z'; 100]).collect::<Vec<_>>();
    let fingerprint = put(6, b"a", &[b'z'; 100]);
    let packed = |raw: &[u8], claimed: u32| {
        with(|c| {
            let mut block = CraftBlock::plain(&zstd::bulk::compress(raw, 1).unwrap(), 1, [6, 6], fingerprint);
            block.method = [1, 0, 0, 0];
            block.claim_raw_len(claimed);
            c.blocks[1] = block;
        })
    };
    assert_eq!(read_bytes(&packed(&payload, 104).build()).unwrap()[2].value, [b'z'; 100]);
    refused(&packed(&payload, 105), "another length");
    refused(&packed(&payload, MAX_BLOCK_BYTES as u32), "another length");
    refused(&packed(&payload, 103), "cannot decompress");
    // A bomb packs a megabyte into few bytes.
    refused(&packed(&vec![0; 1 << 20], 104), "cannot decompress");
}

#[test]
fn wrong_payloads_are_refused() {
    let (run, a, b) = (5 << 2, [1 << 3, b'a', 1, b'x'], [1 << 3, b'b', 1, b'y']);
    let cases: &[(&[&[u8]], u32, &str)] = &[
        (&[&[run, 1 << 3, b'a']], 1, "cut short"),
        (&[&[run, 1 << 3, b'a', 2, b'x']], 1, "cut short"),
        (&[&[run, 2 << 3, b'a']], 1, "cut short"),
        (&[&[run, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]], 1, "cut short"),
        (&[&[run, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], 1, "cut short"),
        (&[&[run, 1 << 3, b'a', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]], 1, "cut short"),
        (&[&[run | 1, 0], &a], 1, "no or too many entries"),
        (&[&[run | 1, 200], &a], 1, "no or too many entries"),
        (
            &[&[run | 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &a],
            1,
            "no or too many entries",
        ),
        (&[&[run | 2, 1], &a], 1, "no state"),
        (&[&[run | 2, 0x80, 0x80, 4], &a], 1, "no state"),
        (&[&[7 << 2], &a], 1, "behind the last one"),
        (&[&[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], &a], 1, "behind the last one"),
        (&[&[4 << 2], &a], 1, "first key group"),
        (&[&[run], &a], 1, "last key group"),
        (&[&[run | 1, 2], &b, &a], 2, "not in order"),
        (&[&[run | 1, 2], &a, &a], 2, "not in order"),
        (&[&[run], &a, &[0], &b], 2, "runs are not in order"),
        (&[&[run], &[1 << 3 | 1, b'a']], 1, "no such operation"),
        (&[&[run], &[1 << 3 | 2, b'a', 1, b'x']], 1, "no such operation"),
        (&[&[run], &[1 << 3 | 3, b'a']], 1, "no such operation"),
        (&[&[run], &[1 << 3 | 5, b'a']], 1, "length of one"),
        (&[&[run]], 1, "no or too many entries"),
        (&[&[0x80]], 1, "run is cut short"),
        (&[&[run], &a, &[1 << 2], &a, &[0x80]], 2, "run is cut short"),
        (&[&[run], &a, &[1 << 2], &a], 1, "number of entries"),
        (&[&[run], &a, &[1 << 2], &a], 3, "number of entries"),
        (&[&[run], &a, &[1 << 2], &a], 2, "fingerprint"),
    ];
    for (parts, entries, because) in cases {
        refused(&payload(&parts.concat(), *entries), because);
    }
}

#[test]
fn wrong_payloads_of_maps_and_timers_are_refused() {
    let of = |kind: u8, sub: &str, bytes: &[u8], entries| {
        let mut craft = payload(bytes, entries);
        (craft.kind, craft.states) = (2, state("n", kind, ["k", "", sub, ""]));
        craft
    };
    let run = 5 << 2;
    // The entry shares the key of the entry before it, where there is none, or gives a length as well.
    refused(&of(3, "s", &[run, 8, 1, b's'], 1), "shares the key of no entry");
    refused(
        &of(3, "s", &[run | 1, 2, 1 << 4, b'k', 1, b's', 1 << 4 | 8, 1, b't'], 2),
        "shares the key of no entry",
    );
    refused(&of(3, "s", &[run, 1 << 4, b'k', 1, b's', 1 << 2, 8, 1, b't'], 2), "shares the key of no entry");
    // A clear follows a map entry of its own map.
    refused(&of(3, "s", &[run | 1, 2, 1 << 4, b'k', 0, 8 | 3], 2), "not in order");
    refused(&of(4, "", &[run, 7 << 3, 0, 0, 0, 0, 0, 0, 0], 1), "shorter than its time");
}

fn is_ordered(entries: &[Entry]) -> bool {
    // Without operation and value, the derived order is the order of the format.
    let place = |e: &Entry| Entry { op: 0, value: Vec::new(), ..e.clone() };
    entries.windows(2).all(|pair| place(&pair[0]) < place(&pair[1]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2_000)))]

    #[test]
    fn any_payload_is_read_in_order_or_refused(bytes in vec(prop_oneof![0u8..30, any::<u8>()], 1..60), map: bool) {
        let mut craft = payload(&bytes, 1);
        craft.kind = 2;
        if map {
            craft.states = state("n", 3, ["k", "w", "s", "v"]);
        }
        // The decoder checks the fingerprint last: whatever the entries are, it does not match.
        prop_assert_eq!(read_bytes(&craft.build()).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn any_change_to_the_index_is_read_in_order_or_refused(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in 0usize..3,
    ) {
        let craft = Craft::new();
        let mut index = craft.index();
        for (at, byte) in changes {
            let at = at.index(index.len());
            index[at] = byte;
        }
        index.truncate(index.len() - cut);
        match read_bytes(&craft.build_with_index(&index)) {
            Ok(entries) => prop_assert!(is_ordered(&entries) && entries.len() == 3),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(read_bytes(&bytes).is_err());
    }
}
