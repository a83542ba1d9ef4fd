//! The executor that composes the Strandline crates, and the reference binary.

pub mod connectors;
pub mod sink;
pub mod source;
