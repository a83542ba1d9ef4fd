//! Tests of what only this backend has: files on disk, which can be damaged, fill up or be left behind, and
//! snapshots that are made of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod beside;
mod common;
mod disk;
mod expiry;
mod faults;
mod increments;
mod local_copies;
mod rescales;
mod soak;
