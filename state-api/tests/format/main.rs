//! The portable snapshot format, from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;
mod round_trip;
