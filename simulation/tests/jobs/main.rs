//! Jobs in simulation: good ones pass whatever happens to them, and a seed is one run.

mod broken;
mod common;
mod engine;
mod windows;

use std::time::Instant;

use common::*;
use strandline_simulation::{Faults, Job, Simulation, check};
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

/// Two thousand seeds in all.
#[test]
fn counts_are_exact_whatever_happens() {
    exact(1_500, &good());
}

#[test]
fn windows_are_exact_whatever_happens() {
    exact(500, &windows());
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
