//! Jobs in simulation: good ones pass whatever happens to them, and a seed is one run.

mod broken;
mod common;
mod engine;
mod operators;
mod unaligned;
mod windows;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use common::*;
use operators::operators;
use strandline_runtime::Outcome;
use strandline_simulation::{Faults, Job, Simulation, check};
use strandline_state_api::Error;
use windows::windows;

#[test]
fn an_undisturbed_run_puts_out_each_count_once() {
    let job = good();
    let expected = Simulation::new(0).expect(&job).unwrap_or_else(|violation| panic!("{violation}"));
    let mut counts: Vec<_> = counted().iter().map(|record| format!("{record:?}")).collect();
    counts.sort();
    assert_eq!(expected.output("results"), Some(&counts[..]));
}

#[test]
fn a_seed_is_one_run() {
    let job = good();
    let expected = Simulation::new(0).expect(&job).unwrap_or_else(|violation| panic!("{violation}"));
    let mut hashes = Vec::new();
    for seed in 0..20 {
        let run = || Simulation::new(seed).run(&job, &expected).unwrap_or_else(|broken| panic!("{broken}"));
        let (first, again) = (run(), run());
        assert_eq!(first, again);
        hashes.push(first.trace_hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 20, "seeds are different runs");
}

#[test]
fn a_job_that_waits_for_ever_is_found() {
    let waits = Job::of_engine(|world, _, _| world.process().block_on(std::future::pending()));
    let violation = Simulation::new(0).expect(&waits).unwrap_err();
    assert!(
        violation.problem.contains("every thread waits for another: world of process 0, job of process 1")
    );
}

/// What it notes counts on from run to run, as a clock does.
#[test]
fn a_job_that_does_not_follow_from_its_seed_is_found() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let job = Job::of_engine(|world, config, _| {
        let run = RUNS.fetch_add(1, SeqCst);
        world.process().note(|| format!("run {run}"));
        // The undisturbed run has nothing to complain about.
        match config.checkpointing.is_some_and(|_| run > 2) {
            true => Err(Error::invalid("on purpose")),
            false => Ok(Outcome::Finished),
        }
    });
    let violation = check(10, &Faults::all(), &job).unwrap_err();
    assert!(violation.problem.contains("does not follow from the seed"), "{violation}");
}

/// With the other jobs, more than 2,500 seeds in all.
#[test]
fn counts_are_exact_whatever_happens() {
    exact(1_500, &good());
}

#[test]
fn windows_are_exact_whatever_happens() {
    exact(500, &windows());
}

#[test]
fn joins_and_windows_are_exact_whatever_happens() {
    exact(100, &operators());
}

fn exact(seeds: u64, job: &Job) {
    let started = Instant::now();
    let checked = check(seeds, &Faults::all(), job).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{checked:?} in {:?}", started.elapsed());
    if checked.seeds >= 100 {
        assert!(checked.processes > 3 * checked.seeds, "{checked:?}: hardly anything happened");
        assert!(checked.disturbed > checked.seeds, "{checked:?}: hardly any operation was disturbed");
    }
}
