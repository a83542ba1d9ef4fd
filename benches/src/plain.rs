//! A plain hash map that hashes keys as the backends do, to compare them with.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;
use strandline_state_api::{KeyHash, StateKey};

/// Hashes as [`StateKey::key_hash`] does, so that a comparison is one of tables and not of hash functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct StateHasher(u64);

impl Hasher for StateHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = KeyHash::of_encoded(bytes).0;
    }

    #[inline]
    fn write_u64(&mut self, key: u64) {
        self.0 = key.key_hash().0;
    }
}

/// The plain map: no epochs, no snapshots, no key groups.
pub type PlainMap<V> = HashMap<u64, V, BuildHasherDefault<StateHasher>>;

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn the_plain_map_hashes_as_the_backends_do() {
        let build = BuildHasherDefault::<StateHasher>::default();
        for key in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(build.hash_one(key), key.key_hash().0);
        }
    }
}
