//! Reads what loops and backends store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod chains;
mod decode;
mod fixtures;
mod flat;
mod model;
mod support;
