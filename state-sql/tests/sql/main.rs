//! State in SQL: rows against an independent reading, what is read for a query, and what is refused.

#![allow(clippy::unwrap_used)]

mod article;
mod diff;
mod logic;
mod push_down;
mod refusals;
mod rows;
mod support;
mod zoo;
