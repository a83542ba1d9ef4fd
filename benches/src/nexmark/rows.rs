//! Rows of results, and their digests.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline::operators::Change;
use strandline::state::{Codec, SerdeCodec};
use xxhash_rust::xxh3::xxh3_64;

/// Returns the digest of a row. That of a table is the wrapping sum over its rows.
pub fn digest<T: Serialize + DeserializeOwned + Send + 'static>(row: &T) -> u64 {
    let mut bytes = Vec::new();
    match SerdeCodec.encode(row, &mut bytes) {
        Ok(()) => xxh3_64(&bytes),
        // No row of this module has a type that cannot be encoded.
        Err(_) => 0,
    }
}

/// Returns what a change does to the digest of a table.
pub(super) fn digest_of_change<T: Serialize + DeserializeOwned + Send + 'static>(change: &Change<T>) -> u64 {
    let digest = digest(change.row());
    if change.is_addition() { digest } else { digest.wrapping_neg() }
}

/// How a price ranks in the statistics: below 10,000 cents, below 1,000,000, or above.
pub(super) fn rank(price: usize) -> usize {
    match price {
        ..10_000 => 0,
        10_000..1_000_000 => 1,
        _ => 2,
    }
}

/// The day of an instant in milliseconds.
pub(super) fn day(millis: u64) -> u64 {
    millis / 86_400_000
}
