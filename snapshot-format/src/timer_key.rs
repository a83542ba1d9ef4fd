//! The key of a timer entry: its time, then the encoded key.
//!
//! The time takes 8 bytes, big-endian, with the sign bit flipped, so bytes compare as times do: within a key
//! group the timers of a state are ordered by time, and a restore fills a queue in order. (Flink:
//! `TimerHeapInternalTimer` and the RocksDB timer queue keep the same order.)
//!
//! ```
//! use strandline_snapshot_format::timer_key;
//!
//! let mut packed = Vec::new();
//! timer_key::pack(-5, b"ada", &mut packed);
//! assert_eq!(timer_key::unpack(&packed).unwrap(), (-5, &b"ada"[..]));
//! ```

use strandline_state_api::{Error, Result};

/// Appends `time` and `key` to `out`.
#[inline]
pub fn pack(time: i64, key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(time as u64 ^ 1 << 63).to_be_bytes());
    out.extend_from_slice(key);
}

/// Returns the time and the key that were packed.
///
/// # Errors
/// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when there are fewer than 8 bytes.
#[inline]
pub fn unpack(packed: &[u8]) -> Result<(i64, &[u8])> {
    match packed.split_first_chunk::<8>() {
        Some((time, key)) => Ok(((u64::from_be_bytes(*time) ^ 1 << 63) as i64, key)),
        None => {
            Err(Error::corrupt(format!("a timer key of {} bytes is shorter than its time", packed.len())))
        }
    }
}
