#![doc = include_str!("../README.md")]

mod cluster;
mod host;
mod mail;
mod mesh;
mod parcels;
mod vertex;
mod worker;

use strandline_runtime::host::{Host, Plan};
use strandline_runtime::{JobConfig, JobControl, JobReport, Pipeline, run_on};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

pub use cluster::{Cluster, Processes};

use crate::host::{TimelyHost, join};

/// Runs a job on timely dataflow to its end, as [`strandline_runtime::run`] does with threads and channels: same
/// pipeline, same checkpoints. Every vertex has one subtask on each worker of the cluster, so the parallelism is
/// the number of workers.
///
/// In a cluster of several processes, all of them call this with the same pipeline and configuration. The first
/// one coordinates: it alone follows `control` (the others give up waiting for an attempt when it is
/// [cancelled](JobControl::cancel)), notifies the observer and returns the report, which counts what all of them
/// did. The others return `None` when the job has ended.
///
/// Where a process dies or stays silent, the attempt fails within seconds. The first process restarts the job by
/// its [strategy](JobConfig#structfield.restart) and waits, as all others do, until each is there again: start the
/// process that was lost once more, with the same addresses and the same token. To go on with more processes or
/// fewer, stop the job and start it with other addresses.
///
/// # Errors
/// As [`strandline_runtime::run`]; `Unsupported` for a job that cannot run on this cluster, with the reason;
/// `Unavailable` when another process of the cluster does not come in time, or the first one has given up.
pub fn run<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    cluster: &Cluster,
    config: JobConfig,
    control: &JobControl,
) -> Result<Option<JobReport>> {
    let mut host = TimelyHost::new(cluster, control);
    let config = config.parallelism(cluster.parallelism());
    // Before anybody waits for the others.
    host.check(&Plan::of(pipeline, &config)?)?;
    cluster.check_storage(&config)?;
    if let Some(processes) = cluster.processes.as_ref().filter(|processes| processes.process > 0) {
        return join(pipeline, &config, cluster, processes, control).map(|()| None);
    }
    let ended = run_on(pipeline, config, control, &mut host);
    host.dismiss(ended.as_ref().err());
    ended.map(Some)
}
