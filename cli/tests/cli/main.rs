//! The `strandline` binary as its users meet it: run, kill, stop, resume, rescale, look into checkpoints.

#![allow(clippy::unwrap_used)]

mod bad;
mod checkpoints;
mod crash;
mod job;
mod results;
mod stops;
mod support;
