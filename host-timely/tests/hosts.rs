//! The cases for hosts on timely dataflow, and checkpoints that move between it and the other hosts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_conformance::hosts::job::{Orders, config, pipeline};
use strandline_conformance::hosts::*;
use strandline_host_timely::{Cluster, run};
use strandline_runtime::{JobConfig, JobControl, Unaligned};
use strandline_state_api::{Error, ErrorKind};

type Subject = HostSubject<MemoryBackendFactory>;

fn timely() -> Subject {
    HostSubject::new("timely", MemoryBackendFactory::default(), |pipeline, config, control| {
        run(pipeline, &Cluster::local(config.parallelism), config, control).map(Option::unwrap)
    })
}

#[test]
fn it_computes_the_same_with_any_number_of_workers() {
    computes_the_same_at_any_parallelism(&timely());
}

#[test]
fn it_runs_without_checkpoints() {
    runs_without_checkpoints(&timely());
}

#[test]
fn it_restarts_from_the_newest_checkpoint() {
    restarts_from_the_newest_checkpoint(&timely());
}

#[test]
fn executor_timely_and_the_bare_host_resume_what_the_others_stored() {
    let executor = HostSubject::new("executor", MemoryBackendFactory::default(), strandline_runtime::run);
    let bare = HostSubject::new("bare host", MemoryBackendFactory::default(), |pipeline, config, control| {
        let mut host = BareHost::new(config.parallelism);
        strandline_runtime::run_on(pipeline, config, control, &mut host)
    });
    each_resumes_what_the_others_stored(&[&executor, &timely(), &bare]);
}

fn refused(workers: u32, config: JobConfig) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let pipeline = pipeline(MemoryBackendFactory::default(), &Orders::new(10), dir.path());
    run(&pipeline, &Cluster::local(workers), config, &JobControl::new()).unwrap_err()
}

#[test]
fn what_a_job_cannot_use_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir.path().join("state"), Duration::from_millis(20));
    if let Some(checkpointing) = &mut config.checkpointing {
        checkpointing.unaligned = Unaligned::On;
    }
    let error = refused(2, config);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("unaligned"), "{error}");
    assert_eq!(refused(0, JobConfig::default()).kind(), ErrorKind::Invalid);
}
