//! Writes a segment.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Compressor;

use crate::build::{BlockBuilder, ENTRY_OVERHEAD};
use crate::entry::{EntryBuf, EntryRef, FIRST_GROUP};
use crate::index::{BlockInfo, SegmentIndex};
use crate::layout::{BLOCK_OVERHEAD, MAX_BLOCK_BYTES, MAX_ENTRY_BYTES, push_footer, push_header};
use crate::limit::too_large;
use crate::segment_kind::SegmentKind;
use crate::table::StateTable;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};

/// The compression of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Blocks are stored as they are.
    None,
    /// Zstandard at a level, from fast (negative) to small (19). A block that does not shrink is stored as it
    /// is.
    Zstd(i32),
}

/// How a segment is written; a reader needs no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// The compression of blocks; [`Compression::Zstd`] level 1 unless set.
    pub compression: Compression,
    /// The size of a block before compression, in bytes; 64 KiB unless set. It bounds what a reader of one
    /// key group must decode. Only a block with a single, larger entry exceeds it.
    pub block_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { compression: Compression::Zstd(1), block_bytes: 64 << 10 }
    }
}

/// A complete segment, ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct FinishedSegment {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// The smallest range with all entries; empty when there are none.
    pub key_groups: KeyGroupRange,
    /// The number of entries.
    pub entries: u64,
    /// The number of bytes of the entries before compression.
    pub raw_bytes: u64,
    /// The wrapping sum of the [fingerprints](crate::fingerprint) of the entries.
    pub fingerprint: u64,
}

impl fmt::Debug for FinishedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedSegment")
            .field("bytes", &self.bytes.len())
            .field("key_groups", &self.key_groups)
            .field("entries", &self.entries)
            .field("raw_bytes", &self.raw_bytes)
            .field("fingerprint", &self.fingerprint)
            .finish()
    }
}

/// Writes one segment from entries that come in [order](EntryRef::cmp_position).
///
/// The writer builds the file in memory; look at [`bytes_so_far`](Self::bytes_so_far) and start another
/// segment when the file is large.
pub struct SegmentWriter {
    kind: SegmentKind,
    states: StateTable,
    block_bytes: usize,
    compressor: Option<Compressor<'static>>,
    packed: Vec<u8>,
    out: Vec<u8>,
    blocks: Vec<BlockInfo>,
    block: BlockBuilder,
    /// The newest entry, without its value.
    last: EntryBuf,
    any: bool,
}

impl SegmentWriter {
    /// Creates a writer of a segment of `kind`; `states` are sorted by name, and entries refer to them by
    /// index.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the states are not strictly sorted, or a name is empty or too
    /// long.
    pub fn new(states: Vec<StateMeta>, kind: SegmentKind, options: WriterOptions) -> Result<Self> {
        let states = StateTable::new(states, kind).map_err(Error::invalid)?;
        let compressor = match options.compression {
            Compression::None => None,
            Compression::Zstd(level) => Some(Compressor::new(level).map_err(zstd_failed)?),
        };
        let mut out = Vec::new();
        push_header(&mut out);
        Ok(Self {
            kind,
            states,
            block_bytes: options.block_bytes.min(MAX_BLOCK_BYTES),
            compressor,
            packed: Vec::new(),
            out,
            blocks: Vec::new(),
            block: BlockBuilder::new(FIRST_GROUP),
            last: EntryBuf::new(FIRST_GROUP),
            any: false,
        })
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the entry is not behind the previous one, or has a part or
    /// operation that its state does not have; [`Unsupported`](ErrorKind::Unsupported) when the entry is
    /// larger than [`MAX_ENTRY_BYTES`]. An error leaves the segment as it was before the call.
    #[inline(always)]
    pub fn push(&mut self, entry: EntryRef<'_>) -> Result<()> {
        let Some(&shape) = self.states.shape(entry.state) else {
            return Err(Error::invalid(format!(
                "there is no state {} in a table of {}",
                entry.state,
                self.states.len()
            )));
        };
        if let Some(why) = shape.objection(&entry) {
            return Err(self.refuse(&entry, ErrorKind::Invalid, why));
        }
        if self.any && self.last.as_ref().cmp_position(&entry).is_ge() {
            return Err(self.refuse(
                &entry,
                ErrorKind::Invalid,
                "it does not come after the entry before it",
            ));
        }
        let len = entry.payload_len();
        if len > MAX_ENTRY_BYTES {
            let error = too_large(&entry, len).with("state", self.states.name(entry.state));
            return Err(error.with("key group", entry.group));
        }
        if self.block.len() + len + ENTRY_OVERHEAD > self.block_bytes {
            self.close_block()?;
        }
        self.block.push(&entry, &shape, &self.last);
        self.last.set_position(&entry);
        self.any = true;
        Ok(())
    }

    #[cold]
    fn refuse(&self, entry: &EntryRef<'_>, kind: ErrorKind, why: &str) -> Error {
        Error::new(kind, format!("an entry cannot be written: {why}"))
            .with("state", self.states.name(entry.state))
            .with("operation", format_args!("{:?}", entry.op))
            .with("key group", entry.group)
            .with("key bytes", entry.key.len())
    }

    /// Returns the approximate length of the file so far, in bytes, with the open block uncompressed.
    pub fn bytes_so_far(&self) -> usize {
        self.out.len() + self.block.len()
    }

    /// Returns the number of bytes of the entries so far before compression.
    pub fn raw_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.raw_len)).sum::<u64>() + self.block.len() as u64
    }

    /// Returns whether the segment has no entry yet.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Completes the file. A file without entries is also valid, and lists the states.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) when compression fails.
    pub fn finish(mut self) -> Result<FinishedSegment> {
        self.close_block()?;
        let index_offset = self.out.len();
        SegmentIndex::encode(self.kind, &self.states, &self.blocks, &mut self.out);
        let index_len = self.out.len() - index_offset;
        if index_len > crate::MAX_INDEX_BYTES {
            return Err(Error::invalid(format!(
                "the index has {index_len} bytes: use larger blocks or smaller segments"
            )));
        }
        let index = SegmentIndex::decode(&self.out[index_offset..], index_offset as u64)?;
        push_footer(&mut self.out, index_offset);
        Ok(FinishedSegment {
            bytes: self.out,
            key_groups: index.key_groups(),
            entries: index.entries(),
            raw_bytes: index.raw_bytes(),
            fingerprint: index.fingerprint(),
        })
    }

    fn close_block(&mut self) -> Result<()> {
        let Some(first) = self.block.first else {
            return Ok(());
        };
        let entries = self.block.entries;
        let payload = self.block.payload();
        let mut stored = payload;
        if let Some(compressor) = &mut self.compressor {
            self.packed.clear();
            self.packed.reserve(zstd::zstd_safe::compress_bound(payload.len()));
            compressor.compress_to_buffer(payload, &mut self.packed).map_err(zstd_failed)?;
            if self.packed.len() < payload.len() {
                stored = &self.packed;
            }
        }
        let compressed = stored.len() < payload.len();
        let raw_len = payload.len() as u32; // bounded by `push`
        let offset = self.out.len();
        self.out.extend_from_slice(&[u8::from(compressed), 0, 0, 0]);
        self.out.extend_from_slice(&raw_len.to_le_bytes());
        self.out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&entries.to_le_bytes());
        self.out.extend_from_slice(stored);
        let checksum = xxh3_64(&self.out[offset..]);
        self.out.extend_from_slice(&checksum.to_le_bytes());
        self.blocks.push(BlockInfo {
            offset: offset as u64,
            stored_len: (self.out.len() - offset) as u32,
            raw_len,
            entries,
            first,
            last: self.block.last(),
            fingerprint: self.block.fingerprint,
        });
        debug_assert!(self.out.len() - offset <= raw_len as usize + BLOCK_OVERHEAD);
        self.block.reset();
        Ok(())
    }
}

fn zstd_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, "zstd failed").caused_by(error)
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("kind", &self.kind)
            .field("blocks", &self.blocks.len())
            .field("bytes", &self.bytes_so_far())
            .finish_non_exhaustive()
    }
}
