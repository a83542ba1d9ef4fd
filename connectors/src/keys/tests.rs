use std::collections::BTreeMap;

use proptest::prelude::*;
use strandline_state_api::{Codec, SerdeCodec};

use super::*;

fn stream(distribution: Distribution, records: u64) -> KeyStream {
    KeyStream::new(KeyStreamConfig { records, keys: 1_000_000, seed: 42, distribution }).unwrap()
}

fn small(records: u64) -> KeyStream {
    let distribution = Distribution::Uniform;
    KeyStream::new(KeyStreamConfig { records, keys: 1 << 40, seed: 1, distribution }).unwrap()
}

fn sum_of_keys(stream: &KeyStream) -> u64 {
    (0..1_000_000).fold(0, |sum: u64, n| sum.wrapping_add(stream.key(n)))
}

#[test]
fn uniform_ranks_are_those_of_the_definition() {
    let stream = stream(Distribution::Uniform, 0);
    let ranks: Vec<_> = (0..8).map(|n| stream.rank(n)).collect();
    assert_eq!(ranks, [741_564, 159_910, 278_601, 344_190, 38_030, 868_228, 218_405, 800_631]);
    assert_eq!(sum_of_keys(&stream), 0x7ee_a026_8d01_6656);
}

#[test]
fn zipf_ranks_are_those_of_the_definition() {
    let stream = stream(Distribution::Zipf, 0);
    let ranks: Vec<_> = (0..8).map(|n| stream.rank(n)).collect();
    assert_eq!(ranks, [29_428, 5, 37, 100, 0, 168_270, 15, 66_610]);
    assert_eq!(stream.zipf.as_ref().unwrap().total(), 16_924_640_708_621);
    assert_eq!(sum_of_keys(&stream), 0xa1be_2031_4e76_c6fb);
}

#[test]
fn counting_the_stream_gives_the_known_checksums() {
    for (distribution, wanted) in
        [(Distribution::Uniform, 0xfede_ded8_feee_bf25_u64), (Distribution::Zipf, 0xbbd8_f1d9_d9ea_8aff)]
    {
        let stream = stream(distribution, 0);
        let mut counts = vec![0u64; 1_000_000];
        let mut checksum = 0u64;
        for n in 0..4_000_000 {
            let rank = stream.rank(n);
            let count = &mut counts[rank as usize];
            *count += 1;
            checksum = checksum.wrapping_add(mix(mix(rank).wrapping_mul(GAMMA).wrapping_add(*count)));
        }
        assert_eq!(checksum, wanted, "{distribution:?}");
    }
}

proptest! {
    /// The stream reads each record once, wherever its subtasks stop and at whatever parallelism it is
    /// restored.
    #[test]
    fn every_record_is_read_once_over_rescales(
        records in 0u64..300,
        steps in proptest::collection::vec((1u32..6, proptest::collection::vec(0usize..40, 6)), 1..5),
    ) {
        let stream = small(records);
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let mut restored = None;
        let mut read = |restored: &Option<Vec<KeyRange>>, parallelism: u32, polls: &dyn Fn(u32) -> usize| {
            let mut positions = Vec::new();
            for subtask in 0..parallelism {
                let context = SourceContext { subtask, parallelism, restored: restored.clone() };
                let mut source = stream.open(context).unwrap();
                let mut output = Batch::new();
                source.poll(polls(subtask), &mut output).unwrap();
                for key in output.records() {
                    *seen.entry(*key).or_default() += 1;
                }
                positions.extend(source.positions().unwrap());
            }
            Some(positions)
        };
        for (parallelism, polls) in &steps {
            restored = read(&restored, *parallelism, &|subtask| polls[subtask as usize]);
        }
        read(&restored, 3, &|_| usize::MAX);
        prop_assert_eq!(seen.len() as u64, records);
        prop_assert!(seen.values().all(|&times| times == 1));
    }
}

#[test]
fn a_checkpoint_of_another_stream_is_refused() {
    let context = SourceContext { subtask: 0, parallelism: 1, restored: None };
    let positions = small(10).open(context.clone()).unwrap().positions().unwrap();
    let error = small(11).open(SourceContext { restored: Some(positions), ..context }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("another key stream"), "{error}");
}

/// The bytes of the first version, which checkpoints hold.
#[test]
fn the_stored_form_of_a_position_stays() {
    let stored = [0xE8, 0x07, 0x80, 0x80, 0x01, 0x2A, 0x01, 0xFA, 0x01, 0xF4, 0x03];
    let config =
        KeyStreamConfig { records: 1_000, keys: 1 << 14, seed: 42, distribution: Distribution::Zipf };
    let range = KeyRange { config, next: 250, end: 500 };
    assert_eq!(Codec::<KeyRange>::decode(&SerdeCodec, &stored).unwrap(), range);
    let mut encoded = Vec::new();
    SerdeCodec.encode(&range, &mut encoded).unwrap();
    assert_eq!(encoded, stored);
}
