#![doc = include_str!("../README.md")]

mod ageing;
mod backend;
mod delta;
mod kept;
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
