//! The fixed parts of a segment: header, footer, limits.

use xxhash_rust::xxh3::xxh3_64;

use crate::{Error, ErrorKind, Result};

/// The version of the format that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The most bytes that a block may have before compression.
pub const MAX_BLOCK_BYTES: usize = 64 << 20;

/// The most bytes that key, namespace, map key and value of one entry may have together: it must fit into a block.
pub const MAX_ENTRY_BYTES: usize = MAX_BLOCK_BYTES - 1024;

/// The most bytes that an index may have.
pub const MAX_INDEX_BYTES: usize = 64 << 20;

/// The first bytes of every segment; a transfer that changes line ends or the eighth bit breaks them.
pub(super) const HEADER_MAGIC: [u8; 8] = *b"\x89SLSEG\r\n";
/// The last bytes of every segment.
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"SLSEGEND";
/// Magic and version.
pub(super) const HEADER_LEN: usize = 12;
/// Offset and length of the index, checksum, version, magic.
pub(super) const FOOTER_LEN: usize = 36;
/// How much of the footer the checksum covers.
const FOOTER_SUMMED: usize = 16;
/// Block header: compression, three zero bytes, raw length, stored length, entries.
pub(super) const BLOCK_HEADER_LEN: usize = 16;
/// The checksum behind a block.
pub(super) const BLOCK_TRAILER_LEN: usize = 8;
/// What a block has beside its payload.
pub(super) const BLOCK_OVERHEAD: usize = BLOCK_HEADER_LEN + BLOCK_TRAILER_LEN;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn push_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
}

/// Checks the first bytes of a segment.
pub(super) fn check_header(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(&HEADER_MAGIC) {
        return Err(Error::corrupt("the file does not start like a segment"));
    }
    check_version(u32_at(bytes, 8).unwrap_or(0))
}

fn check_version(version: u32) -> Result<()> {
    match version {
        FORMAT_VERSION => Ok(()),
        0 => Err(Error::corrupt("the segment has version 0, which never was")),
        _ => Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "the segment has format version {version}, this program reads up to {FORMAT_VERSION}: use a newer one"
            ),
        )),
    }
}

/// Appends the footer for the index that is `out[index_offset..]`.
pub(super) fn push_footer(out: &mut Vec<u8>, index_offset: usize) {
    let index_len = out.len() - index_offset;
    out.extend_from_slice(&(index_offset as u64).to_le_bytes());
    out.extend_from_slice(&(index_len as u64).to_le_bytes());
    let checksum = xxh3_64(&out[index_offset..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&FOOTER_MAGIC);
}

/// Where the index of a segment is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footer {
    pub(super) index_offset: u64,
    pub(super) index_len: usize,
    checksum: u64,
}

impl Footer {
    /// Refuses a file that is too short for header and footer.
    pub(super) fn check_len(file_len: u64) -> Result<()> {
        if file_len < (HEADER_LEN + FOOTER_LEN) as u64 {
            return Err(Error::corrupt(format!("{file_len} bytes are too few for a segment")));
        }
        Ok(())
    }

    /// Reads the footer at the end of `tail`, the last bytes of a file of `file_len` bytes.
    pub(super) fn parse(tail: &[u8], file_len: u64) -> Result<Self> {
        Self::check_len(file_len)?;
        if tail.len() < FOOTER_LEN {
            return Err(Error::corrupt("the footer is cut short"));
        }
        let footer = &tail[tail.len() - FOOTER_LEN..];
        if !footer.ends_with(&FOOTER_MAGIC) {
            return Err(Error::corrupt("the file does not end like a segment: cut short, or extended"));
        }
        // The version comes before the checksum, which a newer version may compute otherwise.
        check_version(u32_at(footer, 24).unwrap_or(0))?;
        let (Some(index_offset), Some(len), Some(checksum)) =
            (u64_at(footer, 0), u64_at(footer, 8), u64_at(footer, FOOTER_SUMMED))
        else {
            return Err(Error::corrupt("the footer is cut short"));
        };
        let index_end = index_offset.checked_add(len);
        if index_offset < HEADER_LEN as u64 || index_end != Some(file_len - FOOTER_LEN as u64) {
            return Err(Error::corrupt("the footer names an index that does not lie before it"));
        }
        match usize::try_from(len) {
            Ok(index_len) if index_len <= MAX_INDEX_BYTES => Ok(Self { index_offset, index_len, checksum }),
            _ => Err(Error::corrupt(format!("an index of {len} bytes exceeds {MAX_INDEX_BYTES}"))),
        }
    }

    /// How many bytes at the end of the file are index and footer.
    pub(super) fn tail_len(&self) -> usize {
        self.index_len + FOOTER_LEN
    }

    /// The index, out of the last `tail_len` bytes of the file, when its checksum holds.
    pub(super) fn index<'a>(&self, tail: &'a [u8]) -> Result<&'a [u8]> {
        let summed = tail
            .len()
            .checked_sub(self.tail_len())
            .map(|from| &tail[from..tail.len() - FOOTER_LEN + FOOTER_SUMMED]);
        match summed {
            Some(summed) if xxh3_64(summed) == self.checksum => Ok(&summed[..self.index_len]),
            Some(_) => Err(Error::corrupt("the checksum of the index differs")),
            None => Err(Error::corrupt("the index is cut short")),
        }
    }
}
