//! RocksDB without the backend.

use std::fmt;
use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_backend_rocksdb::rocksdb::{self, DB, ReadOptions, WriteOptions};
use strandline_state_api::{Error, ErrorKind, KeyGroup, Result, StateKey};
use tempfile::TempDir;

use super::{Access, Kind, Plan, RocksOp};
use crate::compare::Subject;
use crate::scratch;
use crate::w2::map::{ENTRIES, entry_of};

/// RocksDB, opened as the backend opens it.
pub struct Raw {
    db: DB,
    write: WriteOptions,
    at: Vec<u8>,
    end: Vec<u8>,
    plan: Plan,
    _dir: TempDir,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl Raw {
    /// An empty database with the options of `factory`; the first operation fills it with `count` keys.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn new(factory: &RocksBackendFactory, count: usize) -> Result<Self> {
        let dir = scratch::directory()?;
        let db = DB::open(&factory.rocks_options(), dir.path().join("raw")).map_err(failed)?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let (at, end, plan) = (Vec::new(), Vec::new(), Plan::new(count)?);
        Ok(Self { db, write, at, end, plan, _dir: dir })
    }

    fn fill(&mut self, kind: Kind) -> Result<()> {
        if self.plan.filled.is_some() {
            return Ok(());
        }
        self.plan.filled = Some(kind);
        for key in &*Arc::clone(&self.plan.all) {
            encode_address(&mut self.at, kind, key);
            match kind {
                Kind::Value => self.put(&key.to_le_bytes())?,
                Kind::List => self.put(&element(*key))?,
                Kind::Map => {
                    let start = self.at.len();
                    for entry in 0..ENTRIES {
                        self.at.truncate(start);
                        entry.encode(&mut self.at);
                        self.put(&key.to_le_bytes())?;
                    }
                }
            }
        }
        self.db.flush().map_err(failed)
    }

    fn put(&self, value: &[u8]) -> Result<()> {
        self.db.put_opt(&self.at, value, &self.write).map_err(failed)
    }

    fn number(&self) -> Result<u64> {
        let found = self.db.get_pinned(&self.at).map_err(failed)?;
        found.map_or(Ok(0), |bytes| number(&bytes))
    }

    /// All elements of the list at the address, added up.
    fn list(&self) -> Result<u64> {
        let found = self.db.get_pinned(&self.at).map_err(failed)?;
        let list = found.as_deref().unwrap_or_default();
        list.chunks(9).try_fold(0u64, |sum, element| {
            Ok(sum.wrapping_add(number(element.get(1..).unwrap_or_default())?))
        })
    }

    /// All entries of the map at the address.
    fn iterate(&mut self, mut visit: impl FnMut(u64, u64)) -> Result<()> {
        self.end.clear();
        self.end.extend_from_slice(&self.at);
        // The first address behind those that start with this one.
        while let Some(last) = self.end.pop() {
            if last < u8::MAX {
                self.end.push(last + 1);
                break;
            }
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(&self.at[..]);
        options.set_iterate_upper_bound(&self.end[..]);
        let mut entries = self.db.raw_iterator_opt(options);
        entries.seek_to_first();
        while let Some((at, value)) = entries.item() {
            visit(u64::decode(at.get(self.at.len()..).unwrap_or_default())?, number(value)?);
            entries.next();
        }
        entries.status().map_err(failed)
    }
}

/// Writes the address of a key, as the backend lays it out: key group, state, key.
fn encode_address(at: &mut Vec<u8>, kind: Kind, key: &u64) {
    at.clear();
    at.extend_from_slice(&KeyGroup::of(key.key_hash()).index().to_be_bytes());
    at.extend_from_slice(&(kind as u16).to_be_bytes());
    key.encode(at);
}

/// An element of a list: its length, and its bytes.
fn element(number: u64) -> [u8; 9] {
    let mut bytes = [8; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| Error::corrupt("a value of the raw database is no number"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn failed(error: rocksdb::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the raw database failed").caused_by(error)
}

impl Subject<RocksOp> for Raw {
    fn slice(&self, (access, _): RocksOp) -> usize {
        self.plan.slice(access)
    }

    fn ready(&mut self, (access, _): RocksOp) -> Result<()> {
        self.fill(access.kind())?;
        let (keys, range) = self.plan.take_grown();
        for key in &keys[range] {
            encode_address(&mut self.at, Kind::List, key);
            self.put(&element(*key))?;
        }
        Ok(())
    }

    fn work(&mut self, op: RocksOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let kind = op.0.kind();
        let mut sum = 0u64;
        for key in &keys[range] {
            encode_address(&mut self.at, kind, key);
            match op.0 {
                Access::Get => sum = sum.wrapping_add(self.number()?),
                Access::Put => self.put(&key.wrapping_add(round).to_le_bytes())?,
                Access::Modify => {
                    let count = self.number()?.wrapping_add(1);
                    self.put(&count.to_le_bytes())?;
                    sum = sum.wrapping_add(count);
                }
                Access::Append => {
                    self.db.merge_opt(&self.at, element(round), &self.write).map_err(failed)?;
                }
                Access::ListGet => sum = sum.wrapping_add(self.list()?),
                Access::MapGet => {
                    entry_of(*key, round, ENTRIES).encode(&mut self.at);
                    sum = sum.wrapping_add(self.number()?);
                }
                Access::MapIterate => self.iterate(|entry, value| sum = sum.wrapping_add(entry ^ value))?,
            }
        }
        Ok(sum)
    }
}
