//! A batch on its way between processes of one job, which run the same program:
//!
//! ```text
//! hash of the names of the codecs (8 bytes), number of records (4), whether any has a time (1), the times (8 each)
//! for each record its key, if it has one, and its value: a length of one byte, or 255 and one of four, and the bytes
//! ```
//!
//! All numbers are little-endian.

use strandline_state_api::{Error, ErrorKind, Result, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

/// The length byte in front of a length of four bytes.
const LONG: u8 = u8::MAX;

/// The bytes that are reserved for each record.
const RECORD_BYTES: usize = 24;

/// Appends what is in front of the records. `timestamps` may be empty if no record has one.
pub(super) fn begin(codecs: &str, records: usize, timestamps: &[Option<Timestamp>], out: &mut Vec<u8>) {
    out.reserve(records * RECORD_BYTES);
    out.extend_from_slice(&xxh3_64(codecs.as_bytes()).to_le_bytes());
    out.extend_from_slice(&(records as u32).to_le_bytes());
    let has_times = timestamps.iter().any(Option::is_some);
    out.push(has_times.into());
    if has_times {
        let stored = timestamps.iter().map(|timestamp| Timestamp::to_stored(*timestamp).to_le_bytes());
        stored.for_each(|stored| out.extend_from_slice(&stored));
    }
}

/// Appends what `encode` appends, behind its length.
///
/// # Errors
/// That of `encode`; `Invalid` for 4 GiB.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let at = out.len();
    out.push(0);
    encode(out)?;
    let len = out.len().saturating_sub(at + 1);
    let short = u8::try_from(len).ok().filter(|len| *len != LONG);
    if let Some(slot) = out.get_mut(at) {
        *slot = short.unwrap_or(LONG);
    }
    if short.is_none() {
        let len = u32::try_from(len)
            .map_err(|_| Error::invalid(format!("a part of a record has {len} bytes, 4 GiB is the limit")))?;
        out.splice(at + 1..at + 1, len.to_le_bytes());
    }
    Ok(())
}

/// What is left of a batch.
pub(super) struct Unpacked<'a> {
    left: u32,
    times: Option<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Unpacked<'a> {
    pub(super) fn open(codecs: &str, packed: &'a [u8]) -> Result<Self> {
        let (hash, rest) = packed.split_first_chunk().ok_or_else(torn)?;
        if u64::from_le_bytes(*hash) != xxh3_64(codecs.as_bytes()) {
            let message = format!(
                "records of another process were not encoded by \"{codecs}\": all processes of a job must run the same \
                 program"
            );
            return Err(Error::new(ErrorKind::Incompatible, message));
        }
        let (count, rest) = rest.split_first_chunk().ok_or_else(torn)?;
        let left = u32::from_le_bytes(*count);
        let (has_times, rest) = rest.split_first().ok_or_else(torn)?;
        let (times, rest) = match has_times {
            0 => (None, rest),
            _ => {
                let (times, rest) = rest.split_at_checked(left as usize * 8).ok_or_else(torn)?;
                (Some(times), rest)
            }
        };
        Ok(Self { left, times, rest })
    }

    /// Moves to the next record and returns its time; `None` behind the last one, where nothing else is.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Option<Timestamp>>> {
        let Some(left) = self.left.checked_sub(1) else {
            return if self.rest.is_empty() { Ok(None) } else { Err(torn()) };
        };
        self.left = left;
        let Some(times) = &mut self.times else { return Ok(Some(None)) };
        let (time, more) = times.split_first_chunk().ok_or_else(torn)?;
        *times = more;
        Ok(Some(Timestamp::from_stored(i64::from_le_bytes(*time))))
    }

    /// Takes the next part of the record.
    #[inline]
    pub(super) fn part(&mut self) -> Result<&'a [u8]> {
        let (len, rest) = self.rest.split_first().ok_or_else(torn)?;
        let (len, rest) = match *len {
            LONG => {
                let (len, rest) = rest.split_first_chunk().ok_or_else(torn)?;
                (u32::from_le_bytes(*len) as usize, rest)
            }
            short => (usize::from(short), rest),
        };
        let (part, rest) = rest.split_at_checked(len).ok_or_else(torn)?;
        self.rest = rest;
        Ok(part)
    }
}

fn torn() -> Error {
    Error::corrupt("a batch of records of another process cannot be read")
}
