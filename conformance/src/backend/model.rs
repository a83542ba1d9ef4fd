//! Random programs against a model: operations, snapshots in flight, failures, restores, rescales.
//!
//! A program is a list of steps that follow from a seed. When a program fails, the case leaves out steps as
//! long as the rest still fails, and prints that rest: usually a handful of lines.

mod cluster;
mod shrink;
mod step;

use fastrand::Rng;
use strandline_state_api::backend::BackendFactory;

use crate::Subject;
use crate::effort::{first_seed, programs};

use cluster::Cluster;
use step::Step;

/// The number of steps of one program.
const LENGTH: usize = 500;

/// Runs 70 programs of 500 steps. `STRANDLINE_CASES` multiplies their number, `STRANDLINE_SEED` is the first
/// seed.
pub fn random_programs<F: BackendFactory>(subject: &Subject<F>) {
    let first = first_seed();
    for seed in first..first + programs(70) {
        let program = program(seed);
        let Err(failure) = Cluster::run(subject, &program) else { continue };
        let (shortest, its_failure) = shrink::shrink(program, failure, |p| Cluster::run(subject, p).err());
        let steps: Vec<String> = shortest.iter().map(|step| format!("    {step:?}")).collect();
        panic!(
            "the program of seed {seed} fails; repeat it with STRANDLINE_SEED={seed}. \
             The shortest that fails:\n{}\n{:?}",
            steps.join("\n"),
            its_failure
        );
    }
}

fn program(seed: u64) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    (0..LENGTH).map(|_| Step::any(&mut rng)).collect()
}
