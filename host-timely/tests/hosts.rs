//! One job on the executor and on timely dataflow: equal results, and each resumes from checkpoints of the other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::*;
use strandline_host_timely::Cluster;
use strandline_runtime::{JobConfig, JobControl, JobReport, Outcome, Unaligned};
use strandline_state_api::{ErrorKind, Result};
use tempfile::TempDir;

const ORDERS: u64 = 20_000;
const OFTEN: Duration = Duration::from_millis(20);

/// Where a job runs.
#[derive(Clone, Copy, Debug)]
enum On {
    Executor(u32),
    Timely(u32),
}

fn run(on: On, orders: &Orders, dir: &TempDir, config: JobConfig, control: &JobControl) -> Result<JobReport> {
    let pipeline = pipeline(orders, &dir.path().join("output"));
    match on {
        On::Executor(parallelism) => {
            strandline_runtime::run(&pipeline, config.parallelism(parallelism), control)
        }
        On::Timely(workers) => {
            strandline_host_timely::run(&pipeline, &Cluster::local(workers), config, control)
                .map(Option::unwrap)
        }
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn executor_and_timely_compute_the_same() {
    for on in [On::Executor(2), On::Timely(1), On::Timely(2), On::Timely(3)] {
        let dir = dir();
        let config = config(&dir.path().join("state"), OFTEN);
        let report = run(on, &Orders::new(ORDERS), &dir, config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "{on:?}");
        assert_eq!(report.read["orders"], ORDERS, "{on:?}");
        assert!(written(&dir.path().join("output")) == expected(ORDERS), "{on:?}");
    }
}

#[test]
fn a_job_without_checkpoints_runs() {
    let dir = dir();
    let report =
        run(On::Timely(2), &Orders::new(ORDERS), &dir, JobConfig::default(), &JobControl::new()).unwrap();
    assert_eq!((report.outcome, report.checkpoints.len()), (Outcome::Finished, 0));
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

#[test]
fn each_resumes_where_the_other_stopped() {
    let dir = dir();
    let hosts =
        [On::Executor(1), On::Timely(3), On::Executor(3), On::Timely(2), On::Timely(1), On::Executor(2)];
    let orders = Orders::gated(ORDERS, 0);
    let mut last = None;
    for (n, on) in (1..).zip(hosts) {
        // Each reads its share of every split, and stops behind its third checkpoint.
        let is_last = n == hosts.len() as u64;
        orders.gate.store(if is_last { u64::MAX } else { n * ORDERS / 6 / hosts.len() as u64 }, SeqCst);
        let config = config(&dir.path().join("state"), OFTEN);
        let (config, control) = if is_last { (config, JobControl::new()) } else { stop_after(config, 3) };
        let report = run(on, &orders, &dir, config, &control).unwrap();
        assert_eq!(report.outcome, if is_last { Outcome::Finished } else { Outcome::Stopped }, "{on:?}");
        assert_eq!(report.resumed_from, last, "{on:?}");
        last = report.checkpoints.last().map(|report| report.checkpoint);
    }
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

#[test]
fn a_job_that_fails_restarts_from_its_newest_checkpoint() {
    let dir = dir();
    let orders = Orders { pause: Duration::from_micros(200), ..Orders::new(ORDERS) };
    orders.fuse.store(ORDERS as i64 / 2, SeqCst);
    let config = config(&dir.path().join("state"), OFTEN);
    let report = run(On::Timely(3), &orders, &dir, config, &JobControl::new()).unwrap();
    assert_eq!((report.outcome, report.restarts), (Outcome::Finished, 1));
    assert!(written(&dir.path().join("output")) == expected(ORDERS));
}

#[test]
fn what_a_job_cannot_use_is_refused_with_a_reason() {
    let dir = dir();
    let mut config = config(&dir.path().join("state"), OFTEN);
    if let Some(checkpointing) = &mut config.checkpointing {
        checkpointing.unaligned = Unaligned::On;
    }
    let error = run(On::Timely(2), &Orders::new(10), &dir, config, &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("unaligned"), "{error}");
    let none = run(On::Timely(0), &Orders::new(10), &dir, JobConfig::default(), &JobControl::new());
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Invalid);
}
