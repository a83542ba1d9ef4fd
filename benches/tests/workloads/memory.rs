//! The workloads do the same with the backend and with the plain map.

use crate::common::{every_way_counts_the_same, states_keep_in_step};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::commit::{CommitOp, Commits, PlainFiles};
use strandline_benches::keys::shuffled;
use strandline_benches::large;
use strandline_benches::w1::{CHECKSUMS, KEYS, Variant, expected_checksum, jobs};
use strandline_benches::w2::map::{MapOp, PlainMaps};
use strandline_benches::w3::Counters;
use strandline_benches::w5::{Floor, stream};
use strandline_benches::windows::{Load, by_hand, sliding, tumbling};
use strandline_benches::{Effort, Subject, compare};
use strandline_connectors::keys::Distribution;

#[test]
fn the_backend_and_the_plain_map_keep_in_step() {
    states_keep_in_step(&MemoryBackendFactory::default());
}

#[test]
fn every_way_to_count_counts_the_same() {
    every_way_counts_the_same(&MemoryBackendFactory::default());
}

#[test]
fn a_large_state_is_checked_after_every_restore() {
    let mut steps = Vec::new();
    large::run(&MemoryBackendFactory::default(), 5_000, |step| steps.push(step.what.clone())).unwrap();
    assert_eq!(steps.iter().filter(|step| *step == "check every entry").count(), 4);
}

#[test]
fn slices_have_as_many_operations_as_announced() {
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
    assert_eq!(counters.restore(0, 1).unwrap().entries, count);
    counters.tidy().unwrap();
    let halves = counters.restore_halves().unwrap();
    assert!(halves.iter().all(|half| half.entries > count / 3));
    // A change that no snapshot has is found.
    counters.update(100).unwrap();
    let error = counters.restore(0, 1).unwrap_err();
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
fn the_loop_comes_to_the_checksum_of_the_shared_workloads() {
    let (records, wanted, _) = CHECKSUMS[0];
    let counted = Floor::whole(stream(records, KEYS, Distribution::Uniform).unwrap(), records).0;
    assert_eq!(counted, wanted);
    assert_eq!(expected_checksum(records, Distribution::Uniform).unwrap(), wanted);
    let small = Floor::whole(stream(1_000, KEYS, Distribution::Zipf).unwrap(), 1_000).0;
    assert_eq!(expected_checksum(1_000, Distribution::Zipf).unwrap(), small);
}

#[test]
fn windows_of_all_kinds_have_the_same_records() {
    let (factory, load) = (MemoryBackendFactory::default(), Load::SMALL);
    let (mut ours, mut plain) = (tumbling(&factory, load).unwrap(), by_hand(&factory, load).unwrap());
    compare(load, &mut ours, &mut plain, Effort::ONCE).unwrap();
    let (mut ours, mut plain) = (sliding(&factory, load).unwrap(), tumbling(&factory, load).unwrap());
    compare(load, &mut ours, &mut plain, Effort::ONCE).unwrap();
    assert_eq!(ours.work(load).unwrap(), 1_200, "20 records/s in 60 s");
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
        assert!(text.contains(&wanted), "{} has another checksum than {wanted}", variant.file);
    }
}
