//! What is measured does what it is measured for: each workload has the results of a plain computation.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;
mod memory;
mod nexmark;
#[cfg(feature = "rocksdb")]
mod rocksdb;
