#![doc = include_str!("../README.md")]

mod arrow;
mod catalog;
mod convert;
mod create;
mod diff;
mod error;
mod filters;
mod flat;
mod keyed;
mod layout;
mod listed;
mod metadata;
mod names;
mod scan;
mod session;

pub use catalog::StateCatalog;
pub use datafusion;
pub use error::cause;
pub use session::{ParsedStatement, Place, QueryError, StateSession};
