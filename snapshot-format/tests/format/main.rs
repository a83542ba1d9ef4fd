//! The portable snapshot format, from outside.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![allow(clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;
mod craft;
mod damage;
mod fingerprints;
mod fold;
mod forms;
mod golden;
mod hostile;
mod model;
mod requests;
mod round_trip;
mod samples;
mod whole;
