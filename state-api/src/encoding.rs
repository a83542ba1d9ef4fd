//! Order-preserving concatenation of encodings, for a [`StateKey`](crate::StateKey) of your own that has
//! parts of varying length.

pub use crate::key::{push_escaped, split_escaped};
