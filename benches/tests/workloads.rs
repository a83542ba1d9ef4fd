//! The workloads do what they say, with the backend as with the plain map: a bench that measures something else is worse than none.

#![allow(clippy::unwrap_used)]

use std::fmt::Debug;
use std::sync::Arc;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::commit::{CommitOp, Commits, PlainFiles};
use strandline_benches::keys::shuffled;
use strandline_benches::w1::{CHECKSUMS, KEYS, Variant, expected_checksum, jobs};
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_benches::w3::Counters;
use strandline_benches::w5::{Counting, Embedding, Floor, executor, stream};
use strandline_benches::{Effort, Subject, compare};
use strandline_connectors::keys::Distribution;
use strandline_state_api::KeyGroupRange;

/// Each operation between reads of everything, in an order that makes each follow each other one.
fn in_step<Op: Copy + Debug>(ops: &[Op], ours: &mut impl Subject<Op>, plain: &mut impl Subject<Op>) {
    for first in ops {
        for second in ops {
            // Comparing is also what finds differences: of results, and of the state that an earlier operation left.
            compare(*first, ours, plain, Effort::ONCE).unwrap();
            compare(*second, ours, plain, Effort::ONCE).unwrap();
        }
    }
}

#[test]
fn value_operations_keep_in_step() {
    let keys = shuffled(500);
    let mut ours = Values::new(MemoryBackendFactory::default(), Arc::clone(&keys)).unwrap();
    in_step(&ValueOp::ALL, &mut ours, &mut PlainValues::new(keys));
}

#[test]
fn list_operations_keep_in_step() {
    let keys = shuffled(500);
    let mut ours = Lists::new(&MemoryBackendFactory::default(), &keys).unwrap();
    in_step(&ListOp::ALL, &mut ours, &mut PlainLists::new(&keys));
}

#[test]
fn map_operations_keep_in_step() {
    let keys = shuffled(500);
    let mut ours = Maps::new(MemoryBackendFactory::default(), &keys).unwrap();
    in_step(&MapOp::ALL, &mut ours, &mut PlainMaps::new(&keys));
}

#[test]
fn slices_do_as_much_as_they_say() {
    let keys = shuffled(1_000);
    let mut plain = PlainMaps::new(&keys);
    plain.ready(MapOp::Remove).unwrap();
    assert_eq!(plain.work(MapOp::Remove).unwrap(), plain.slice(MapOp::Remove) as u64);
    plain.ready(MapOp::Remove).unwrap();
    assert_eq!(plain.work(MapOp::Remove).unwrap(), 200, "what was removed came back");
    // About half of what is looked for is there.
    plain.ready(MapOp::Contains).unwrap();
    let found = plain.work(MapOp::Contains).unwrap();
    assert!((70..=130).contains(&found), "{found} of 200");
}

#[test]
fn snapshots_of_counters_restore() {
    let count = 10_000;
    let mut counters = Counters::new(MemoryBackendFactory::default(), count).unwrap();
    counters.fill().unwrap();
    let first = counters.snapshot().unwrap();
    assert!(first.raw >= counters.changed_bytes(1).unwrap());
    counters.update(10).unwrap();
    let second = counters.snapshot().unwrap();
    assert!(second.raw >= counters.changed_bytes(10).unwrap() && second.raw * 5 < first.raw);
    assert!(second.written < first.written && second.full == first.full + second.written);
    assert_eq!(counters.restore(KeyGroupRange::ALL).unwrap().entries, count);
    counters.tidy().unwrap();
    let halves = counters.restore_halves().unwrap();
    assert!(halves.iter().all(|half| half.entries > count / 3));
    // A change that no snapshot has is found.
    counters.update(100).unwrap();
    let error = counters.restore(KeyGroupRange::ALL).unwrap_err();
    assert!(error.to_string().contains("counter 0 is Some(10000) instead of 20000"), "{error}");
}

#[test]
fn commits_and_plain_files_keep_in_step() {
    let (mut ours, mut plain) = (Commits::new().unwrap(), PlainFiles::new().unwrap());
    for op in CommitOp::ALL {
        compare(op, &mut ours, &mut plain, Effort::ONCE).unwrap();
    }
}

#[test]
fn every_way_to_count_counts_the_same() {
    let (keys, records) = (1_000, 30_000);
    for distribution in [Distribution::Uniform, Distribution::Zipf] {
        let stream = stream(records, keys, distribution).unwrap();
        let (wanted, _) = Floor::whole(stream.clone(), records);
        for way in Embedding::ALL {
            let factory = MemoryBackendFactory::default();
            let mut ours = Counting::new(&factory, way, stream.clone(), 0).unwrap();
            // In parts that are no multiples of a batch.
            let sum = [7, 10_001, 19_992].map(|part| ours.count(part).unwrap());
            assert_eq!(sum.into_iter().fold(0, u64::wrapping_add), wanted, "{way:?}");
        }
        for chained in [true, false] {
            let ours = executor(MemoryBackendFactory::default(), stream.clone(), chained).unwrap();
            assert_eq!(ours.0, wanted);
        }
    }
}

#[test]
fn the_loop_comes_to_the_checksum_of_the_shared_workloads() {
    let (records, wanted, _) = CHECKSUMS[0];
    let counted = Floor::whole(stream(records, KEYS, Distribution::Uniform).unwrap(), records).0;
    assert_eq!(counted, wanted);
    assert_eq!(expected_checksum(records, Distribution::Uniform).unwrap(), wanted);
    let small = Floor::whole(stream(1_000, KEYS, Distribution::Zipf).unwrap(), 1_000).0;
    assert_eq!(expected_checksum(1_000, Distribution::Zipf).unwrap(), small);
}

#[test]
fn the_job_files_are_the_workload() {
    for variant in [Variant::OFF, Variant::EACH_SECOND].iter().chain(&Variant::OTHERS) {
        let text = std::fs::read_to_string(jobs().join(variant.file)).unwrap();
        let job: toml::Table = text.parse().unwrap();
        let source = job["source"].as_table().unwrap();
        assert_eq!(source["keys"].as_integer(), Some(KEYS as i64));
        assert_eq!(source["seed"].as_integer(), Some(42));
        let distribution = match variant.distribution {
            Distribution::Uniform => "uniform",
            Distribution::Zipf => "zipf",
        };
        assert_eq!(source["distribution"].as_str(), Some(distribution), "{}", variant.file);
        let records = source["records"].as_integer().unwrap() as u64;
        let wanted = format!("{:#018x}", expected_checksum(records, variant.distribution).unwrap());
        assert!(text.contains(&wanted), "{} says another checksum than {wanted}", variant.file);
    }
}
