//! Joins, deduplication, top N and running aggregates against nested loops, over random streams that are
//! interrupted and rescaled.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod coalesce;
mod examples;
mod interval;
mod regular;
mod rows;
mod stream;
mod versioned;
mod window;
