//! Checks and decompresses blocks, and reads their entries.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::Decompressor;

use crate::decode::{Decoder, Fault};
use crate::entry::EntryRef;
use crate::index::{BlockInfo, SegmentIndex};
use crate::layout::{BLOCK_HEADER_LEN, BLOCK_OVERHEAD, BLOCK_TRAILER_LEN, u32_at, u64_at};
use strandline_state_api::{Error, Result};

/// A decompressor that is created when first needed and then reused.
#[derive(Default)]
pub(crate) struct Unpacker(Option<Decompressor<'static>>);

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
            Err("it decompresses to another length than the index holds")
        }
    }

    /// Checks the bytes of a block against the index and returns the payload.
    pub(crate) fn open(&mut self, stored: &[u8], info: &BlockInfo) -> Result<Vec<u8>, Fault> {
        if stored.len() != info.stored_len as usize || stored.len() < BLOCK_OVERHEAD {
            return Err("it has another length than the index holds");
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
pub(crate) fn corrupt_block(number: usize, info: Option<&BlockInfo>, fault: Fault) -> Error {
    let error =
        Error::corrupt(format!("block {number} is not what was written: {fault}")).with("block", number);
    match info {
        Some(info) => error.with("key groups", info.key_groups()),
        None => error,
    }
}

/// A decompressed block whose checksum matches.
#[derive(Debug)]
pub struct Block<'a> {
    index: &'a SegmentIndex,
    number: usize,
    info: BlockInfo,
    raw: Vec<u8>,
}

impl<'a> Block<'a> {
    /// Checks and decompresses block `number` of the segment with `index`; `stored` are its bytes in the
    /// file.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when there is no such block,
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when the bytes do not match the index.
    pub fn decode(index: &'a SegmentIndex, number: usize, stored: &[u8]) -> Result<Self> {
        let Some(&info) = index.blocks().get(number) else {
            return Err(Error::invalid(format!("there is no block {number} of {}", index.blocks().len())));
        };
        let raw = Unpacker::default()
            .open(stored, &info)
            .map_err(|fault| corrupt_block(number, Some(&info), fault))?;
        Ok(Self { index, number, info, raw })
    }

    /// Returns an iterator over the entries, in order; an error is the last item.
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
