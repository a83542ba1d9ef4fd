#![doc = include_str!("../README.md")]

mod backend;
mod delta;
mod list;
mod map;
mod record;
mod snapshot;
mod state;
mod table;
mod timers;
mod value;
mod writer;

pub use backend::{MemoryBackend, MemoryBackendFactory, MemoryOptions};
pub use delta::Delta;
pub use writer::MemorySnapshotWriter;
