#![doc = include_str!("../README.md")]

mod cluster;
mod host;
mod mail;
mod mesh;
mod parcels;
mod vertex;
mod worker;

use strandline_runtime::host::{Host, Plan};
use strandline_runtime::{JobConfig, JobControl, JobReport, Pipeline, RestartStrategy, run_on};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

pub use cluster::{Cluster, Processes};

use crate::host::{TimelyHost, join};
use crate::mesh::Mesh;

/// Runs a job on timely dataflow to its end, as [`strandline_runtime::run`] does with threads and channels: same
/// pipeline, same checkpoints. Every vertex has one subtask on each worker of the cluster, so the parallelism is
/// the number of workers.
///
/// In a cluster of several processes, all of them call this with the same pipeline and configuration. The first
/// one coordinates: it alone follows `control`, notifies the observer and returns the report; its counts are
/// those of its own workers. The others return `None` when the job has ended.
///
/// Where a process dies or stays silent, the others return an error within seconds, and nothing restarts within
/// a cluster of several processes: start all of them again, with another
/// [token](Processes::token), and the job goes on from its newest checkpoint, on as many workers as there are
/// then.
///
/// # Errors
/// As [`strandline_runtime::run`]; `Unsupported` for a job that cannot run on this cluster, with the reason;
/// `Unavailable` when another process of the cluster is lost, or does not come.
pub fn run<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    cluster: &Cluster,
    config: JobConfig,
    control: &JobControl,
) -> Result<Option<JobReport>> {
    let Some(processes) = &cluster.processes else {
        return run_on(pipeline, config, control, &mut TimelyHost::local(cluster)).map(Some);
    };
    // Before anybody waits for the others.
    let config = config.parallelism(cluster.parallelism()).restart(RestartStrategy::None);
    TimelyHost::local(cluster).check(&Plan::of(pipeline, &config)?)?;
    cluster.check_storage(&config)?;
    let mesh = Mesh::connect(cluster.workers, processes)?;
    if processes.process > 0 {
        return join(pipeline, config, cluster, mesh).map(|()| None);
    }
    let mut host = TimelyHost::meshed(cluster, mesh);
    let ended = run_on(pipeline, config, control, &mut host);
    host.dismiss();
    ended.map(Some)
}
