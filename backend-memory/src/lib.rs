#![doc = include_str!("../README.md")]

mod backend;
mod chain;
mod changes;
mod delta;
mod factory;
mod merge;
mod options;
mod record;
mod records;
mod restore;
mod snapshot;
mod sorted;
mod state;
mod table;
mod under_way;
mod writer;

pub use backend::MemoryBackend;
pub use delta::Delta;
pub use factory::MemoryBackendFactory;
pub use options::MemoryOptions;
pub use writer::MemorySnapshotWriter;
