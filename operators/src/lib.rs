#![doc = include_str!("../README.md")]

mod aggregate;
mod walk;
pub mod window;

pub use aggregate::{Aggregate, Collect, Count, Fold, Reduce, Several};
