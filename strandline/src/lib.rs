#![doc = include_str!("../README.md")]
//!
//! # Modules and features
//!
//! [`prelude`] has what a loop, an operator and a pipeline need. Every other module is a crate under a short
//! name.

pub mod prelude;
#[cfg(all(feature = "operators", feature = "runtime"))]
pub mod streams;

pub use strandline_checkpoint_protocol as protocol;
pub use strandline_checkpoint_storage as storage;
pub use strandline_snapshot_format as format;
pub use strandline_state_api as state;

#[cfg(feature = "memory")]
pub use strandline_backend_memory as memory;
#[cfg(feature = "rocksdb")]
pub use strandline_backend_rocksdb as rocksdb;
#[cfg(feature = "connectors")]
pub use strandline_connectors as connectors;
#[cfg(feature = "timely")]
pub use strandline_host_timely as timely;
#[cfg(feature = "operators")]
pub use strandline_operators as operators;
#[cfg(feature = "runtime")]
pub use strandline_runtime as runtime;
#[cfg(feature = "simulation")]
pub use strandline_simulation as simulation;
#[cfg(feature = "reader")]
pub use strandline_state_reader as reader;
#[cfg(feature = "sql")]
pub use strandline_state_sql as sql;
#[cfg(feature = "testing")]
pub use strandline_state_testing as testing;
