//! A backend of your own, step by step.
//!
#![doc = include_str!("../BACKENDS.md")]
//!
//! # The whole file
//!
//! It is compiled as a test of this crate.
//!
//! ```ignore
#![doc = include_str!("../tests/values_only.rs")]
//! ```
