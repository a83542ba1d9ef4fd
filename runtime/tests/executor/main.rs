//! The executor: jobs without faults and with them, from their first record to their last commit.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod broadcast;
mod broadcast_restored;
mod callers;
mod causes;
mod checkpoints;
mod common;
mod ended;
mod exactly_once;
mod failures;
mod hanging;
mod held_time;
mod interrupts;
mod live;
mod pipeline;
mod shutdown;
mod supervisors;
mod sweeps;
mod unaligned;
