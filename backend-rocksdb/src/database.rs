//! One RocksDB: how it is opened, and its errors as those of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::statistics::StatsLevel;
use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, DBPinnableSlice, DBRawIteratorWithThreadMode,
    DataBlockIndexType, IngestExternalFileOptions, MergeOperands, Options, ReadOptions, WriteBatch,
    WriteOptions,
};
use strandline_state_api::{Error, ErrorKind, Result};

use crate::expiry::SharedExpiries;
use crate::home::{Instance, remove};
use crate::memory::Memory;
use crate::{RocksOptions, Tune};

/// The number of removed entries that [`Database::may_hold_entries`] looks past.
const SKIPPED_ENTRIES: u64 = 10_000;

/// The settings of every database of a factory.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) options: RocksOptions,
    pub(crate) tune: Option<Tune>,
    pub(crate) memory: Arc<Memory>,
}

impl Environment {
    /// The options of RocksDB. The write-ahead log is off: only a checkpoint makes state durable.
    pub(crate) fn rocks_options(&self) -> Options {
        let RocksOptions { bloom_bits, background_jobs, file_bytes, statistics, .. } = self.options;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_manager(&self.memory.buffers);
        options.set_write_buffer_size((self.memory.buffer_bytes() / 4).clamp(1 << 20, 64 << 20));
        options.set_max_background_jobs(background_jobs);
        options.set_target_file_size_base(file_bytes);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bytes_per_sync(1 << 20);
        options.set_avoid_flush_during_shutdown(true);
        // The manifest is part of every native snapshot, so it must not grow with the age of the database.
        options.set_max_manifest_file_size(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(4 << 20);
        options.set_log_level(rocksdb::LogLevel::Warn);
        // There is one writer.
        options.set_allow_concurrent_memtable_write(false);
        options.set_merge_operator_associative(MERGE_OPERATOR, append);
        if statistics {
            options.enable_statistics();
            options.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
        }
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.memory.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        blocks.set_format_version(6);
        if bloom_bits > 0.0 {
            blocks.set_bloom_filter(bloom_bits, false);
        }
        options.set_block_based_table_factory(&blocks);
        if let Some(tune) = &self.tune {
            tune.apply(&mut options);
        }
        options
    }
}

const MERGE_OPERATOR: &str = "strandline-append";

/// Lists grow by concatenation, as in the portable format.
fn append(_key: &[u8], before: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut list = before.map(<[u8]>::to_vec).unwrap_or_default();
    operands.iter().for_each(|operand| list.extend_from_slice(operand));
    Some(list)
}

/// An open database, and the directory that it lives in, which is deleted when its last user drops it.
pub(crate) struct Database {
    // Fields drop in this order: the database closes before its files are deleted.
    db: DB,
    path: Files,
    options: Options,
    write: WriteOptions,
    file_bytes: u64,
    pub(crate) instance: Arc<Instance>,
    /// Which values its compactions leave out.
    pub(crate) expiries: SharedExpiries,
    cuts: AtomicU64,
}

impl Database {
    /// Opens the database at `path`; makes one where none exists.
    pub(crate) fn open(environment: &Environment, instance: Arc<Instance>, path: PathBuf) -> Result<Self> {
        let mut options = environment.rocks_options();
        let expiries = SharedExpiries::default();
        options.set_compaction_filter_factory(expiries.clone());
        let lists = expiries.clone();
        let merge = move |address: &[u8], before: Option<&[u8]>, more: &MergeOperands| {
            append(address, before, more).map(|list| lists.shorten(address, list))
        };
        options.set_merge_operator(MERGE_OPERATOR, merge, append);
        let db = DB::open(&options, &path)
            .map_err(|e| failed("the local database cannot be opened", &path, &e))?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let path = Files(path);
        let file_bytes = environment.options.file_bytes;
        Ok(Self { db, path, options, write, file_bytes, instance, expiries, cuts: AtomicU64::new(0) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path.0
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The size of the files that it makes, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    fn failed(&self, what: &str, error: &rocksdb::Error) -> Error {
        failed(what, &self.path.0, error)
    }

    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        self.db.get_pinned(key).map_err(|e| self.failed("the local database cannot be read", &e))
    }

    /// Reads many keys at once, which are sorted.
    pub(crate) fn get_many<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        mut take: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let found = self.db.batched_multi_get_pinned(keys, true);
        for (i, value) in found.into_iter().enumerate() {
            let value = value.map_err(|e| self.failed("the local database cannot be read", &e))?;
            take(i, value.as_deref());
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_opt(key, value, &self.write).map_err(|e| self.write_failed(&e))
    }

    pub(crate) fn merge(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.merge_opt(key, value, &self.write).map_err(|e| self.write_failed(&e))
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<()> {
        self.db.delete_opt(key, &self.write).map_err(|e| self.write_failed(&e))
    }

    pub(crate) fn write(&self, batch: &WriteBatch) -> Result<()> {
        self.db.write_opt(batch, &self.write).map_err(|e| self.write_failed(&e))
    }

    /// Errors of background work, such as a full disk, come back from writes.
    #[cold]
    fn write_failed(&self, error: &rocksdb::Error) -> Error {
        self.failed("the local database cannot be written", error)
    }

    /// A walk over the keys from `from` to before `to`, without a position yet.
    pub(crate) fn iterate(&self, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        Entries { path: &self.path.0, iterator: self.db.raw_iterator_opt(between(from, to)) }
    }

    /// Whether there may be an entry. Looks past some removed ones, but not past any number of them, so it
    /// takes no longer than a read.
    pub(crate) fn may_hold_entries(&self) -> bool {
        let mut options = ReadOptions::default();
        options.set_max_skippable_internal_keys(SKIPPED_ENTRIES);
        let mut entries = self.db.raw_iterator_opt(options);
        entries.seek_to_first();
        entries.valid() || entries.status().is_err()
    }

    /// A new name for a cut.
    pub(crate) fn cut_path(&self) -> PathBuf {
        let number = self.cuts.fetch_add(1, Ordering::Relaxed);
        let mut name = self.path.0.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-cut-{number}"));
        self.path.0.with_file_name(name)
    }

    /// Makes a copy of the database as it is now, of hard links, at `path`.
    pub(crate) fn checkpoint(&self, path: &Path) -> Result<()> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|e| failed("the local snapshot of the database failed", path, &e))
    }

    /// Deletes all keys outside of `from` to before `to`: whole files at once, the rest by two tombstones.
    pub(crate) fn clip(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let end = [0xFF; 3];
        let mut batch = WriteBatch::default();
        for (from, to) in [(&[0][..], from), (to, &end[..])] {
            if from < to {
                self.db.delete_file_in_range(from, to).map_err(|e| self.write_failed(&e))?;
                batch.delete_range(from, to);
            }
        }
        self.write(&batch)
    }

    /// Moves table files into the database, all or none: what they hold is newer than what it has.
    pub(crate) fn ingest(&self, files: &[PathBuf]) -> Result<()> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let ingested = self.db.ingest_external_file_opts(&options, files.to_vec());
        ingested.map_err(|e| self.failed("files cannot be taken into the local database", &e))
    }

    /// Rewrites all files, now.
    pub(crate) fn compact(&self) {
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }

    /// A number that RocksDB measures of itself.
    pub(crate) fn property(&self, name: &str) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }
}

/// A directory that is deleted with its owner.
#[derive(Debug)]
pub(crate) struct Files(pub(crate) PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.path.0.display())
    }
}

fn between(from: &[u8], to: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    options
}

/// A copy of a database, open for reads only.
pub(crate) struct ReadOnly {
    db: DB,
    path: PathBuf,
}

impl ReadOnly {
    pub(crate) fn open(environment: &Environment, path: &Path) -> Result<Self> {
        let db = DB::open_for_read_only(&environment.rocks_options(), path, false);
        let db = db.map_err(|e| failed("the copy of a database cannot be opened", path, &e))?;
        Ok(Self { db, path: path.to_path_buf() })
    }

    /// As [`Database::iterate`], but leaves the block cache to the job.
    pub(crate) fn iterate(&self, from: &[u8], to: Option<&[u8]>) -> Entries<'_> {
        let mut options = between(from, to);
        options.fill_cache(false);
        options.set_readahead_size(2 << 20);
        Entries { path: &self.path, iterator: self.db.raw_iterator_opt(options) }
    }
}

/// A walk over keys in their order.
pub(crate) struct Entries<'a> {
    path: &'a Path,
    iterator: DBRawIteratorWithThreadMode<'a, DB>,
}

impl Entries<'_> {
    pub(crate) fn first(&mut self) -> Result<()> {
        self.iterator.seek_to_first();
        self.check()
    }

    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.iterator.seek(key);
        self.check()
    }

    pub(crate) fn step(&mut self) -> Result<()> {
        self.iterator.next();
        self.check()
    }

    /// The current entry, unless the walk is at its end.
    pub(crate) fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }

    fn check(&self) -> Result<()> {
        if self.iterator.valid() {
            return Ok(());
        }
        self.iterator.status().map_err(|e| failed("the local database cannot be read", self.path, &e))
    }
}

/// Turns an error of RocksDB into one with the path and advice.
pub(crate) fn failed(what: &str, path: &Path, error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    let (kind, advice) = match error.kind() {
        rocksdb::ErrorKind::Corruption => (
            ErrorKind::Corrupt,
            "; its files are damaged: restart the job, which restores them from the checkpoint",
        ),
        _ if text.contains("No space left") => {
            (ErrorKind::Unavailable, "; free space on the disk of the state directory")
        }
        _ => (ErrorKind::Unavailable, ""),
    };
    Error::new(kind, format!("{what}{advice}")).with("path", path.display()).caused_by(text)
}
