//! The promises of the harness, one by one.

use strandline_backend_memory::MemoryBackend;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::host::Steps;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Keyed, TimeDomain, Timestamp};
use strandline_state_testing::Harness;

use crate::meter::{Meter, MeterHarness, OpenMeter, audit, meter, timers, total};

fn new(parallelism: u32) -> MeterHarness {
    meter(MemoryBackend::factory(), parallelism)
}

/// Registers an event timer of each key 1 to 20 at ten times the key.
fn with_timers(parallelism: u32) -> MeterHarness {
    let mut harness = new(parallelism);
    for key in 1..=20u64 {
        harness.process(key, 4, 10 * key as i64 - 4).unwrap();
    }
    harness
}

#[test]
fn a_snapshot_in_the_middle_of_a_jump_of_the_watermark() {
    let mut harness = with_timers(1);
    harness.max_timers(7);
    assert_eq!(harness.watermark(1_000).unwrap(), Steps::More);
    let mut first: Vec<_> = harness.take_output().into_iter().map(|(reading, _)| reading.0).collect();
    assert_eq!(first.len(), 7);
    let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
    assert_eq!((snapshot.watermark(), snapshot.parallelism()), (Some(Timestamp::from_millis(1_000)), 1));

    harness.restore(&snapshot, 3).unwrap();
    assert!(harness.take_output().is_empty(), "a restore fires nothing");
    harness.max_timers(usize::MAX);
    // The watermark is that of the snapshot: one that is no higher fires the remaining timers.
    assert_eq!(harness.watermark(0).unwrap(), Steps::Done);
    first.extend(harness.take_output().into_iter().map(|(reading, _)| reading.0));
    first.sort_unstable();
    assert_eq!(first, (1..=20).collect::<Vec<_>>(), "each timer fires once");
}

#[test]
fn the_processing_time_is_known_after_a_restore() {
    let mut harness = new(1);
    harness.processing_time(500).unwrap();
    let snapshot = harness.snapshot(SnapshotKind::Full).unwrap();
    assert_eq!(snapshot.processing_time(), Some(Timestamp::from_millis(500)));
    for parallelism in [1, 4] {
        harness.restore(&snapshot, parallelism).unwrap();
        harness.process(9u64, 5, 0).unwrap();
        assert_eq!(timers(&mut harness, TimeDomain::Processing), [(505, 9, 1)]);
    }
    // A restore does not fire pending timers, however late it is.
    harness.processing_time(504).unwrap();
    harness.max_timers(1);
    harness.process(10u64, 1, 0).unwrap();
    assert_eq!(harness.processing_time(600).unwrap(), Steps::Done);
    assert_eq!(harness.take_output().len(), 2);
}

#[test]
fn a_snapshot_is_independent_of_what_follows_and_of_what_came_before() {
    let mut harness = with_timers(2);
    let first = harness.snapshot(SnapshotKind::Incremental).unwrap();
    harness.process(1u64, 8, 0).unwrap();
    let second = harness.snapshot(SnapshotKind::Incremental).unwrap();
    assert!(second.checkpoint() > first.checkpoint());
    assert!(0 < second.written_bytes() && second.written_bytes() < first.written_bytes());
    assert!(second.full_bytes() > second.written_bytes());
    harness.process(1u64, 16, 0).unwrap();
    harness.snapshot(SnapshotKind::Full).unwrap();
    for (snapshot, wanted) in [(&first, 4), (&second, 12), (&first, 4)] {
        harness.restore(snapshot, 3).unwrap();
        assert_eq!(total(&mut harness, 1), Some(wanted));
    }
    // Later writes do not change the restored snapshot.
    let files = first.segments().segments();
    harness.process(2u64, 8, 0).unwrap();
    // Checkpoint numbers keep rising after a restore.
    assert!(harness.snapshot(SnapshotKind::Incremental).unwrap().checkpoint() > CheckpointId(3));
    assert_eq!(first.segments().segments(), files);
    // Another harness restores it, too.
    let mut other = new(5);
    let restored = other.restore(&second, 2).unwrap();
    assert!(restored.entries > 0 && restored.orphans.is_empty());
    assert_eq!((total(&mut other, 1), other.parallelism()), (Some(12), 2));
}

#[test]
fn operator_state_goes_the_way_of_the_runtime() {
    let mut harness = new(2);
    for key in 0..10u64 {
        harness.process(key, -3, 0).unwrap();
    }
    let before = audit(&harness);
    let alarms = |harness: &MeterHarness, subtask| {
        harness.operator_state(subtask, |meter, store| Ok(store.get(meter.alarms)?.len())).unwrap()
    };
    let shares = |harness: &MeterHarness| -> Vec<usize> {
        let share = |s| harness.operator_state(s, |m, store| Ok(store.get(m.audit)?.len())).unwrap();
        (0..harness.parallelism()).map(share).collect()
    };
    assert_eq!(alarms(&harness, 0) + alarms(&harness, 1), 10);
    harness.rescale(4).unwrap();
    assert_eq!(shares(&harness), [3, 3, 2, 2], "a split list is cut evenly");
    assert!((0..4).all(|subtask| alarms(&harness, subtask) == 10), "every subtask has the whole union list");
    assert_eq!(audit(&harness), before);
}

#[test]
fn the_end_fires_event_timers_only_and_is_the_end() {
    let mut harness = with_timers(3);
    harness.process(1u64, 1, 0).unwrap();
    harness.max_timers(2);
    harness.end().unwrap();
    let output = harness.take_output();
    let (last, fired): (Vec<_>, Vec<_>) = output.iter().partition(|(reading, _)| reading.1 == "end");
    assert!(fired.len() >= 20 && fired.iter().all(|(reading, _)| reading.1 == "by-event"));
    assert_eq!(last.len(), 20, "`on_end` emits a record for every key");
    assert_eq!(timers(&mut harness, TimeDomain::Processing).len(), 1);
    let ended = harness.snapshot(SnapshotKind::Full).unwrap();
    for restored in [false, true] {
        if restored {
            harness.restore(&ended, 2).unwrap();
        }
        assert_eq!(harness.process(1u64, 1, 0).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(harness.processing_time(Timestamp::MAX).unwrap(), Steps::Done);
        harness.end().unwrap();
        assert!(harness.take_output().is_empty());
    }
}

#[test]
fn errors_name_the_operator_and_the_subtask() {
    let mut harness = with_timers(2);
    let error = harness.state(1u64, |_, _| Err::<(), _>(Error::new(ErrorKind::User, "no"))).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::User, Some("meter")));
    let owner = Keyed::new(&1u64).group().subtask(2).to_string();
    assert_eq!(error.context("subtask"), Some(owner.as_str()));
    assert_eq!(harness.operator_state(2, |_, _| Ok(())).unwrap_err().kind(), ErrorKind::Invalid);

    let snapshot = harness.snapshot(SnapshotKind::Full).unwrap();
    let mut other = Harness::new(MemoryBackend::factory(), "another", Meter::open as OpenMeter).unwrap();
    let error = other.restore(&snapshot, 1).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Invalid, Some("another")));
    assert_eq!(harness.restore(&snapshot, 0).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(total(&mut harness, 1), Some(4), "a refused restore changes nothing");
}

#[test]
fn a_damaged_file_is_found_and_the_harness_can_be_restored_again() {
    let mut harness = with_timers(2);
    let good = harness.snapshot(SnapshotKind::Incremental).unwrap();
    let bad = {
        harness.process(1u64, 8, 0).unwrap();
        harness.snapshot(SnapshotKind::Incremental).unwrap()
    };
    for segment in bad.segments().segments() {
        let mut bytes = bad.segments().get(&segment.name).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bad.segments().replace(segment.name, &bytes);
    }
    let error = harness.restore(&bad, 2).unwrap_err();
    assert_eq!((error.kind(), error.context("checkpoint")), (ErrorKind::Corrupt, Some("2")));
    assert_eq!(harness.process(1u64, 1, 0).unwrap_err().kind(), ErrorKind::Invalid);
    harness.restore(&good, 2).unwrap();
    assert_eq!(total(&mut harness, 1), Some(4), "the good snapshot has files of its own");
}
