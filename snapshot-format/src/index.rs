//! The index of a segment: its states, and the blocks that hold the entries of each key group.

use std::ops::Range;

use crate::entry::{EntryRef, chained};
use crate::layout::{
    BLOCK_OVERHEAD, Footer, HEADER_LEN, MAX_BLOCK_BYTES, check_header, u16_at, u32_at, u64_at,
};
use crate::segment_kind::SegmentKind;
use crate::table::StateTable;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{Error, KeyGroup, KeyGroupRange, Result};

/// The length of the record of one block, in bytes.
const RECORD_LEN: usize = 24;
/// The length of the prefix: segment kind, a zero byte, number of states, number of blocks.
const PREFIX_LEN: usize = 8;

/// The record of one block in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The offset of the block in the file.
    pub offset: u64,
    /// The number of bytes in the file, with header and checksum.
    pub stored_len: u32,
    /// The number of bytes of the payload before compression.
    pub raw_len: u32,
    /// The number of entries, at least one.
    pub entries: u32,
    /// The group of the first entry.
    pub first: KeyGroup,
    /// The group of the last entry.
    pub last: KeyGroup,
    /// The wrapping sum of the [fingerprints](crate::fingerprint) of the entries.
    pub fingerprint: u64,
}

impl BlockInfo {
    /// Returns the smallest range with all entries of the block.
    pub const fn key_groups(&self) -> KeyGroupRange {
        KeyGroupRange::new(self.first.index() as u32, self.last.index() as u32 + 1)
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.stored_len as u64
    }
}

/// The index of a segment.
#[derive(Clone, Debug)]
pub struct SegmentIndex {
    kind: SegmentKind,
    pub(crate) states: StateTable,
    blocks: Vec<BlockInfo>,
}

impl SegmentIndex {
    /// Reads the index of a whole segment in memory.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt), or
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) for a newer version.
    pub fn parse(segment: &[u8]) -> Result<Self> {
        let footer = Footer::parse(segment, segment.len() as u64)?;
        check_header(segment)?;
        Self::decode(footer.index(segment)?, footer.index_offset)
    }

    /// Returns the index of the state with this name.
    pub fn state(&self, name: &str) -> Option<u16> {
        let found = self.states().binary_search_by(|meta| meta.name.as_str().cmp(name));
        found.ok().map(|index| index as u16)
    }

    /// Returns the states, sorted by name; [`EntryRef::state`] is an index into them.
    pub fn states(&self) -> &[StateMeta] {
        self.states.metas()
    }

    /// Returns whether the segment is a base or a delta.
    pub fn kind(&self) -> SegmentKind {
        self.kind
    }

    /// Returns the blocks, in the order of the file.
    pub fn blocks(&self) -> &[BlockInfo] {
        &self.blocks
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.entries)).sum()
    }

    /// Returns the number of bytes of the entries before compression.
    pub fn raw_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.raw_len)).sum()
    }

    /// Returns the wrapping sum of the [fingerprints](crate::fingerprint) of the entries.
    pub fn fingerprint(&self) -> u64 {
        self.blocks.iter().fold(0, |sum, block| sum.wrapping_add(block.fingerprint))
    }

    /// Returns the smallest range with all entries.
    pub fn key_groups(&self) -> KeyGroupRange {
        match (self.blocks.first(), self.blocks.last()) {
            (Some(first), Some(last)) => {
                KeyGroupRange::new(u32::from(first.first.index()), u32::from(last.last.index()) + 1)
            }
            _ => KeyGroupRange::EMPTY,
        }
    }

    /// Returns the numbers of the blocks that may hold entries of `range`.
    pub fn blocks_in(&self, range: KeyGroupRange) -> Range<usize> {
        let from = self.blocks.partition_point(|block| u32::from(block.last.index()) < range.start());
        let to = self.blocks.partition_point(|block| u32::from(block.first.index()) < range.end());
        from..to.max(from)
    }

    /// Returns the group of the first block that may hold entries of `range`, at least the start of the
    /// range.
    pub(crate) fn first_group(&self, range: KeyGroupRange) -> Option<u32> {
        let blocks = self.blocks_in(range);
        (!blocks.is_empty()).then(|| u32::from(self.blocks[blocks.start].first.index()).max(range.start()))
    }

    /// Returns the fingerprint of an entry of this segment, or 0 if the segment has no such state.
    pub fn fingerprint_of(&self, entry: &EntryRef<'_>) -> u64 {
        self.states.shape(entry.state).map_or(0, |shape| chained(shape.name_hash, entry))
    }

    pub(crate) fn encode(kind: SegmentKind, states: &StateTable, blocks: &[BlockInfo], out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind.code(), 0]);
        out.extend_from_slice(&states.len().to_le_bytes());
        out.extend_from_slice(&(blocks.len() as u32).to_le_bytes());
        states.encode(out);
        for block in blocks {
            out.extend_from_slice(&block.stored_len.to_le_bytes());
            out.extend_from_slice(&block.raw_len.to_le_bytes());
            out.extend_from_slice(&block.entries.to_le_bytes());
            out.extend_from_slice(&block.first.index().to_le_bytes());
            out.extend_from_slice(&block.last.index().to_le_bytes());
            out.extend_from_slice(&block.fingerprint.to_le_bytes());
        }
    }

    /// Decodes an index whose checksum matches; the last block must end at `end`.
    pub(crate) fn decode(bytes: &[u8], end: u64) -> Result<Self> {
        Self::decode_parts(bytes, end).map_err(|why| Error::corrupt(format!("the index is wrong: {why}")))
    }

    fn decode_parts(bytes: &[u8], end: u64) -> Result<Self, String> {
        let (prefix, mut rest) = bytes.split_at_checked(PREFIX_LEN).ok_or("too short")?;
        let kind = SegmentKind::from_code(prefix[0]).ok_or("unknown kind of segment")?;
        if prefix[1] != 0 {
            return Err("a reserved byte is not zero".into());
        }
        let (Some(states), Some(blocks)) = (u16_at(prefix, 2), u32_at(prefix, 4)) else {
            return Err("too short".into());
        };
        let states = StateTable::decode(&mut rest, states, kind)?;
        if rest.len() as u64 != u64::from(blocks) * RECORD_LEN as u64 {
            return Err(format!("{} bytes are not {blocks} blocks", rest.len()));
        }
        let mut offset = HEADER_LEN as u64;
        let mut group = 0;
        let mut decoded = Vec::with_capacity(rest.len() / RECORD_LEN);
        for (number, record) in rest.chunks_exact(RECORD_LEN).enumerate() {
            let block =
                decode_block(record, offset, group).map_err(|why| format!("block {number}: {why}"))?;
            (offset, group) = (block.end(), block.last.index());
            decoded.push(block);
        }
        if offset != end {
            return Err(format!("the blocks end at {offset}, the index starts at {end}"));
        }
        Ok(Self { kind, states, blocks: decoded })
    }
}

fn decode_block(record: &[u8], offset: u64, group: u16) -> Result<BlockInfo, &'static str> {
    let fields = (u32_at(record, 0), u32_at(record, 4), u32_at(record, 8), u64_at(record, 16));
    let (Some(stored_len), Some(raw_len), Some(entries), Some(fingerprint)) = fields else {
        return Err("cut short");
    };
    let groups = (u16_at(record, 12).and_then(KeyGroup::new), u16_at(record, 14).and_then(KeyGroup::new));
    let (Some(first), Some(last)) = groups else {
        return Err("no such key group");
    };
    if first.index() < group || last < first {
        return Err("its key groups are not in order");
    }
    if raw_len as usize > MAX_BLOCK_BYTES || entries == 0 || entries > raw_len {
        return Err("its length or number of entries cannot be");
    }
    // A writer compresses only a block that shrinks.
    if (stored_len as usize) <= BLOCK_OVERHEAD || stored_len as usize - BLOCK_OVERHEAD > raw_len as usize {
        return Err("its stored length cannot be");
    }
    Ok(BlockInfo { offset, stored_len, raw_len, entries, first, last, fingerprint })
}
