//! Reads the entries of some key groups from one segment, one by one.

use crate::block::{Unpacker, corrupt_block};
use crate::decode::{Decoder, Fault, Span};
use crate::entry::{EntryBuf, EntryRef, FIRST_GROUP};
use crate::index::BlockInfo;
use crate::layout::check_header;
use crate::reader::{SegmentReader, fetch};
use strandline_state_api::{Error, KeyGroupRange, Result};

/// The entries of a range of key groups of a segment, in order; see [`SegmentReader::cursor`].
///
/// A cursor holds one decompressed block and up to 4 MiB of read-ahead, or a single larger block. When the
/// store fails, or the caller drops a future of the cursor, nothing is lost: the next call continues. When
/// the segment is corrupt, every further call fails.
#[derive(Debug)]
pub struct SegmentCursor<'a> {
    reader: SegmentReader<'a>,
    range: KeyGroupRange,
    /// The next block to open, and the one before which to stop.
    next: usize,
    stop: usize,
    block: Option<Opened>,
    /// The last entry of the previous block, which the first entry of the next block must follow.
    last: Option<EntryBuf>,
    ahead: Vec<u8>,
    ahead_offset: u64,
    read_bytes: u64,
    unpacker: Unpacker,
    /// The damaged block and its fault; the cursor trusts nothing behind it.
    damaged: Option<(usize, Fault)>,
}

#[derive(Debug)]
struct Opened {
    number: usize,
    info: BlockInfo,
    raw: Vec<u8>,
    decoder: Decoder,
    current: Option<Span>,
}

/// The result of a step without I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Entry,
    NeedsBlock,
    End,
}

impl<'a> SegmentCursor<'a> {
    pub(crate) fn new(reader: SegmentReader<'a>, range: KeyGroupRange, read_bytes: u64) -> Self {
        let blocks = reader.index.blocks_in(range);
        Self {
            reader,
            range,
            next: blocks.start,
            stop: blocks.end,
            block: None,
            last: None,
            ahead: Vec::new(),
            ahead_offset: 0,
            read_bytes,
            unpacker: Unpacker::default(),
            damaged: None,
        }
    }

    /// Returns the reader that created the cursor.
    pub fn reader(&self) -> &SegmentReader<'a> {
        &self.reader
    }

    /// Moves to the next entry and lends it; `None` after the last one.
    ///
    /// # Errors
    /// Those of [`SegmentReader::read`]; discard the entries that came before.
    pub async fn next(&mut self) -> Result<Option<EntryRef<'_>>> {
        self.advance().await?;
        Ok(self.entry())
    }

    /// Lends the entry that the newest call moved to.
    #[inline(always)]
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        let block = self.block.as_ref()?;
        Some(block.current?.entry(&block.raw))
    }

    /// Moves to the next entry; returns whether one exists.
    #[inline]
    pub(crate) async fn advance(&mut self) -> Result<bool> {
        loop {
            match self.step()? {
                Step::Entry => return Ok(true),
                Step::End => return Ok(false),
                Step::NeedsBlock => self.open_block().await?,
            }
        }
    }

    /// Moves to the next entry without I/O. After [`Step::NeedsBlock`], [`open_block`](Self::open_block) is
    /// due, and then another step.
    #[inline(always)]
    pub(crate) fn step(&mut self) -> Result<Step> {
        match self.try_step() {
            Ok(step) => Ok(step),
            Err(fault) => Err(self.found(fault)),
        }
    }

    #[cold]
    fn found(&mut self, fault: Fault) -> Error {
        let number = self.block.take().map_or(self.next, |block| block.number);
        let (number, fault) = *self.damaged.get_or_insert((number, fault));
        let info = self.reader.index.blocks().get(number);
        corrupt_block(number, info, fault).with("segment", &self.reader.segment.name)
    }

    #[inline(always)]
    fn try_step(&mut self) -> Result<Step, Fault> {
        let Some(block) = &mut self.block else {
            return match self.damaged {
                Some((_, fault)) => Err(fault),
                None if self.next == self.stop => Ok(Step::End),
                None => Ok(Step::NeedsBlock),
            };
        };
        loop {
            let first = block.decoder.previous().is_none();
            block.current = block.decoder.next(&block.raw, &self.reader.index, &block.info)?;
            let Some(span) = block.current else {
                return Ok(self.close_block());
            };
            if first
                && let Some(last) = &self.last
                && last.as_ref().cmp_position(&span.entry(&block.raw)).is_ge()
            {
                return Err("it starts before the block before it ends");
            }
            // Entries around the range are decoded, too, so that the block's fingerprint can be compared.
            if self.range.contains(span.group) {
                return Ok(Step::Entry);
            }
        }
    }

    #[cold]
    fn close_block(&mut self) -> Step {
        if let Some(block) = self.block.take()
            && let Some(last) = block.decoder.previous()
        {
            let buffer = self.last.get_or_insert_with(|| EntryBuf::new(FIRST_GROUP));
            buffer.set_position(&last.entry(&block.raw));
        }
        if self.next == self.stop { Step::End } else { Step::NeedsBlock }
    }

    /// Opens the next block.
    pub(crate) async fn open_block(&mut self) -> Result<()> {
        let number = self.next;
        let Some(&info) = self.reader.index.blocks().get(number) else {
            return Err(Error::new(
                strandline_state_api::ErrorKind::Internal,
                "a cursor ran over the last block",
            ));
        };
        let ahead_end = self.ahead_offset + self.ahead.len() as u64;
        if self.reader.whole.is_none() && (info.offset < self.ahead_offset || info.end() > ahead_end) {
            self.read_ahead(number, &info).await?;
        }
        let (bytes, offset) = match &self.reader.whole {
            Some(whole) => (&whole[..], 0),
            None => (&self.ahead[..], self.ahead_offset),
        };
        let stored = &bytes[(info.offset - offset) as usize..(info.end() - offset) as usize];
        let raw = match self.unpacker.open(stored, &info) {
            Ok(raw) => raw,
            Err(fault) => return Err(self.found(fault)),
        };
        self.block = Some(Opened { number, info, raw, decoder: Decoder::new(), current: None });
        self.next = number + 1;
        Ok(())
    }

    /// Reads block `number` and as many of the blocks behind it as one request may hold.
    async fn read_ahead(&mut self, number: usize, info: &BlockInfo) -> Result<()> {
        // The read of the first block includes the header of the file.
        let start = if number == 0 { 0 } else { info.offset };
        let fits = |block: &&BlockInfo| block.end() - start <= self.read_bytes;
        let more = self.reader.index.blocks()[number..self.stop].iter().take_while(fits).last();
        let end = more.unwrap_or(info).end();
        self.ahead = Vec::new(); // frees the old buffer before the next read
        self.ahead_offset = start;
        let ahead = fetch(self.reader.store, &self.reader.segment, start..end).await?;
        if start == 0 {
            check_header(&ahead).map_err(|error| error.with("segment", &self.reader.segment.name))?;
        }
        self.ahead = ahead;
        Ok(())
    }
}
