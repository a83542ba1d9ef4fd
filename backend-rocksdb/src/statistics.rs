//! What RocksDB tells of itself, in a form that helps: is it stalled, is it behind, does its cache serve.

use rocksdb::statistics::Ticker;

use crate::store::Store;

/// Pairs of a name and a number. Counters grow over the life of a backend; what starts with `shared_` is the same for all of a factory.
pub(crate) fn statistics(store: &Store, counted: bool) -> Vec<(&'static str, u64)> {
    let database = store.database();
    let property = |name: &str| database.property(name);
    let mut all = vec![
        ("database_bytes", property("rocksdb.total-sst-files-size")),
        ("memtable_bytes", property("rocksdb.cur-size-all-mem-tables")),
        ("shared_block_cache_bytes", property("rocksdb.block-cache-usage")),
        ("write_back_bytes", store.table_bytes() as u64),
        ("write_back_hits", store.hits),
        ("write_back_misses", store.misses),
        ("pending_compaction_bytes", property("rocksdb.estimate-pending-compaction-bytes")),
        ("writes_stopped", property("rocksdb.is-write-stopped")),
        ("delayed_write_bytes_per_second", property("rocksdb.actual-delayed-write-rate")),
        ("background_errors", property("rocksdb.background-errors")),
    ];
    if counted {
        let ticker = |ticker| database.options().get_ticker_count(ticker);
        all.extend([
            ("block_cache_hits", ticker(Ticker::BlockCacheHit)),
            ("block_cache_misses", ticker(Ticker::BlockCacheMiss)),
            ("stall_micros", ticker(Ticker::StallMicros)),
            ("compaction_written_bytes", ticker(Ticker::CompactWriteBytes)),
        ]);
    }
    all
}
