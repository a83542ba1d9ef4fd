//! The workloads that the benches measure, and the plain maps and files that they are compared with.
//!
//! Every workload is a [`Subject`], which works in slices. A state backend is one, the plain `hashbrown` map
//! with the same hash that does the same operations is another, and [`compare()`] lets the two take turns.
//! Both must come to the same results, so a comparison is a test too. The same subjects run under criterion
//! (`cargo bench`) and in the table of ratios (`strandline-bench table`, which `make bench` prints).
//!
//! Everything is generic over [`BackendFactory`](strandline_state_api::backend::BackendFactory): a new
//! backend plugs in with its factory. `docs/benchmarks.md` explains how to read the figures, and how to add a
//! backend.

pub mod clock;
pub mod commit;
pub mod compare;
pub mod criterion_support;
pub mod keys;
pub mod large;
pub mod nexmark;
pub mod plain;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod scratch;
pub mod snapshots;
pub mod table;
pub mod w1;
pub mod w2;
pub mod w3;
pub mod w5;
pub mod windows;

pub use clock::Clock;
pub use compare::{Comparison, Effort, Spread, Subject, compare, timed};
