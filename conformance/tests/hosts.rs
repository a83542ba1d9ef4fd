//! The cases for hosts, on the executor and on the smallest host.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_conformance::hosts::*;

type Subject = HostSubject<MemoryBackendFactory>;

fn executor() -> Subject {
    HostSubject::new("executor", MemoryBackendFactory::default(), strandline_runtime::run)
}

fn bare() -> Subject {
    HostSubject::new("bare host", MemoryBackendFactory::default(), |pipeline, config, control| {
        let mut host = BareHost::new(config.parallelism);
        strandline_runtime::run_on(pipeline, config, control, &mut host)
    })
}

#[test]
fn both_compute_the_same_at_any_parallelism() {
    [executor(), bare()].iter().for_each(computes_the_same_at_any_parallelism);
}

#[test]
fn both_run_without_checkpoints() {
    [executor(), bare()].iter().for_each(runs_without_checkpoints);
}

#[test]
fn both_restart_from_the_newest_checkpoint() {
    [executor(), bare()].iter().for_each(restarts_from_the_newest_checkpoint);
}

#[test]
fn each_resumes_what_the_other_stored() {
    each_resumes_what_the_others_stored(&[&executor(), &bare()]);
}
