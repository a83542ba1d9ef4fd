#![doc = include_str!("../README.md")]

mod backend;
mod cut;
mod database;
mod directory;
mod expiry;
mod factory;
mod home;
mod increment;
mod layout;
mod memory;
mod native;
mod options;
mod packs;
mod portable;
mod restore;
mod snapshot;
mod state;
mod statistics;
mod store;
mod table_files;
mod uploads;
mod writer;

pub use backend::RocksBackend;
pub use cut::PreparedCut;
pub use factory::RocksBackendFactory;
pub use native::NativeSnapshot;
pub use options::{RocksOptions, Tune};
pub use rocksdb;
pub use writer::RocksSnapshotWriter;

/// The name of the format of incremental snapshots; see `docs/rocksdb.md`.
pub const NATIVE_FORMAT: &str = "rocksdb-1";
