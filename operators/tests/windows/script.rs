//! Random streams, and a harness that runs an operator over them with interruptions.

use proptest::prelude::*;
use strandline_operators::window::{Firing, WindowOutput, WindowResult};
use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::host::Steps;
use strandline_state_api::{Open, Operator, Result, TimeDomain, TimeWindow};
use strandline_state_testing::Harness;

/// One event of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A record of a key, this much before or after the clock.
    Record { key: u64, offset: i64 },
    /// The clock goes on, and the watermark with it.
    Advance(i64),
    /// The job stops after a snapshot, loses what it does then, and continues with so many subtasks.
    Interrupt(u32),
}

/// A stream, and how far the watermark stays behind the clock.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) delay: i64,
    /// Whether the operator may also be interrupted while timers of one watermark are left.
    pub(crate) max_timers: usize,
    /// Whether records then come before the timers that are left.
    pub(crate) leaves_timers: bool,
}

pub(crate) type Key = u64;

/// The value of records whose effects are lost.
const LOST: i64 = 255;

/// A result of a window, or a late record, in an order for comparisons.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Emitted {
    Result { key: Key, start: i64, end: i64, values: Vec<i64>, firing: &'static str },
    Late { key: Key, value: i64 },
}

pub(crate) fn name(firing: Firing) -> &'static str {
    match firing {
        Firing::Early => "early",
        Firing::OnTime => "on time",
        Firing::Late => "late",
    }
}

/// Times lie on few instants, so that ties and gaps that end exactly at a border are common.
pub(crate) fn script() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        12 => (0..3u64, -30..=6i64).prop_map(|(key, offset)| Step::Record { key, offset }),
        5 => (0..8i64).prop_map(Step::Advance),
        1 => (20..90i64).prop_map(Step::Advance),
        1 => (1..=4u32).prop_map(Step::Interrupt),
    ];
    interrupted(step, 80)
}

/// Keys have records in most instants, and few of them are late.
pub(crate) fn dense() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        16 => (0..2u64, -3..=3i64).prop_map(|(key, offset)| Step::Record { key, offset }),
        1 => (0..2u64, -20..=0i64).prop_map(|(key, offset)| Step::Record { key, offset }),
        12 => (0..3i64).prop_map(Step::Advance),
        1 => (4..40i64).prop_map(Step::Advance),
        1 => (1..=4u32).prop_map(Step::Interrupt),
    ];
    interrupted(step, 250)
}

fn interrupted(step: impl Strategy<Value = Step>, most: usize) -> impl Strategy<Value = Script> {
    let steps = proptest::collection::vec(step, 1..most);
    (steps, 0..8i64, prop_oneof![Just(usize::MAX), 1..3usize], any::<bool>()).prop_map(
        |(steps, delay, max_timers, leaves_timers)| Script { steps, delay, max_timers, leaves_timers },
    )
}

/// The clock at the beginning: windows below zero occur, too.
pub(crate) const START: i64 = -40;

impl Script {
    /// Calls `record` with each record (key, time, value) and `advance` with each new time of the clock, in
    /// order. The values number the records.
    pub(crate) fn play(&self, mut on: impl FnMut(Played) -> Result<()>) -> Result<()> {
        let (mut clock, mut value) = (START, 0);
        for step in &self.steps {
            match *step {
                Step::Record { key, offset } => {
                    value += 1;
                    on(Played::Record { key, time: clock + offset, value })?;
                }
                Step::Advance(by) => {
                    clock += by;
                    on(Played::Clock(clock))?;
                }
                Step::Interrupt(parallelism) => on(Played::Interrupt(parallelism))?,
            }
        }
        Ok(())
    }
}

/// A step with the clock applied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Played {
    Record { key: Key, time: i64, value: i64 },
    Clock(i64),
    Interrupt(u32),
}

/// Runs an operator over a stream; returns its output in order of comparison, and checks that nothing is left.
pub(crate) fn run<F, O, R, M>(
    factory: F,
    script: &Script,
    domain: TimeDomain,
    values: impl Fn(R) -> Vec<i64>,
    open: M,
) -> Vec<Emitted>
where
    F: BackendFactory,
    O: Operator<Key = Key, In = i64, Namespace = TimeWindow, Out = WindowOutput<Key, TimeWindow, R, i64>>,
    M: Fn(&mut Open<'_, F::Backend<Key>, TimeWindow>) -> Result<O>,
{
    // RocksDB estimates how many entries it has.
    let counts = factory.name() == "memory";
    let mut harness = Harness::new(factory, "windows", open).unwrap();
    harness.max_timers(script.max_timers);
    let mut emitted = Vec::new();
    if domain == TimeDomain::Processing {
        harness.processing_time(START).unwrap();
    }
    script
        .play(|played| {
            match played {
                Played::Record { key, time, value } => harness.process(key, value, time)?,
                Played::Clock(clock) => {
                    let mut parallelism = harness.parallelism();
                    loop {
                        let steps = match domain {
                            TimeDomain::Event => harness.watermark(clock - script.delay)?,
                            TimeDomain::Processing => harness.processing_time(clock)?,
                        };
                        if steps == Steps::Done {
                            break;
                        }
                        // In the middle of the timers of one watermark.
                        emitted.extend(harness.take_output().into_iter().map(|(output, _)| output));
                        parallelism = parallelism % 4 + 1;
                        harness.rescale(parallelism)?;
                        if script.leaves_timers {
                            break;
                        }
                    }
                }
                Played::Interrupt(parallelism) => {
                    emitted.extend(harness.take_output().into_iter().map(|(output, _)| output));
                    let snapshot = harness.snapshot(SnapshotKind::Incremental)?;
                    for lost in 0..3u64 {
                        harness.process(lost, LOST, START + lost as i64 * 7)?;
                    }
                    harness.take_output();
                    harness.restore(&snapshot, parallelism)?;
                }
            }
            Ok(())
        })
        .unwrap();
    harness.end().unwrap();
    emitted.extend(harness.take_output().into_iter().map(|(output, _)| output));
    assert!(!counts || harness.entries() == 0, "state is left after the end");
    for domain in [TimeDomain::Event, TimeDomain::Processing] {
        assert_eq!(harness.timers(domain).unwrap(), [], "timers are left after the end");
    }
    let mut emitted: Vec<_> = emitted.into_iter().map(|output| comparable(output, &values)).collect();
    emitted.sort();
    emitted
}

fn comparable<R>(output: WindowOutput<Key, TimeWindow, R, i64>, values: impl Fn(R) -> Vec<i64>) -> Emitted {
    match output {
        WindowOutput::Result(WindowResult { key, window, value, firing }) => {
            let TimeWindow { start, end } = window;
            Emitted::Result { key, start, end, values: values(value), firing: name(firing) }
        }
        WindowOutput::Late(late) => Emitted::Late { key: late.key, value: late.record },
    }
}
