//! The `strandline` binary as its users meet it: run, kill, stop, resume, rescale, look into checkpoints.

#![allow(clippy::unwrap_used)]

mod bad;
mod check;
mod checkpoints;
mod churn;
mod crash;
mod docs;
mod floats;
mod forms;
mod inputs;
mod job;
#[cfg(feature = "sql")]
mod live;
mod output;
mod ownership;
#[cfg(all(feature = "timely", target_os = "linux"))]
mod partition;
#[cfg(feature = "timely")]
mod processes;
mod quoting;
mod results;
mod rows;
#[cfg(feature = "sql")]
mod sql;
mod state;
mod steps;
mod stops;
mod storm;
mod support;
