//! One simulation, and many.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::baton::Baton;
use crate::director::Director;
use crate::job::{Faults, Job};
use crate::verdict::Left;

/// Multiplies the seeds of a [`check`].
const CASES: &str = "STRANDLINE_CASES";
/// The one seed that a [`check`] runs, with its trace.
const SEED: &str = "STRANDLINE_SEED";

/// One simulation of a job: everything in it follows from its seed.
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
    traced: bool,
}

/// What a job leaves that nothing disturbed.
#[derive(Clone, Debug)]
pub struct Expected(Left);

/// How a simulation went whose job did everything right.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Equal for two runs in which the same happened in the same order, at the same times.
    pub trace_hash: u64,
    /// How long it took, in the time of the simulation.
    pub elapsed: Duration,
    /// How many steps its threads took.
    pub steps: u64,
    /// How many processes the job had.
    pub processes: u32,
    /// How many checkpoints were completed.
    pub checkpoints: u64,
    /// How many operations of the store were disturbed.
    pub disturbed: u64,
    /// The last events, where the simulation was [traced](Simulation::traced).
    pub trace: Vec<String>,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Violation {
    /// The seed that shows it.
    pub seed: u64,
    /// What is wrong.
    pub problem: String,
    /// As that of a [`Report`].
    pub trace_hash: u64,
    /// The last events, where the simulation was [traced](Simulation::traced).
    pub trace: Vec<String>,
}

impl Expected {
    /// The records of an output in their `Debug` form, sorted; `None` when there is no such output.
    pub fn output(&self, name: &str) -> Option<&[String]> {
        self.0.output(name)
    }
}

impl Simulation {
    /// The simulation with this seed, and [all faults](Faults::all).
    pub fn new(seed: u64) -> Self {
        Self { seed, faults: Faults::all(), traced: false }
    }

    /// Sets what may happen.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Keeps the last events as lines to read.
    #[must_use]
    pub fn traced(mut self, traced: bool) -> Self {
        self.traced = traced;
        self
    }

    /// Runs the job without any fault: what it leaves is what all other runs must leave. The seed has no part
    /// in it.
    ///
    /// # Errors
    /// When the job fails by itself.
    pub fn expect(&self, job: &Job) -> Result<Expected, Violation> {
        let undisturbed = Self { seed: 0, faults: Faults::none(), traced: self.traced };
        undisturbed.simulate(job, |director| director.left().map(Expected)).map(|(expected, _)| expected)
    }

    /// Runs the job, and compares what it leaves with what is expected: each record once in every output, the
    /// state of its last checkpoint, and in the storage exactly what the retained checkpoints need.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn run(&self, job: &Job, expected: &Expected) -> Result<Report, Violation> {
        self.simulate(job, |director| director.judge_left(&expected.0)).map(|((), report)| report)
    }

    fn simulate<T>(
        &self,
        job: &Job,
        judge: impl FnOnce(&Director) -> Result<T, String>,
    ) -> Result<(T, Report), Violation> {
        let baton = Baton::new(self.seed, self.traced);
        let mut director = Director::new(baton.clone(), job, &self.faults);
        let judged = director.direct().and_then(|()| judge(&director));
        baton.clear();
        let state = baton.state();
        let (trace_hash, trace) = (state.trace.hash(), state.trace.lines());
        let (steps, elapsed) = (state.steps, state.now);
        drop(state);
        match judged {
            Ok(judged) => {
                let report = Report {
                    seed: self.seed,
                    trace_hash,
                    elapsed,
                    steps,
                    processes: director.processes,
                    checkpoints: *director.checkpoints.lock().unwrap_or_else(PoisonError::into_inner),
                    disturbed: director.outside.disk().disturbed(),
                    trace,
                };
                Ok((judged, report))
            }
            Err(problem) => Err(Violation { seed: self.seed, problem, trace_hash, trace }),
        }
    }
}

/// What the simulations of a [`check`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// How many there were.
    pub seeds: u64,
    /// How many processes they had.
    pub processes: u64,
    /// How many checkpoints they completed.
    pub checkpoints: u64,
    /// How many operations of the store were disturbed.
    pub disturbed: u64,
}

/// Simulates the job with the seeds from 0 to `seeds`, on all cores, until one breaks a rule.
///
/// The variable `STRANDLINE_CASES` multiplies the number of seeds; `STRANDLINE_SEED` names the only one to run,
/// whose trace is printed.
///
/// # Errors
/// The rule that the lowest of the seeds broke which were run until then, with the trace of that seed.
pub fn check(seeds: u64, faults: &Faults, job: &Job) -> Result<Checked, Violation> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let simulation = |seed| Simulation::new(seed).faults(faults.clone());
    let expected = simulation(0).traced(true).expect(job)?;
    if let Some(seed) = variable(SEED) {
        let report = simulation(seed).traced(true).run(job, &expected)?;
        report.trace.iter().for_each(|line| eprintln!("{line}"));
        return Ok(Checked { seeds: 1, ..Checked::default() }.and(&report));
    }
    let seeds = seeds.saturating_mul(variable(CASES).unwrap_or(1));
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new((Checked { seeds, ..Checked::default() }, None::<Violation>));
    let lock = || found.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while !stop.load(SeqCst) {
            let seed = next.fetch_add(1, SeqCst);
            if seed >= seeds {
                return;
            }
            match simulation(seed).run(job, &expected) {
                Ok(report) => {
                    let mut found = lock();
                    found.0 = found.0.and(&report);
                }
                Err(violation) => {
                    stop.store(true, SeqCst);
                    let mut found = lock();
                    if found.1.as_ref().is_none_or(|other| violation.seed < other.seed) {
                        found.1 = Some(violation);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    let (checked, violation) = lock().clone();
    let Some(violation) = violation else { return Ok(checked) };
    // Once more, for its trace.
    match simulation(violation.seed).traced(true).run(job, &expected) {
        Err(again) if again.trace_hash == violation.trace_hash => Err(again),
        _ => Err(Violation {
            problem: format!(
                "{}; and a second run of the seed was different, so something in the job does not follow from \
                 the seed",
                violation.problem
            ),
            ..violation
        }),
    }
}

impl Checked {
    fn and(self, report: &Report) -> Self {
        Self {
            seeds: self.seeds,
            processes: self.processes + u64::from(report.processes),
            checkpoints: self.checkpoints + report.checkpoints,
            disturbed: self.disturbed + report.disturbed,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        write!(f, "seed {}: {}; {SEED}={} runs it again", self.seed, self.problem, self.seed)
    }
}

impl std::error::Error for Violation {}
