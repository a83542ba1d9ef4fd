//! What changed up to a cut, on its way from the write-back table into the database.
//!
//! The processing thread copies the changes, which takes a fraction of what a memtable would; they are sorted,
//! written to table files and ingested elsewhere.

use std::fmt;

use prefetch_index::prefetch_index;
use strandline_state_api::Result;

use crate::database::Database;
use crate::table_files::{Finished, TableFiles};

/// How many changes ahead of the one that is written the memory of a change is asked for.
const AHEAD: usize = 8;

const PUT: u8 = 0;
const APPEND: u8 = 1;
const DELETE: u8 = 2;

/// Where a change is.
#[derive(Clone, Copy)]
struct Change {
    /// The first bytes of its address. Most addresses differ in them, so a sort looks at nothing else.
    first: u128,
    /// Where the change begins: with its operation, and address and value behind that.
    start: usize,
    address: u32,
    value: u32,
}

impl Change {
    #[inline]
    fn address<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let from = self.start + 1;
        bytes.get(from..from + self.address as usize).unwrap_or_default()
    }

    #[inline]
    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        let from = self.start + 1 + self.address as usize;
        bytes.get(from..from + self.value as usize).unwrap_or_default()
    }
}

/// Changes of different addresses, in any order.
#[derive(Default)]
pub(crate) struct Increment {
    bytes: Vec<u8>,
    changes: Vec<Change>,
}

impl Increment {
    pub(crate) fn put(&mut self, address: &[u8], value: &[u8]) {
        self.push(PUT, address, value);
    }

    /// Appends to the value at an address.
    pub(crate) fn append(&mut self, address: &[u8], more: &[u8]) {
        self.push(APPEND, address, more);
    }

    pub(crate) fn delete(&mut self, address: &[u8]) {
        self.push(DELETE, address, &[]);
    }

    // No entry is longer than `MAX_ENTRY_BYTES`, so lengths fit.
    #[inline]
    fn push(&mut self, op: u8, address: &[u8], value: &[u8]) {
        let mut first = [0; 16];
        let taken = address.len().min(first.len());
        first[..taken].copy_from_slice(&address[..taken]);
        let (first, start) = (u128::from_be_bytes(first), self.bytes.len());
        self.bytes.push(op);
        self.bytes.extend_from_slice(address);
        self.bytes.extend_from_slice(value);
        self.changes.push(Change { first, start, address: address.len() as u32, value: value.len() as u32 });
    }

    /// Writes table files with the changes in order.
    pub(crate) fn write<'d>(&mut self, database: &'d Database) -> Result<Finished<'d>> {
        let Self { bytes, changes } = self;
        let bytes = bytes.as_slice();
        let address = |change: &Change| change.address(bytes);
        changes.sort_unstable_by(|a, b| a.first.cmp(&b.first).then_with(|| address(a).cmp(address(b))));
        let mut files = TableFiles::new(database);
        for (at, change) in changes.iter().enumerate() {
            if let Some(ahead) = changes.get(at + AHEAD) {
                prefetch_index(bytes, ahead.start);
            }
            let (address, value) = (change.address(bytes), change.value(bytes));
            match bytes.get(change.start) {
                Some(&APPEND) => files.merge(address, value)?,
                Some(&DELETE) => files.delete(address)?,
                _ => files.put(address, value)?,
            }
        }
        files.finish()
    }
}

impl fmt::Debug for Increment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Increment({} changes, {} bytes)", self.changes.len(), self.bytes.len())
    }
}
