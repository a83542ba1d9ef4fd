//! Records with keys, on their way to the operator that owns them.

use strandline_state_api::{KeyHash, StateKey};

/// A batch in columns: the hashes alone are walked through when state is prefetched.
#[derive(Debug)]
pub(crate) struct KeyedBatch<K, V> {
    pub(crate) keys: Vec<K>,
    pub(crate) hashes: Vec<KeyHash>,
    pub(crate) values: Vec<V>,
    pub(crate) timestamps: Vec<i64>,
}

impl<K, V> Default for KeyedBatch<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), hashes: Vec::new(), values: Vec::new(), timestamps: Vec::new() }
    }
}

impl<K, V> KeyedBatch<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.hashes.clear();
        self.values.clear();
        self.timestamps.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, key: K, hash: KeyHash, value: V, timestamp: i64) {
        self.keys.push(key);
        self.hashes.push(hash);
        self.values.push(value);
        self.timestamps.push(timestamp);
    }
}

impl<K: StateKey, V> KeyedBatch<K, V> {
    /// Takes records with their timestamps; says how many.
    pub(crate) fn extend<T>(
        &mut self,
        records: impl Iterator<Item = (T, i64)>,
        key: &mut impl FnMut(T) -> (K, V),
    ) -> usize {
        let before = self.len();
        for (record, timestamp) in records {
            let (key, value) = key(record);
            let hash = key.key_hash();
            self.push(key, hash, value, timestamp);
        }
        self.len() - before
    }
}
