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

mod chain;
mod config;
mod control;
mod event;
mod pipeline;
mod report;
mod run;
mod task;

pub mod sink;
pub mod source;

pub use config::{CheckpointConfig, Clock, JobConfig, RestartStrategy, StartFrom, SystemClock};
pub use control::JobControl;
pub use event::{JobEvent, Observer, Progress};
pub use pipeline::{ConnectedStream, Emitter, KeyedStream, Pipeline, Stream};
pub use report::{CheckpointReport, JobReport, Outcome, Sample};
pub use run::{run, stored_operators};
