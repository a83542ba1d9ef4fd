//! The behaviour suite that every state backend and every checkpoint storage must pass.
//!
//! Write a backend or a storage for Strandline, in this repository or in your own, and hold it to the same cases as
//! ours: each behaviour that matters is written down once, here. Depend on this crate in `[dev-dependencies]` only.
//!
//! # A backend
//! One line in an integration test makes one `#[test]` of each case, so that a failure has a name:
//!
//! ```ignore
//! // tests/conformance.rs
//! strandline_conformance::backend_tests!(my_backend::MyBackendFactory::default());
//! ```
//!
//! What a backend leaves out on purpose it declares with [`Capabilities`]; cases ask for no more than that:
//!
//! ```ignore
//! use strandline_conformance::{Capabilities, backend_tests};
//!
//! backend_tests!(MyBackendFactory::default(), Capabilities { incremental: false, ..Capabilities::default() });
//! ```
//!
//! With another test harness, take the cases as plain functions, one by one from [`backend`] or all of them:
//!
//! ```no_run
//! use strandline_conformance::{BackendFactory, Subject, backend_cases};
//!
//! fn run_all(factory: impl BackendFactory) {
//!     let subject = Subject::new(factory);
//!     for case in backend_cases() {
//!         println!("{}", case.name);
//!         (case.run)(&subject); // panics with what differs
//!     }
//! }
//! ```
//!
//! The smallest backend that passes is `tests/naive/` of this crate: sorted maps, full snapshots. It is a good start for
//! one of your own.
//!
//! # How hard it tries
//! [`backend::model`] runs random programs against a naive model, 20,000 steps unless told otherwise. The environment
//! variable `STRANDLINE_CASES` multiplies the number, `STRANDLINE_SEED` sets the first seed. A failure prints its seed and
//! the shortest program that still fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a case that fails panics: that is what the harness of the caller waits for"
)]

mod cases;
mod effort;
mod segments;
mod subject;
mod wait;
mod world;

pub mod backend;
#[cfg(feature = "storage")]
pub mod storage;

#[cfg(feature = "storage")]
pub use cases::storage_cases;
pub use cases::{Case, backend_cases};
pub use segments::{FaultySegments, PutFault};
#[cfg(feature = "storage")]
pub use storage::StorageSubject;
pub use strandline_state_api::BackendFactory;
pub use subject::{Capabilities, Subject};
