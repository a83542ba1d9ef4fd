//! The behaviour of a storage, on a local disk and in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may")]

mod aimed;
mod basics;
mod branches;
mod choices;
mod claims;
mod common;
mod damage;
mod faulty;
mod golden;
mod outcomes;
mod places;
mod samples;
mod savepoints;
mod sleeper;
mod sweeping;
