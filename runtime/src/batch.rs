//! Batches on their way to a task: records with keys, and the two sides of an operator with broadcast input.

use strandline_state_api::{KeyHash, Output, StateKey};

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
    /// Takes records with their timestamps and returns how many there were.
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

/// A batch that a task can take.
pub(crate) trait Payload: Send + 'static {
    fn is_empty(&self) -> bool;
}

impl<K: Send + 'static, V: Send + 'static> Payload for KeyedBatch<K, V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Send + 'static> Payload for Output<T> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// A batch of an operator with a broadcast side.
#[derive(Debug)]
pub(crate) enum Sided<A, B> {
    Keyed(A),
    Broadcast(B),
}

impl<A: Payload, B: Payload> Payload for Sided<A, B> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Keyed(batch) => batch.is_empty(),
            Self::Broadcast(batch) => batch.is_empty(),
        }
    }
}
