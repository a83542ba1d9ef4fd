//! Windows that close leave nothing behind.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::Count;
use strandline_operators::window::{CountWindows, TimeWindows, Trigger, Windows};
use strandline_state_api::TimeDomain;
use strandline_state_testing::Harness;

/// Runs `windows` over records of many keys, each of which opens windows that close soon; returns the number of
/// results.
fn results<W: Windows<()>>(windows: &W, rounds: i64) -> usize {
    let mut harness = Harness::new(MemoryBackendFactory::default(), "leaks", |ctx| {
        windows.open::<u64, _, _>(&Count::new(), ctx)
    })
    .unwrap();
    let (mut results, mut most) = (0, 0);
    harness.processing_time(0).unwrap();
    for round in 0..rounds {
        for key in 0..64 {
            // Keys come back in other rounds and never at once.
            harness.process(key * 1_000 + round as u64 % 1_000, (), round * 10 + key as i64 % 10).unwrap();
        }
        harness.watermark(round * 10 - 1).unwrap();
        harness.processing_time(round * 10).unwrap();
        results += harness.take_output().len();
        most = most.max(harness.entries());
    }
    harness.watermark(rounds * 10 + 10_000).unwrap();
    harness.processing_time(rounds * 10 + 10_000).unwrap();
    results += harness.take_output().len();
    assert_eq!(harness.entries(), 0, "state is left after all windows have closed");
    for domain in [TimeDomain::Event, TimeDomain::Processing] {
        assert_eq!(harness.timers(domain).unwrap(), [], "timers are left after all windows have closed");
    }
    assert!(most < 64 * 200, "{most} entries at once");
    results
}

/// How many rounds of 64 windows; at least a million windows with `STRANDLINE_CASES` at 30.
fn rounds() -> i64 {
    i64::from(crate::random::cases()) * 2
}

#[test]
fn windows_that_close_leave_nothing_behind() {
    let rounds = rounds();
    let per_record = rounds as usize * 64;
    let ms = Duration::from_millis;
    let early = Trigger::at_end().every(ms(7)).after_records(3);
    assert_eq!(results(&TimeWindows::tumbling(ms(10)), rounds), per_record);
    assert_eq!(results(&TimeWindows::tumbling(ms(10)).in_processing_time(), rounds), per_record);
    assert_eq!(results(&TimeWindows::session(ms(10)).allowed_lateness(ms(50)), rounds), per_record);
    assert_eq!(results(&TimeWindows::sliding(ms(20), ms(5)), rounds), per_record * 4);
    assert_eq!(results(&CountWindows::tumbling(1), rounds), per_record);
    let purging = TimeWindows::tumbling(ms(10)).allowed_lateness(ms(50)).trigger(early.purging());
    assert!(results(&purging, rounds) >= per_record);
    let in_event_time = Trigger::at_end().every_in_event_time(ms(3));
    let early = TimeWindows::session(ms(10)).allowed_lateness(ms(5)).trigger(in_event_time);
    assert!(results(&early, rounds) >= per_record);
}
