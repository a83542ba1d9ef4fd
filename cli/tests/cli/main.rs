//! The `strandline` binary as its users meet it: run, kill, stop, resume, rescale, look into checkpoints.

#![allow(clippy::unwrap_used)]

mod bad;
mod checkpoints;
mod crash;
mod floats;
mod forms;
mod inputs;
mod job;
mod ownership;
mod quoting;
mod results;
mod rows;
mod stops;
mod support;
