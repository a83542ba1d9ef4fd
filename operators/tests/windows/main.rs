//! Windows against an independent computation, over random streams that are interrupted and rescaled.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod examples;
mod leaks;
mod oracle;
mod random;
mod script;
mod w4;
