//! State in SQL: rows against an independent reading, what is read for a query, and what is refused.

#![allow(clippy::unwrap_used)]

mod article;
mod diff;
#[path = "../../../state-reader/tests/reader/fixtures.rs"]
mod fixtures;
mod logic;
mod push_down;
mod refusals;
mod rows;
mod support;
mod zoo;
