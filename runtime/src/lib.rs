//! The executor that composes the Strandline crates.
//!
//! A job is described with [`Pipeline`]: sources, stateless steps, keyed operators, sinks. [`run`] executes it: one thread for
//! each subtask of each chain, bounded channels between them, aligned barriers, a coordinator that commits checkpoints, and
//! restarts from the newest one that verifies. The executor is thin; everything that can live in a lower crate does.
//!
//! ```text
//! source ─ map ─ key_by ══ exchange ══> process ─ map ─ sink
//! └───── one chain ────┘                └──── one chain ────┘
//! ```

pub mod sink;
pub mod source;

// What users configure and observe.
mod config;
mod control;
mod event;
mod report;

// The ground floor: what chains, tasks and the run share. Nothing here imports from above.
mod batch;
mod channel;
mod cut;
mod mailbox;
mod metrics;
mod reserved;
mod restore;
mod sync;

// From a step to a job: run, pipeline, task, chain, each above the next.
mod chain;
mod pipeline;
mod run;
mod task;

pub use config::{CheckpointConfig, Clock, JobConfig, RestartStrategy, StartFrom, SystemClock};
pub use control::JobControl;
pub use event::{JobEvent, Observer, Progress};
pub use pipeline::{ConnectedStream, Emitter, KeyedStream, Pipeline, Stream};
pub use report::{CheckpointReport, JobReport, Outcome, Sample};
pub use restore::stored_operators;
pub use run::run;
