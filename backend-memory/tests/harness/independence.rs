//! Results depend neither on when snapshots are taken, nor on failures, nor on the number of subtasks.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strandline_backend_memory::MemoryBackend;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::host::Steps;
use strandline_state_api::{TimeDomain, Timestamp};
use strandline_state_testing::HarnessSnapshot;

use crate::meter::{MeterHarness, Reading, audit, meter, timers, total};

const KEYS: u64 = 24;

/// Returns the number of cases of a property; `STRANDLINE_CASES` multiplies it.
fn cases(default: u32) -> u32 {
    let factor = std::env::var("STRANDLINE_CASES").ok().and_then(|text| text.parse::<u32>().ok());
    default.saturating_mul(factor.unwrap_or(1))
}

/// An input of the job.
#[derive(Clone, Debug)]
enum Input {
    Record {
        key: u64,
        record: i64,
        ahead: i64,
    },
    /// Raises the watermark by this much, at least by one: after a restore, due timers fire even if the
    /// watermark does not rise.
    Watermark(i64),
    /// Raises the processing time by this much.
    Clock(i64),
}

/// An event that must not change the results.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// A checkpoint, after at most so many timers if time jumps.
    Snapshot {
        kind: SnapshotKind,
        timers: usize,
    },
    /// A restore of the newest checkpoint, with another parallelism.
    Failure {
        parallelism: u32,
    },
    Rescale {
        parallelism: u32,
    },
    /// A look at the timers.
    Look,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => (0..KEYS, -20i64..20, 0i64..30)
            .prop_map(|(key, record, ahead)| Input::Record { key, record, ahead }),
        1 => (1i64..40).prop_map(Input::Watermark),
        1 => (0i64..40).prop_map(Input::Clock),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![Just(SnapshotKind::Incremental), Just(SnapshotKind::Full)];
    prop_oneof![
        6 => Just(Event::Nothing),
        2 => (kind, 1usize..4).prop_map(|(kind, timers)| Event::Snapshot { kind, timers }),
        1 => (1u32..9).prop_map(|parallelism| Event::Failure { parallelism }),
        1 => (1u32..9).prop_map(|parallelism| Event::Rescale { parallelism }),
        1 => Just(Event::Look),
    ]
}

/// All observable results of a run.
#[derive(Debug, PartialEq)]
struct Seen {
    output: Vec<(Reading, Option<Timestamp>)>,
    totals: Vec<Option<i64>>,
    timers: [Vec<(i64, u64, u32)>; 2],
    audit: Vec<(u64, i64)>,
    alarms: BTreeSet<u64>,
}

struct Run {
    harness: MeterHarness,
    output: Vec<(Reading, Option<Timestamp>)>,
    time: i64,
    clock: i64,
}

/// The point from which a job continues after a failure.
struct Saved {
    snapshot: HarnessSnapshot,
    /// The next input.
    at: usize,
    emitted: usize,
    time: i64,
    clock: i64,
}

impl Run {
    fn new(parallelism: u32) -> Self {
        let harness = meter(MemoryBackend::factory(), parallelism);
        Self { harness, output: Vec::new(), time: 0, clock: 0 }
    }

    /// Processes one input; where time jumps, `between` is called after each bounded step.
    fn step(&mut self, input: &Input, mut between: impl FnMut(&mut Self)) {
        match *input {
            Input::Record { key, record, ahead } => {
                self.harness.process(key, record, self.time + ahead).unwrap();
            }
            Input::Watermark(by) => {
                self.time += by;
                while self.harness.watermark(self.time).unwrap() == Steps::More {
                    self.take();
                    between(self);
                }
            }
            Input::Clock(by) => {
                self.clock += by;
                while self.harness.processing_time(self.clock).unwrap() == Steps::More {
                    self.take();
                    between(self);
                }
            }
        }
        self.take();
    }

    fn take(&mut self) {
        self.output.extend(self.harness.take_output());
    }

    /// Takes a snapshot and restores it: the rest of the run lacks whatever the snapshot lacks.
    fn snapshot(&mut self, kind: SnapshotKind, parallelism: u32) {
        let snapshot = self.harness.snapshot(kind).unwrap();
        self.harness.restore(&snapshot, parallelism).unwrap();
    }

    fn save(&mut self, at: usize, kind: SnapshotKind) -> Saved {
        let snapshot = self.harness.snapshot(kind).unwrap();
        Saved { snapshot, at, emitted: self.output.len(), time: self.time, clock: self.clock }
    }

    fn go_back(&mut self, saved: &Saved, parallelism: u32) -> usize {
        self.harness.restore(&saved.snapshot, parallelism).unwrap();
        self.output.truncate(saved.emitted);
        (self.time, self.clock) = (saved.time, saved.clock);
        saved.at
    }

    fn seen(mut self) -> Seen {
        let harness = &mut self.harness;
        let totals = (0..KEYS).map(|key| total(harness, key)).collect();
        let timers = [TimeDomain::Event, TimeDomain::Processing].map(|domain| timers(harness, domain));
        let audit = audit(harness);
        let alarms = (0..harness.parallelism())
            .flat_map(|s| harness.operator_state(s, |m, store| Ok(store.get(m.alarms)?.to_vec())).unwrap())
            .collect();
        harness.end().unwrap();
        self.take();
        // The order of the subtasks is arbitrary; the records of one key stay in order, because its time or
        // total rises.
        self.output.sort();
        Seen { output: self.output, totals, timers, audit, alarms }
    }
}

fn undisturbed(inputs: &[Input]) -> Seen {
    let mut run = Run::new(1);
    for input in inputs {
        run.step(input, |_| panic!("without a bound everything fires at once"));
    }
    run.seen()
}

fn disturbed(inputs: &[Input], events: &[Event], parallelism: u32) -> Seen {
    let mut run = Run::new(parallelism);
    let mut saved = run.save(0, SnapshotKind::Incremental);
    let mut events = events.iter();
    let mut at = 0;
    while at < inputs.len() {
        match *events.next().unwrap_or(&Event::Nothing) {
            Event::Nothing => run.step(&inputs[at], |_| panic!("without a bound everything fires at once")),
            Event::Snapshot { kind, timers } => {
                saved = run.save(at, kind);
                run.harness.max_timers(timers);
                run.step(&inputs[at], |run| {
                    run.snapshot(kind, 1 + (timers as u32 + run.harness.parallelism()) % 5);
                });
                run.harness.max_timers(usize::MAX);
            }
            Event::Failure { parallelism } => {
                at = run.go_back(&saved, parallelism);
                continue;
            }
            Event::Rescale { parallelism } => {
                run.harness.rescale(parallelism).unwrap();
                continue;
            }
            Event::Look => {
                timers(&mut run.harness, TimeDomain::Event);
                timers(&mut run.harness, TimeDomain::Processing);
                continue;
            }
        }
        at += 1;
    }
    run.seen()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]

    #[test]
    fn results_depend_on_the_input_alone(
        inputs in proptest::collection::vec(input(), 1..80),
        events in proptest::collection::vec(event(), 0..60),
        parallelism in 1u32..9,
    ) {
        prop_assert_eq!(disturbed(&inputs, &events, parallelism), undisturbed(&inputs));
    }
}
