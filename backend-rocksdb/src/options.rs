//! The options of the backend, and their defaults.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_snapshot_format::FoldOptions;
use strandline_state_api::{Error, Result};

/// How the backend works. Every option has a default that fits; plain data, which serde reads from a
/// configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RocksOptions {
    /// Where databases and local copies of checkpoint files live; needs room for the state and its snapshots
    /// under way. Unless set, one for each user, `strandline-rocksdb-<user id>`, in the directory for
    /// temporary files. What the backend makes is for this user alone.
    pub directory: Option<PathBuf>,
    /// Bytes of memory for all backends of the factory together: block cache, memtables, write-back tables.
    /// 512 MiB unless set.
    pub memory: usize,
    /// The share of `memory` for the write-back tables, which hold hot entries in front of the database. 0.25
    /// unless set; 0 writes every change through to the database at once.
    pub write_back: f64,
    /// The share of the remaining memory for memtables; the rest caches blocks. 0.5 unless set, as in Flink.
    pub write_buffer_ratio: f64,
    /// Bits of the Bloom filter for each key; 0 for no filter. 10 unless set.
    pub bloom_bits: f64,
    /// Background threads of a database, for flushes and compactions. 2 unless set.
    pub background_jobs: i32,
    /// The size of table files that the database aims for, in bytes. 32 MiB unless set.
    pub file_bytes: u64,
    /// Files that each subtask uploads or downloads at once. 4 unless set, as in Flink.
    pub transfers: usize,
    /// The size of the objects that small files are packed into, in bytes. 32 MiB unless set.
    pub pack_bytes: u64,
    /// Whether files of the last checkpoints are kept as hard links, so that a restore on this machine need
    /// not download them. A restore uses one only if its hash is right. True unless set.
    pub local_copies: bool,
    /// Whether hits, misses and stalls are counted for reports. True unless set.
    pub statistics: bool,
    /// How full snapshots in the portable format are written.
    #[serde(skip)]
    pub format: FoldOptions,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            directory: None,
            memory: 512 << 20,
            write_back: 0.25,
            write_buffer_ratio: 0.5,
            bloom_bits: 10.0,
            background_jobs: 2,
            file_bytes: 32 << 20,
            transfers: 4,
            pack_bytes: 32 << 20,
            local_copies: true,
            statistics: true,
            format: FoldOptions::default(),
        }
    }
}

impl RocksOptions {
    /// The directory, or the default where none is set.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(crate::home::default_directory)
    }

    /// Refuses values that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        let share = |value: f64| (0.0..=0.9).contains(&value);
        let refuse = |what: &str, rule: &str| Err(Error::invalid(format!("{what} must be {rule}")));
        if self.memory < 4 << 20 {
            return refuse("memory", "at least 4 MiB");
        }
        if !share(self.write_back) {
            return refuse("write_back", "a share from 0 to 0.9");
        }
        if !(0.05..=0.9).contains(&self.write_buffer_ratio) {
            return refuse("write_buffer_ratio", "a share from 0.05 to 0.9");
        }
        if !(0.0..=64.0).contains(&self.bloom_bits) {
            return refuse("bloom_bits", "from 0 to 64");
        }
        if self.background_jobs < 1 || self.transfers < 1 {
            return refuse("background_jobs and transfers", "at least 1");
        }
        if self.file_bytes < 64 << 10 || self.pack_bytes < 64 << 10 {
            return refuse("file_bytes and pack_bytes", "at least 64 KiB");
        }
        Ok(())
    }
}

/// Changes the options of RocksDB itself, after this crate has set its own (Flink: `RocksDBOptionsFactory`).
///
/// The merge operator and the paths of files must stay as they are.
#[derive(Clone)]
pub struct Tune(Arc<dyn Fn(&mut rocksdb::Options) + Send + Sync>);

impl Tune {
    /// Calls `change` for the options of every database that is opened.
    pub fn new(change: impl Fn(&mut rocksdb::Options) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    pub(crate) fn apply(&self, options: &mut rocksdb::Options) {
        (self.0)(options);
    }
}

impl fmt::Debug for Tune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tune")
    }
}
