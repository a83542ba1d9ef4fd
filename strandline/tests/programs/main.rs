//! Whole programs as users write them: loops and pipelines in a process of their own, killed and resumed, on
//! every storage; stores that go down under them.
//!
//! A program runs in a child process, which is this test binary again: see [`support::Program`].

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by a panic")]

mod counting;
mod killed;
mod outage;
mod places;
mod support;
mod words;
