//! How expired values leave: reads that still return them, clean-ups, and snapshots without them.

use std::time::Duration;

use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::{Cleanup, KeyedBackend, Refresh, Ttl, Visibility};

use super::expiring_states::{ExpiringStates, ttl};
use super::simple::Simple;
use crate::Subject;
use crate::access::{TableAccess, ms};

/// Where a state asks for it, reads return expired values until something removes them.
pub fn what_is_shown_until_it_is_cleaned_up<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let cleanup = Cleanup { per_record: 1, in_compactions: false, ..Cleanup::default() };
    let shown = ttl(10).visibility(Visibility::UntilCleaned).cleanup(cleanup);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), shown).unwrap();
    simple.backend.clock().processing_time = ms(0);
    timed.write(&mut simple.backend, 1, 5);
    simple.backend.clock().processing_time = ms(1_000);
    for _ in 0..2 {
        timed.shows(&mut simple.backend, 1, 5, "not cleaned up yet");
    }
    if subject.capabilities().cleans_up {
        simple.snapshot(SnapshotKind::Incremental).unwrap();
        simple.backend.clean_up(1_000_000).unwrap();
        timed.hides(&mut simple.backend, 1, "cleaned up");
    }
}

/// A read does not refresh an expired value that it still returns: the stamp stays, and so a clean-up removes
/// the value.
pub fn a_read_does_not_refresh_an_expired_value<F: BackendFactory>(subject: &Subject<F>) {
    let mut simple = Simple::<F, u64>::new(subject);
    let cleanup = Cleanup { per_record: 1, in_compactions: false, ..Cleanup::default() };
    let shown =
        ttl(10).visibility(Visibility::UntilCleaned).refresh(Refresh::OnReadAndWrite).cleanup(cleanup);
    let timed = ExpiringStates::register(&mut simple.backend, subject.capabilities(), shown).unwrap();
    simple.backend.clock().processing_time = ms(0);
    timed.write(&mut simple.backend, 1, 5);
    simple.backend.clock().processing_time = ms(6);
    timed.shows(&mut simple.backend, 1, 5, "refreshed, since it has not expired");
    simple.backend.clock().processing_time = ms(20);
    for _ in 0..2 {
        timed.shows(&mut simple.backend, 1, 5, "expired, but not cleaned up");
    }
    let b = &mut simple.backend;
    assert_eq!(b.timed_value(timed.value, &1).unwrap().unwrap().stamp, ms(6));
    if let Some(list) = timed.list {
        assert_eq!(b.timed_list(list, &1).unwrap()[0].stamp, ms(6));
    }
    if let Some(map) = timed.map {
        assert_eq!(b.timed_map(map, &1).unwrap()[0].1.stamp, ms(6));
    }
    if subject.capabilities().cleans_up {
        simple.snapshot(SnapshotKind::Incremental).unwrap();
        simple.backend.clean_up(1_000_000).unwrap();
        timed.hides(&mut simple.backend, 1, "cleaned up in spite of the reads");
    }
}

/// `clean_up` removes expired values that are never accessed, in bounded steps; later snapshots do not have
/// them.
pub fn clean_up_by_records<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    if !has.cleans_up {
        return;
    }
    let mut simple = Simple::<F, u64>::new(subject);
    let cleanup = Cleanup { per_record: 4, in_compactions: false, ..Cleanup::default() };
    let timed = ExpiringStates::register(&mut simple.backend, has, ttl(10).cleanup(cleanup)).unwrap();
    let states = timed.states();
    for key in 0..2_000 {
        simple.backend.clock().processing_time = ms((key % 2) as i64 * 8);
        timed.write(&mut simple.backend, key, key);
    }
    simple.snapshot(SnapshotKind::Incremental).unwrap();
    simple.backend.clock().processing_time = ms(12);
    let (mut removed, mut steps) = (0, 0);
    while removed < 1_000 * states as u64 {
        let step = simple.backend.clean_up(100).unwrap();
        assert!(step <= states as u64 * 4 * 100 * 3, "a step of 100 records removes {step}");
        removed += step;
        steps += 1;
        assert!(steps < 1_000, "{removed} entries are removed after {steps} steps");
    }
    assert!(steps > 1, "one step of 100 records removes everything");
    let left: usize = (0..2_000).map(|key| timed.left(&mut simple.backend, key)).sum();
    assert_eq!(left, 1_000 * states, "the others have not expired");
    let snapshot = simple.snapshot(SnapshotKind::Incremental).unwrap();
    let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, ttl(10));
    let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
    restored.backend.clock().processing_time = ms(12);
    for key in 0..2_000 {
        assert_eq!(timed.left(&mut restored.backend, key), if key % 2 == 0 { 0 } else { states });
    }
}

/// A full snapshot leaves out what had expired at its barrier, and does not change the state (Flink: TTL-08).
pub fn full_snapshots_leave_out_what_has_expired<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    if !has.filters_full_snapshots {
        return;
    }
    for in_full_snapshots in [true, false] {
        let mut simple = Simple::<F, u64>::new(subject);
        let cleanup = Cleanup { per_record: 0, in_full_snapshots, in_compactions: false };
        let ttl = ttl(10).cleanup(cleanup);
        let timed = ExpiringStates::register(&mut simple.backend, has, ttl).unwrap();
        let states = timed.states();
        for key in 0..100 {
            simple.backend.clock().processing_time = ms((key % 2) as i64 * 8);
            timed.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().processing_time = ms(12);
        // The first full snapshot; a backend that folds deltas may never write another one.
        let snapshot = simple.snapshot(SnapshotKind::Full).unwrap();
        assert_eq!(timed.left(&mut simple.backend, 2), states, "only the snapshot leaves the values out");
        let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, ttl);
        let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().processing_time = ms(12);
        for key in 0..100 {
            let gone = in_full_snapshots && key % 2 == 0;
            assert_eq!(timed.left(&mut restored.backend, key), if gone { 0 } else { states }, "key {key}");
        }
    }
}

/// A value that had not expired at the barrier exists after a restore, even if the watermark has passed its
/// end before the snapshot was written.
pub fn a_snapshot_has_what_lived_at_its_barrier<F: BackendFactory>(subject: &Subject<F>) {
    let has = subject.capabilities();
    for kind in [SnapshotKind::Full, SnapshotKind::Incremental] {
        let mut simple = Simple::<F, u64>::new(subject);
        let event = Ttl::event_time(Duration::from_millis(10));
        let timed = ExpiringStates::register(&mut simple.backend, has, event).unwrap();
        (simple.backend.clock().watermark, simple.backend.clock().timestamp) = (ms(0), ms(5));
        for key in 0..500 {
            timed.write(&mut simple.backend, key, key);
        }
        simple.backend.clock().watermark = ms(14);
        simple.prepare(kind).unwrap();
        simple.backend.clock().watermark = ms(1_000);
        simple.backend.clean_up(10_000).unwrap();
        for key in 0..250 {
            timed.hides(&mut simple.backend, key, "after the barrier");
        }
        let snapshot = simple.finish().unwrap();
        let register = |b: &mut F::Backend<u64>| ExpiringStates::register(b, has, event);
        let (mut restored, timed) = simple.restore(&[snapshot], register).unwrap();
        restored.backend.clock().watermark = ms(14);
        for key in 0..500 {
            timed.shows(&mut restored.backend, key, key, &format!("{kind:?}"));
        }
    }
}
