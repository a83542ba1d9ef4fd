//! Batches on their way to a task.

use std::any::Any;

use strandline_state_api::{Batch, Error, ErrorKind, KeyHash, Result, StateKey, Timestamp};

/// Records with their keys, in columns: a prefetch walks through the hashes alone.
#[derive(Debug)]
pub(crate) struct KeyedBatch<K, V> {
    pub(crate) keys: Vec<K>,
    pub(crate) hashes: Vec<KeyHash>,
    pub(crate) values: Vec<V>,
    pub(crate) timestamps: EventTimes,
}

/// The event times of a batch. The column stays empty while no record has one, which spares a stream without event
/// time a quarter of what goes from thread to thread.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EventTimes(Vec<Option<Timestamp>>);

impl EventTimes {
    /// Adds the time of record `index`, which is the next one.
    #[inline]
    fn push(&mut self, index: usize, time: Option<Timestamp>) {
        if time.is_some() || !self.0.is_empty() {
            if self.0.is_empty() {
                self.0.resize(index, None);
            }
            self.0.push(time);
        }
    }

    /// Returns the time of record `index`.
    #[inline]
    pub(crate) fn of(&self, index: usize) -> Option<Timestamp> {
        self.0.get(index).copied().flatten()
    }

    /// Returns the times of all records, or nothing if no record has one.
    pub(crate) fn column(&self) -> &[Option<Timestamp>] {
        &self.0
    }
}

impl<K, V> Default for KeyedBatch<K, V> {
    fn default() -> Self {
        Self { keys: Vec::new(), hashes: Vec::new(), values: Vec::new(), timestamps: EventTimes::default() }
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
        self.timestamps.0.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, key: K, hash: KeyHash, value: V, timestamp: Option<Timestamp>) {
        self.timestamps.push(self.keys.len(), timestamp);
        self.keys.push(key);
        self.hashes.push(hash);
        self.values.push(value);
    }
}

impl<K: StateKey, V> KeyedBatch<K, V> {
    /// Takes records with their timestamps and returns how many there were.
    pub(crate) fn extend<T>(
        &mut self,
        records: impl Iterator<Item = (T, Option<Timestamp>)>,
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

/// A batch whose type a channel does not know. Only the two ends of an exchange do.
pub(crate) trait AnyBatch: Any + Send {
    fn is_empty(&self) -> bool;
}

impl<K: Send + 'static, V: Send + 'static> AnyBatch for KeyedBatch<K, V> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Send + 'static> AnyBatch for Batch<T> {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

/// Returns a batch from a channel as the type that its reader expects.
pub(crate) fn downcast<P: AnyBatch>(batch: &mut dyn AnyBatch) -> Result<&mut P> {
    (batch as &mut dyn Any).downcast_mut::<P>().ok_or_else(unexpected::<P>)
}

/// As [`downcast`], to look at it.
pub(crate) fn downcast_ref<P: AnyBatch>(batch: &dyn AnyBatch) -> Result<&P> {
    (batch as &dyn Any).downcast_ref::<P>().ok_or_else(unexpected::<P>)
}

#[cold]
fn unexpected<P>() -> Error {
    let message = format!("an exchange carries something else than {}", std::any::type_name::<P>());
    Error::new(ErrorKind::Internal, message)
}

/// Which input of an operator a batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The records that the operator is for; an operator without a broadcast side has no other.
    Main,
    /// The records that reach every subtask.
    Broadcast,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_times_may_begin_behind_records_without_one() {
        let times = [None, None, Timestamp::from_stored(7), None];
        let mut batch = KeyedBatch::<u64, ()>::default();
        for round in 0..2 {
            for (key, time) in (0..).zip(times) {
                assert_eq!(batch.timestamps.column().is_empty(), key <= 2, "round {round}");
                batch.push(key, key.key_hash(), (), time);
            }
            assert_eq!(batch.timestamps.column(), times);
            assert_eq!([0, 1, 2, 3].map(|index| batch.timestamps.of(index)), times);
            batch.clear();
        }
        batch.push(0, 0u64.key_hash(), (), None);
        assert_eq!(batch.timestamps.of(0), None);
    }
}
