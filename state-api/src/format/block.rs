//! A block: checked, decompressed, and its entries.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Decompressor;

use super::decode::{Decoder, Fault};
use super::entry::EntryRef;
use super::index::{BlockInfo, SegmentIndex};
use super::layout::{BLOCK_HEADER_LEN, BLOCK_OVERHEAD, BLOCK_TRAILER_LEN, u32_at, u64_at};
use crate::{Error, Result};

/// A decompressor that is made when first needed and then used again.
#[derive(Default)]
pub(super) struct Unpacker(Option<Decompressor<'static>>);

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unpacker")
    }
}

impl Unpacker {
    fn unpack(&mut self, stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Fault> {
        if self.0.is_none() {
            self.0 = Some(Decompressor::new().map_err(|_| "zstd cannot be set up")?);
        }
        let mut raw = Vec::with_capacity(raw_len);
        if let Some(zstd) = &mut self.0 {
            zstd.decompress_to_buffer(stored, &mut raw).map_err(|_| "zstd cannot decompress it")?;
        }
        if raw.len() == raw_len {
            Ok(raw)
        } else {
            Err("it decompresses to another length than the index says")
        }
    }

    /// Checks the bytes of a block against the index and yields its payload.
    pub(super) fn open(&mut self, stored: &[u8], info: &BlockInfo) -> Result<Vec<u8>, Fault> {
        if stored.len() != info.stored_len as usize || stored.len() < BLOCK_OVERHEAD {
            return Err("it has another length than the index says");
        }
        let (summed, trailer) = stored.split_at(stored.len() - BLOCK_TRAILER_LEN);
        if u64_at(trailer, 0) != Some(xxh3_64(summed)) {
            return Err("its checksum differs");
        }
        let payload = &summed[BLOCK_HEADER_LEN..];
        let lengths = (u32_at(summed, 4), u32_at(summed, 8), u32_at(summed, 12));
        if lengths != (Some(info.raw_len), Some(payload.len() as u32), Some(info.entries)) {
            return Err("its header is not that of the index");
        }
        match summed[..4] {
            [0, 0, 0, 0] if payload.len() == info.raw_len as usize => Ok(payload.to_vec()),
            [0, 0, 0, 0] => Err("it is not compressed, but has two lengths"),
            [1, 0, 0, 0] => self.unpack(payload, info.raw_len as usize),
            _ => Err("it is compressed in an unknown way"),
        }
    }
}

#[cold]
pub(super) fn corrupt_block(number: usize, info: Option<&BlockInfo>, fault: Fault) -> Error {
    let error =
        Error::corrupt(format!("block {number} is not what was written: {fault}")).with("block", number);
    match info {
        Some(info) => error.with("key groups", info.key_groups()),
        None => error,
    }
}

/// A block whose checksum holds, decompressed.
#[derive(Debug)]
pub struct Block<'a> {
    index: &'a SegmentIndex,
    number: usize,
    info: BlockInfo,
    raw: Vec<u8>,
}

impl<'a> Block<'a> {
    /// Checks and decompresses block `number` of the segment with `index`; `stored` are its bytes in the file.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when there is no such block,
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when the bytes are not those of the index.
    pub fn decode(index: &'a SegmentIndex, number: usize, stored: &[u8]) -> Result<Self> {
        let Some(&info) = index.blocks().get(number) else {
            return Err(Error::invalid(format!("there is no block {number} of {}", index.blocks().len())));
        };
        let raw = Unpacker::default()
            .open(stored, &info)
            .map_err(|fault| corrupt_block(number, Some(&info), fault))?;
        Ok(Self { index, number, info, raw })
    }

    /// Its entries, in order; an error is the last item.
    pub fn entries(&self) -> Entries<'_> {
        Entries { block: self, decoder: Decoder::new(), done: false }
    }
}

/// The entries of a [`Block`].
#[derive(Debug)]
pub struct Entries<'a> {
    block: &'a Block<'a>,
    decoder: Decoder,
    done: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<EntryRef<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.decoder.next(&self.block.raw, self.block.index, &self.block.info) {
            Ok(Some(span)) => Some(Ok(span.entry(&self.block.raw))),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(fault) => {
                self.done = true;
                Some(Err(corrupt_block(self.block.number, Some(&self.block.info), fault)))
            }
        }
    }
}
