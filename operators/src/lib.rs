#![doc = include_str!("../README.md")]

mod aggregate;
pub mod calls;
mod change;
mod coalesce;
mod deduplicate;
pub mod join;
mod running;
mod storage;
mod top_n;
mod two_inputs;
pub mod window;

pub use aggregate::{Aggregate, Collect, Count, Fold, Reduce, Several};
pub use change::{Change, Either};
pub use coalesce::{Coalesce, Coalescing};
pub use deduplicate::{Deduplicate, Deduplicating};
pub use running::{Running, RunningAggregate};
pub use storage::Storage;
pub use top_n::{TopN, TopRows};
pub use two_inputs::{TwoInputOperator, TwoInputs};
