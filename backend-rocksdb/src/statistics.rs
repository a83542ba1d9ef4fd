//! What RocksDB measures of itself, reduced to what a report needs: whether writes stall, whether compactions
//! fall behind, and how often the caches hit.

use rocksdb::statistics::Ticker;
use strandline_state_api::backend::Statistic;

use crate::store::Store;

/// Measurements of one backend. Counters grow over the life of a backend.
pub(crate) fn statistics(store: &Store, counted: bool) -> Vec<Statistic> {
    let database = store.database();
    let property = |name: &str| database.property(name);
    let own = Statistic::of_backend;
    let mut all = vec![
        own("database_bytes", property("rocksdb.total-sst-files-size")),
        own("memtable_bytes", property("rocksdb.cur-size-all-mem-tables")),
        // All backends of a factory share one cache.
        Statistic::of_process("block_cache_bytes", property("rocksdb.block-cache-usage")),
        own("write_back_bytes", store.table_bytes() as u64),
        own("write_back_hits", store.hits),
        own("write_back_misses", store.misses),
        own("pending_compaction_bytes", property("rocksdb.estimate-pending-compaction-bytes")),
        own("writes_stopped", property("rocksdb.is-write-stopped")),
        own("delayed_write_bytes_per_second", property("rocksdb.actual-delayed-write-rate")),
        own("background_errors", property("rocksdb.background-errors")),
    ];
    if counted {
        let ticker = |ticker| database.options().get_ticker_count(ticker);
        all.extend([
            own("block_cache_hits", ticker(Ticker::BlockCacheHit)),
            own("block_cache_misses", ticker(Ticker::BlockCacheMiss)),
            own("stall_micros", ticker(Ticker::StallMicros)),
            own("compaction_written_bytes", ticker(Ticker::CompactWriteBytes)),
        ]);
    }
    all
}
