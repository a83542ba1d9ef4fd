//! In place of `cluster` where the program was built without timely dataflow.

use strandline_runtime::{JobConfig, JobControl, JobReport, Pipeline};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::Failure;
use crate::cli::RunArgs;
use crate::jobfile::Job;
use crate::progress::Progress;

/// There is none.
#[derive(Debug)]
pub(crate) enum Member {}

impl Member {
    pub(crate) fn of(args: &RunArgs, _: &Job) -> Result<Option<Self>, Failure> {
        if args.processes.is_none() && args.hosts.is_none() {
            return Ok(None);
        }
        let text = "error: this program was built without timely dataflow, on which jobs run in several processes: \
                    build it with `--features timely`\n";
        Err(Failure::Usage(text.into()))
    }

    pub(crate) fn process(&self) -> u32 {
        match *self {}
    }

    pub(crate) fn follow_signals(&self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn run<F: BackendFactory>(
        &self,
        _: &Pipeline<F>,
        _: JobConfig,
        _: &JobControl,
        _: &Progress,
    ) -> Result<Option<JobReport>> {
        match *self {}
    }
}
