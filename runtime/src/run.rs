//! Running a job: attempts, the coordinator's driver, restarts.

mod metrics;
mod restore;

use strandline_state_api::{BackendFactory, Error, ErrorKind, Result};

pub(crate) use metrics::{Metrics, add, set};
pub(crate) use restore::{OperatorRestore, RestorePlan, SubtaskRestore};

use crate::{JobConfig, JobControl, JobReport, Pipeline};

/// Runs a job until it is finished, stopped or cancelled, restarting it after failures. Blocks; `control` works from other
/// threads.
///
/// # Errors
/// `Invalid` for a mistake in the pipeline or the configuration; `Fenced` when another run took over the storage;
/// what recovery says when there are checkpoints and none can be restored; else the error that the restart strategy
/// gave up on, with the operator and subtask.
pub fn run<F: BackendFactory>(
    pipeline: &Pipeline<F>,
    config: JobConfig,
    control: &JobControl,
) -> Result<JobReport> {
    let _ = (pipeline, config, control);
    Err(Error::new(ErrorKind::Unsupported, "not yet"))
}
