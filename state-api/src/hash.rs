//! The hash of a key, which is computed once and travels with the record.

use xxhash_rust::xxh3::xxh3_64;

/// The stable 64-bit hash of an encoded key: XXH3-64 with seed 0 (part of the snapshot format).
///
/// The top 15 bits are the key group, the upper bits choose the shard of an in-memory table, the rest the
/// slot. The exchange computes the hash, the record carries it, and the backend reuses it.
///
/// # Test vectors
/// | key | encoded (hex) | hash | key group |
/// | --- | --- | --- | --- |
/// | `()` | | `2d06800538d394c2` | 5763 |
/// | `0u64` | `0000000000000000` | `c77b3abb6f87acd9` | 25533 |
/// | `1u64` | `0000000000000001` | `f36b4a1a44f78bf3` | 31157 |
/// | `-1i64` | `7fffffffffffffff` | `f832fc1d899fe591` | 31769 |
/// | `"a"` | `61` | `e6c632b61e964e1f` | 29539 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Hashes an encoded key.
    #[inline]
    pub fn of_encoded(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }
}
