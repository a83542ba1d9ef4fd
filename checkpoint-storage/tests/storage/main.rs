//! The behaviour of a storage, on a local disk and in memory.

mod basics;
mod common;
