//! Asynchronous calls, which the test answers.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod examples;
mod random;
mod server;
