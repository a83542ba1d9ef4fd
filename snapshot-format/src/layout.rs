//! The fixed parts of a segment: header, footer, limits.

use xxhash_rust::xxh3::xxh3_64;

use strandline_state_api::{Error, ErrorKind, Result};

/// The version of the format that this crate writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The maximum length of a block before compression, in bytes.
pub const MAX_BLOCK_BYTES: usize = 64 << 20;

/// The maximum length of key, namespace, map key and value of one entry together, in bytes: an entry must fit
/// into a block.
pub const MAX_ENTRY_BYTES: usize = MAX_BLOCK_BYTES - 1024;

/// The maximum length of an index, in bytes.
pub const MAX_INDEX_BYTES: usize = 64 << 20;

/// The first bytes of every segment; a transfer that changes line ends or the eighth bit breaks them.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"\x89SLSEG\r\n";
/// The last bytes of every segment.
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"SLSEGEND";
/// The length of the header: magic and version.
pub(crate) const HEADER_LEN: usize = 12;
/// The length of the footer: offset and length of the index, checksum, version, magic.
pub(crate) const FOOTER_LEN: usize = 36;
/// The number of bytes of the footer that the checksum covers.
const FOOTER_SUMMED: usize = 16;
/// The length of a block header: compression, three zero bytes, raw length, stored length, entries.
pub(crate) const BLOCK_HEADER_LEN: usize = 16;
/// The length of the checksum behind a block.
pub(crate) const BLOCK_TRAILER_LEN: usize = 8;
/// The number of bytes that a block has beside its payload.
pub(crate) const BLOCK_OVERHEAD: usize = BLOCK_HEADER_LEN + BLOCK_TRAILER_LEN;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn push_header(out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
}

/// Checks the first bytes of a segment.
pub(crate) fn check_header(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(&HEADER_MAGIC) {
        return Err(Error::corrupt("the file does not start like a segment"));
    }
    check_version(u32_at(bytes, 8).unwrap_or(0))
}

fn check_version(version: u32) -> Result<()> {
    match version {
        FORMAT_VERSION => Ok(()),
        0 => Err(Error::corrupt("the segment has version 0, which does not exist")),
        _ => Err(Error::new(
            ErrorKind::Incompatible,
            format!(
                "the segment has format version {version}, this program reads up to \
                 {FORMAT_VERSION}: use a newer one"
            ),
        )),
    }
}

/// Appends the footer for the index in `out[index_offset..]`.
pub(crate) fn push_footer(out: &mut Vec<u8>, index_offset: usize) {
    let index_len = out.len() - index_offset;
    out.extend_from_slice(&(index_offset as u64).to_le_bytes());
    out.extend_from_slice(&(index_len as u64).to_le_bytes());
    let checksum = xxh3_64(&out[index_offset..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&FOOTER_MAGIC);
}

/// The location of the index of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footer {
    pub(crate) index_offset: u64,
    pub(crate) index_len: usize,
    checksum: u64,
}

impl Footer {
    /// Refuses a file that is too short for header and footer.
    pub(crate) fn check_len(file_len: u64) -> Result<()> {
        if file_len < (HEADER_LEN + FOOTER_LEN) as u64 {
            return Err(Error::corrupt(format!("{file_len} bytes are too few for a segment")));
        }
        Ok(())
    }

    /// Reads the footer at the end of `tail`, the last bytes of a file of `file_len` bytes.
    pub(crate) fn parse(tail: &[u8], file_len: u64) -> Result<Self> {
        Self::check_len(file_len)?;
        if tail.len() < FOOTER_LEN {
            return Err(Error::corrupt("the footer is cut short"));
        }
        let footer = &tail[tail.len() - FOOTER_LEN..];
        if !footer.ends_with(&FOOTER_MAGIC) {
            return Err(Error::corrupt("the file does not end like a segment: cut short, or extended"));
        }
        // The version is checked before the checksum, which a newer version may compute otherwise.
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

    /// Returns the number of bytes of index and footer, at the end of the file.
    pub(crate) fn tail_len(&self) -> usize {
        self.index_len + FOOTER_LEN
    }

    /// Returns the index, from the last `tail_len` bytes of the file, if its checksum matches.
    pub(crate) fn index<'a>(&self, tail: &'a [u8]) -> Result<&'a [u8]> {
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
