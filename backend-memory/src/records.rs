//! Buffers of encoded entries, whose key groups ascend roughly.

use std::fmt;

use strandline_state_api::schema::StateMeta;
use strandline_state_api::{KeyGroup, KeyHash};

use crate::record::Layout;

/// The size at which a buffer is full, in bytes. The writer sorts one buffer after the other, and this much
/// stays in the cache of a core.
const FULL: usize = if cfg!(test) { 64 } else { 128 << 10 };

/// Encoded entries of one state, in the order of the drain: by shard, in no order within one.
#[derive(Debug, Default)]
pub(crate) struct Records {
    chunks: Vec<Chunk>,
}

/// A buffer of records.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Neither this buffer nor one behind it holds a record of a lower key group.
    from: KeyGroup,
    pub(crate) bytes: Vec<u8>,
}

impl Records {
    /// Creates the records of `bytes`, which are of any key groups.
    pub(crate) fn unordered(bytes: Vec<u8>) -> Self {
        let from = KeyGroup::of(KeyHash(0));
        Self { chunks: vec![Chunk { from, bytes }] }
    }

    /// Returns the buffer for records of no lower key group than `from`, which ascends from call to call.
    #[inline]
    pub(crate) fn buffer(&mut self, from: KeyGroup) -> &mut Vec<u8> {
        if self.chunks.last().is_none_or(|chunk| chunk.bytes.len() >= FULL) {
            self.add(from);
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last].bytes
    }

    #[cold]
    fn add(&mut self, from: KeyGroup) {
        // The first may stay small; each further one follows a full one.
        let capacity = if self.chunks.is_empty() { 0 } else { FULL + FULL / 2 };
        self.chunks.push(Chunk { from, bytes: Vec::with_capacity(capacity) });
    }

    pub(crate) fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Returns the first key group of which the buffers from `index` on may hold records; `None` if there
    /// are no such buffers.
    pub(crate) fn from(&self, index: usize) -> Option<KeyGroup> {
        self.chunks.get(index).map(|chunk| chunk.from)
    }

    /// Returns the number of bytes of all records.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len()).sum()
    }
}

/// Changed entries, tombstones and old values of one state, as encoded records.
pub(crate) struct StateDelta {
    pub(crate) meta: StateMeta,
    pub(crate) layout: Layout,
    pub(crate) records: Records,
}

impl fmt::Debug for StateDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.meta.name, self.records.bytes())
    }
}
