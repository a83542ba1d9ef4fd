//! One budget of memory for all backends of a factory.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocksdb::{Cache, WriteBufferManager};

use crate::RocksOptions;

/// What all databases share: a cache that memtables are charged to, and the room for write-back tables.
///
/// Of the cache's share for memtables, RocksDB may use half as much again before a flush frees it; the
/// capacity is lower than the budget by that (Flink: `RocksDBMemoryControllerUtils`, with the same sums).
pub(crate) struct Memory {
    pub(crate) cache: Cache,
    pub(crate) buffers: WriteBufferManager,
    write_back: usize,
    /// Backends that share the room for write-back tables.
    backends: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(options: &RocksOptions) -> Self {
        let write_back = (options.memory as f64 * options.write_back) as usize;
        let rest = (options.memory - write_back) as f64;
        let ratio = options.write_buffer_ratio;
        let cache = Cache::new_lru_cache((rest * (3.0 - ratio) / 3.0) as usize);
        let buffers = (rest * 2.0 * ratio / 3.0) as usize;
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(buffers, false, cache.clone());
        Self { cache, buffers, write_back, backends: AtomicUsize::new(0) }
    }

    /// Bytes for memtables of all databases.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.get_buffer_size()
    }

    /// Bytes for the write-back table of one backend, at the current number of backends.
    pub(crate) fn write_back_share(&self) -> usize {
        self.write_back / self.backends.load(Ordering::Relaxed).max(1)
    }

    pub(crate) fn join(&self) {
        self.backends.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.backends.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("cache", &self.cache.get_capacity())
            .field("memtables", &self.buffer_bytes())
            .field("write_back", &self.write_back)
            .finish_non_exhaustive()
    }
}
