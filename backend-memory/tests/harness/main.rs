//! The test harness for operators on the memory backend.

#![allow(clippy::unwrap_used)]

mod independence;
mod meter;
mod rules;
mod time;
