#![doc = include_str!("../README.md")]

pub mod host;
pub mod sink;
pub mod source;

// What users configure and observe.
mod config;
mod control;
mod event;
mod report;
mod request;

// The ground floor: what chains, tasks and the run share. Nothing here imports from above.
mod barrier;
mod batch;
mod channel;
mod live;
mod look_up;
mod mailbox;
mod metrics;
mod passing;
mod record_format;
mod restored;
mod scheduler;
mod summary;
mod sync;
mod threads;
mod urgency;
mod valve;

// From a step to a job: run, pipeline, task, chain, each above the next.
mod chain;
mod pipeline;
mod run;
mod task;

pub use chain::flat_map::Emitter;
pub use config::{
    CheckpointConfig, Clock, JobConfig, RestartStrategy, StartFrom, SystemClock, Unaligned, WhenFinished,
};
pub use control::JobControl;
pub use event::{AbortedCheckpoint, JobEvent, JobProgress, Observer};
pub use live::LiveState;
pub use pipeline::{ConnectedStream, KeyedStream, Pipeline, Stream};
pub use report::{CheckpointReport, JobReport, Outcome, Sample};
pub use request::{CheckpointRequest, LiveStateRequest, Request};
pub use run::{run, run_async, run_on, run_stepped};
pub use scheduler::{Ready, Scheduler, block_on_with};
pub use strandline_checkpoint_protocol::{AbortReason, CheckpointKind, DeclineReason};
