//! The keys of the workloads, and the order in which they are visited.

use std::sync::Arc;

use strandline_connectors::keys::mix;

/// Returns `count` keys, `mix(0)`, `mix(1)` and so on, in a shuffled order that is always the same.
///
/// The order is unlike that of any table, so a visit finds nothing in the cache that the visit before left
/// there.
pub fn shuffled(count: usize) -> Arc<[u64]> {
    order(count).iter().copied().map(mix).collect()
}

/// Returns the numbers below `count` in a shuffled order that is always the same.
pub fn order(count: usize) -> Arc<[u64]> {
    let mut numbers: Vec<u64> = (0..count as u64).collect();
    fastrand::Rng::with_seed(0x57_2a_4d).shuffle(&mut numbers);
    numbers.into()
}

/// Returns how many operations a slice of a comparison has with `keys` keys: enough for a few milliseconds,
/// and few enough that a slice changes only a part of all entries.
pub fn slice_of(keys: usize) -> usize {
    (keys / 5).clamp(1, 100_000)
}

/// Walks through keys, slice by slice, again and again.
#[derive(Clone, Debug)]
pub struct Visit {
    keys: Arc<[u64]>,
    next: usize,
}

impl Visit {
    /// Starts at the first key.
    pub fn new(keys: Arc<[u64]>) -> Self {
        Self { keys, next: 0 }
    }

    /// All keys.
    pub fn all(&self) -> Arc<[u64]> {
        Arc::clone(&self.keys)
    }

    /// Returns the range of the next slice of `count` keys; starts over when fewer are left.
    pub fn next(&mut self, count: usize) -> std::ops::Range<usize> {
        let slice = self.peek(count);
        self.next = slice.end;
        slice
    }

    /// Returns the same range as [`next`](Self::next) without moving on.
    pub fn peek(&self, count: usize) -> std::ops::Range<usize> {
        let count = count.min(self.keys.len());
        let start = if self.next + count > self.keys.len() { 0 } else { self.next };
        start..start + count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_comes_to_every_key_once_a_round() {
        let keys = shuffled(100);
        assert_ne!(keys[..], (0..100).map(mix).collect::<Vec<_>>()[..]);
        let mut visit = Visit::new(Arc::clone(&keys));
        let mut seen: Vec<u64> = (0..5).flat_map(|_| keys[visit.next(20)].to_vec()).collect();
        assert_eq!(visit.peek(20), 0..20);
        let mut wanted = keys.to_vec();
        seen.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(seen, wanted);
    }
}
