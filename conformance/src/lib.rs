#![doc = include_str!("../README.md")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a case fails by a panic, which the test harness of the caller catches"
)]

mod access;
mod cases;
mod effort;
mod segments;
mod subject;
mod wait;
mod world;

pub mod backend;
pub mod guide;
#[cfg(feature = "hosts")]
pub mod hosts;
#[cfg(feature = "storage")]
pub mod storage;

#[cfg(feature = "storage")]
pub use cases::storage_cases;
pub use cases::{Case, backend_cases};
pub use segments::{FaultySegments, StoreFault};
#[cfg(feature = "storage")]
pub use storage::StorageSubject;
pub use strandline_state_api::backend::BackendFactory;
pub use subject::{Capabilities, OptionalKind, Subject};
