//! A batch of records, in columns.

use std::iter::Zip;
use std::slice;
use std::vec;

use crate::Timestamp;

/// Records, each with an optional event time, in two columns of equal length.
///
/// A consumer drains a batch, so that the next records reuse its memory:
///
/// ```
/// use strandline_state_api::{Batch, Timestamp};
///
/// let mut batch = Batch::new();
/// batch.push("early", Timestamp::from_millis(1));
/// batch.push("timeless", None);
/// for (record, timestamp) in batch.drain() {
///     assert_eq!(timestamp.is_some(), record == "early");
/// }
/// assert!(batch.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<T> {
    records: Vec<T>,
    timestamps: Vec<Option<Timestamp>>,
}

impl<T> Batch<T> {
    /// Creates an empty batch.
    pub const fn new() -> Self {
        Self { records: Vec::new(), timestamps: Vec::new() }
    }

    /// Creates an empty batch with room for `capacity` records.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { records: Vec::with_capacity(capacity), timestamps: Vec::with_capacity(capacity) }
    }

    /// Creates a batch from two columns.
    ///
    /// # Panics
    /// Panics when the lengths of the columns differ.
    pub fn from_columns(records: Vec<T>, timestamps: Vec<Option<Timestamp>>) -> Self {
        assert_eq!(records.len(), timestamps.len(), "every record has its timestamp");
        Self { records, timestamps }
    }

    /// Splits the batch into its columns.
    pub fn into_columns(self) -> (Vec<T>, Vec<Option<Timestamp>>) {
        (self.records, self.timestamps)
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, record: T, timestamp: impl Into<Option<Timestamp>>) {
        self.records.push(record);
        self.timestamps.push(timestamp.into());
    }

    /// Makes room for `additional` more records.
    pub fn reserve(&mut self, additional: usize) {
        self.records.reserve(additional);
        self.timestamps.reserve(additional);
    }

    /// Moves all records of `other` to the end of this batch.
    pub fn append(&mut self, other: &mut Self) {
        self.records.append(&mut other.records);
        self.timestamps.append(&mut other.timestamps);
    }

    /// Returns the number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether the batch has no records.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the number of records that fit without another allocation.
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// Removes all records; keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.timestamps.clear();
    }

    /// Removes and yields all records with their timestamps; keeps the memory.
    pub fn drain(&mut self) -> Zip<vec::Drain<'_, T>, vec::Drain<'_, Option<Timestamp>>> {
        self.records.drain(..).zip(self.timestamps.drain(..))
    }

    /// Returns an iterator over all records with their timestamps.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&T, Option<Timestamp>)> {
        self.records.iter().zip(self.timestamps.iter().copied())
    }

    /// Returns the records in order.
    #[inline]
    pub fn records(&self) -> &[T] {
        &self.records
    }

    /// Returns the event time of each record.
    #[inline]
    pub fn timestamps(&self) -> &[Option<Timestamp>] {
        &self.timestamps
    }

    /// Retains only the records that `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let Self { records, timestamps } = self;
        let kept: Vec<bool> = records.iter().map(&mut keep).collect();
        let mut index = 0;
        records.retain(|_| {
            index += 1;
            kept[index - 1]
        });
        index = 0;
        timestamps.retain(|_| {
            index += 1;
            kept[index - 1]
        });
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Extend<(T, Option<Timestamp>)> for Batch<T> {
    fn extend<I: IntoIterator<Item = (T, Option<Timestamp>)>>(&mut self, records: I) {
        for (record, timestamp) in records {
            self.push(record, timestamp);
        }
    }
}

impl<T> FromIterator<(T, Option<Timestamp>)> for Batch<T> {
    fn from_iter<I: IntoIterator<Item = (T, Option<Timestamp>)>>(records: I) -> Self {
        let mut batch = Self::new();
        batch.extend(records);
        batch
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = (T, Option<Timestamp>);
    type IntoIter = Zip<vec::IntoIter<T>, vec::IntoIter<Option<Timestamp>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter().zip(self.timestamps)
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = (&'a T, &'a Option<Timestamp>);
    type IntoIter = Zip<slice::Iter<'a, T>, slice::Iter<'a, Option<Timestamp>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter().zip(&self.timestamps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stay_in_step() {
        let mut batch: Batch<u32> = (0..6).map(|n| (n, Timestamp::from_stored(i64::from(n)))).collect();
        batch.retain(|n| n % 2 == 1);
        assert_eq!(batch.records(), [1, 3, 5]);
        assert_eq!(batch.timestamps(), [1, 3, 5].map(|n| Some(Timestamp::from_millis(n))));
        assert_eq!(batch.drain().count(), 3);
        assert!(batch.is_empty() && batch.capacity() >= 6);
    }

    #[test]
    #[should_panic(expected = "every record has its timestamp")]
    fn columns_of_different_lengths_are_refused() {
        Batch::from_columns(vec![1], vec![]);
    }
}
