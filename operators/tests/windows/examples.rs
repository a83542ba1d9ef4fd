//! What single windows do, case by case.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::window::{
    CountWindows, Firing, LateRow, TimeWindows, Trigger, WindowOutput, Windows,
};
use strandline_operators::{Aggregate, Collect, Count, Fold, Reduce, Several};
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{ErrorKind, Evolution, Result, SerdeCodec, TimeDomain};
use strandline_state_testing::Harness;

use crate::script::name;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The factory of the operator under test.
macro_rules! harness {
    ($windows:expr, $aggregate:expr) => {{
        let (windows, aggregate) = ($windows, $aggregate);
        Harness::new(MemoryBackendFactory::default(), "windows", move |ctx| {
            windows.open::<String, _, _>(&aggregate, ctx)
        })
        .unwrap()
    }};
}

/// The window, value and firing of each result.
macro_rules! take {
    ($harness:expr) => {
        $harness
            .take_output()
            .into_iter()
            .map(|(output, _)| output.result().unwrap())
            .map(|result| (result.window.start, result.window.end, result.value, name(result.firing)))
            .collect::<Vec<_>>()
    };
}

fn sum() -> impl Aggregate<In = u64, Out = u64, Accumulator = u64> {
    Fold::new(0, |sum: &mut u64, n: u64| *sum += n, |sum, other| *sum += other)
}

#[test]
fn several_aggregates_see_the_same_records() {
    let greatest = Reduce::new(|greatest: &mut u64, n: u64| *greatest = n.max(*greatest));
    let all = Collect::new(<[u64]>::to_vec);
    let mut harness = harness!(TimeWindows::tumbling(ms(10)), Several((Count::new(), sum(), greatest, all)));
    for n in [3, 9, 4] {
        harness.process("k", n, n as i64).unwrap();
    }
    harness.end().unwrap();
    assert_eq!(take!(harness), [(0, 10, (3, 16, 9, vec![3, 9, 4]), "on time")]);
}

#[test]
fn early_firings_in_processing_time_show_what_is_new() {
    let trigger = Trigger::at_end().every(ms(100));
    let mut harness = harness!(TimeWindows::tumbling(ms(1_000)).trigger(trigger), sum());
    harness.processing_time(5_030).unwrap();
    harness.process("k", 1, 10).unwrap();
    harness.process("k", 2, 20).unwrap();
    assert_eq!(harness.next_processing_timer().unwrap(), Some(5_100.into()));
    harness.processing_time(5_100).unwrap();
    assert_eq!(take!(harness), [(0, 1_000, 3, "early")]);
    harness.processing_time(5_200).unwrap();
    assert_eq!(take!(harness), [], "nothing is new");
    harness.process("k", 4, 30).unwrap();
    harness.rescale(3).unwrap();
    harness.processing_time(5_300).unwrap();
    assert_eq!(take!(harness), [(0, 1_000, 7, "early")]);
    harness.process("k", 8, 30).unwrap();
    harness.watermark(999).unwrap();
    assert_eq!(take!(harness), [(0, 1_000, 15, "on time")]);
    assert_eq!(harness.timers(TimeDomain::Processing).unwrap(), []);
    assert_eq!(harness.entries(), 0);
}

#[test]
fn early_firings_in_event_time_come_at_multiples_of_the_interval() {
    let trigger = Trigger::at_end().every_in_event_time(ms(10)).purging();
    let mut harness = harness!(TimeWindows::tumbling(ms(25)).trigger(trigger), sum());
    harness.process("k", 1, 3).unwrap();
    harness.process("k", 2, 12).unwrap();
    harness.watermark(9).unwrap();
    assert_eq!(take!(harness), []);
    harness.watermark(10).unwrap();
    assert_eq!(take!(harness), [(0, 25, 3, "early")]);
    harness.process("k", 4, 21).unwrap();
    assert_eq!(harness.timers(TimeDomain::Event).unwrap().len(), 1, "30 is behind the end");
    harness.watermark(24).unwrap();
    assert_eq!(take!(harness), [(0, 25, 4, "on time")]);
}

#[test]
fn early_firings_in_event_time_come_in_windows_of_processing_time_too() {
    // Event time lies far behind the clock, or far ahead of it.
    for start in [0, 1_000_000] {
        let trigger = Trigger::at_end().every_in_event_time(ms(10));
        let windows = TimeWindows::tumbling(ms(1_000)).in_processing_time();
        let mut harness = harness!(windows.trigger(trigger), sum());
        harness.processing_time(5_030).unwrap();
        harness.process("k", 1, start + 3).unwrap();
        harness.watermark(start + 10).unwrap();
        assert_eq!(take!(harness), [(5_000, 6_000, 1, "early")], "event time from {start}");
        harness.process("k", 2, start + 12).unwrap();
        harness.processing_time(6_000).unwrap();
        assert_eq!(take!(harness), [(5_000, 6_000, 3, "on time")]);
        assert_eq!(harness.timers(TimeDomain::Event).unwrap(), []);
        assert_eq!(harness.entries(), 0);
    }
}

#[test]
fn the_global_window_fires_by_its_trigger_and_at_the_end() {
    let trigger = Trigger::at_end().after_records(2).purging();
    let mut harness = harness!(TimeWindows::global().trigger(trigger), sum());
    for n in [1, 2, 4, 8, 16] {
        harness.process("k", n, None).unwrap();
    }
    let early = take!(harness);
    assert_eq!(early.iter().map(|(_, _, sum, _)| *sum).collect::<Vec<_>>(), [3, 12]);
    harness.end().unwrap();
    let last = take!(harness);
    assert_eq!(last, [(i64::MIN, i64::MAX, 16, "on time")]);
    assert_eq!(harness.entries(), 0);
}

#[test]
fn count_windows_fire_after_their_records_and_at_the_end() {
    let collect = || Collect::new(<[u64]>::to_vec);
    let mut tumbling = harness!(CountWindows::tumbling(2), collect());
    let mut sliding = harness!(CountWindows::sliding(3, 2), collect());
    for n in 1..=5 {
        tumbling.process("k", n, None).unwrap();
        sliding.process("k", n, None).unwrap();
        tumbling.rescale(n as u32 % 3 + 1).unwrap();
        sliding.rescale(n as u32 % 3 + 1).unwrap();
    }
    tumbling.end().unwrap();
    sliding.end().unwrap();
    let values = |output: strandline_state_api::Batch<WindowOutput<_, _, Vec<u64>, _>>| {
        output.into_iter().map(|(output, _)| output.result().unwrap().value).collect::<Vec<_>>()
    };
    assert_eq!(values(tumbling.take_output()), [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(values(sliding.take_output()), [vec![1, 2], vec![2, 3, 4], vec![4, 5]]);
    assert_eq!((tumbling.entries(), sliding.entries()), (0, 0));
}

#[test]
fn late_records_are_counted_and_emitted_with_their_times() {
    let mut harness = harness!(TimeWindows::tumbling(ms(10)).emit_late(), sum());
    harness.watermark(9).unwrap();
    harness.process("k", 7, 9).unwrap();
    harness.process("k", 1, 10).unwrap();
    harness.end().unwrap();
    let output: Vec<_> = harness.take_output().into_iter().collect();
    let late = LateRow { key: "k".to_owned(), record: 7 };
    assert_eq!(output[0], (WindowOutput::Late(late), Some(9.into())));
    assert_eq!(output[1].1, Some(19.into()), "a result has the last instant of its window");
    assert_eq!(harness.take_too_late(), 1);
}

#[test]
fn a_session_that_grows_after_it_has_fired_fires_again() {
    let mut harness = harness!(TimeWindows::session(ms(10)).allowed_lateness(ms(30)), sum());
    harness.process("k", 1, 0).unwrap();
    harness.watermark(15).unwrap();
    assert_eq!(take!(harness), [(0, 10, 1, "on time")]);
    harness.process("k", 2, 4).unwrap();
    assert_eq!(take!(harness), [(0, 14, 3, "late")]);
    harness.process("k", 4, 13).unwrap();
    assert_eq!(take!(harness), [], "its end is ahead again");
    harness.watermark(22).unwrap();
    assert_eq!(take!(harness), [(0, 23, 7, "on time")]);
    harness.watermark(52).unwrap();
    assert_eq!(harness.entries(), 0);
}

#[test]
fn accumulators_evolve() {
    #[derive(Clone)]
    struct Wide;
    impl Aggregate for Wide {
        type In = u64;
        type Accumulator = (u64, u64);
        type Out = (u64, u64);

        fn storage(&self) -> Evolution<(u64, u64)> {
            Evolution::<u64>::first(1, SerdeCodec).then(2, SerdeCodec, |sum| Ok((sum, 0)))
        }
        fn create(&self) -> (u64, u64) {
            (0, 0)
        }
        fn add(&self, (sum, count): &mut (u64, u64), n: u64) -> Result<()> {
            *sum += n;
            *count += 1;
            Ok(())
        }
        fn merge(&self, into: &mut (u64, u64), other: (u64, u64)) -> Result<()> {
            into.0 += other.0;
            into.1 += other.1;
            Ok(())
        }
        fn result(&self, result: &(u64, u64)) -> Result<(u64, u64)> {
            Ok(*result)
        }
    }
    let mut before = harness!(TimeWindows::sliding(ms(10), ms(5)), sum());
    before.process("k", 5, 7).unwrap();
    let snapshot = before.snapshot(SnapshotKind::Incremental).unwrap();
    let mut after = harness!(TimeWindows::sliding(ms(10), ms(5)), Wide);
    after.restore(&snapshot, 2).unwrap();
    after.process("k", 6, 8).unwrap();
    after.end().unwrap();
    assert_eq!(take!(after), [(0, 10, (11, 1), "on time"), (5, 15, (11, 1), "on time")]);
}

#[test]
fn windows_refuse_what_they_cannot_do() {
    fn refusal<W: Windows<u64>>(windows: W) -> String {
        let opened = Harness::new(MemoryBackendFactory::default(), "windows", move |ctx| {
            windows.open::<String, _, _>(&Count::new(), ctx)
        });
        let Err(error) = opened else { panic!("not refused") };
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    }
    let sliding = || TimeWindows::sliding(ms(10), ms(5));
    for (refused, part) in [
        (refusal(TimeWindows::tumbling(ms(0))), "at least 1 ms"),
        (refusal(TimeWindows::sliding(ms(10), ms(11))), "slide"),
        (refusal(sliding().trigger(Trigger::at_end().purging())), "share their panes"),
        (refusal(sliding().in_processing_time().allowed_lateness(ms(1))), "no late records"),
        (refusal(TimeWindows::global().in_processing_time()), "no time"),
        (refusal(TimeWindows::tumbling(ms(9)).trigger(Trigger::at_end().after_records(0))), "0 records"),
        (refusal(CountWindows::sliding(2, 3)), "one size apart"),
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    let mut harness = harness!(TimeWindows::tumbling(ms(10)), Count::<u64>::new());
    let error = harness.process("k", 1, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("event time"), "{error}");
    assert_eq!(name(Firing::OnTime), "on time");
}
