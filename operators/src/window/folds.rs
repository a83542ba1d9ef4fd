//! The folds of a window that slides over panes, so that a step costs a merge or two whatever the number of panes.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use strandline_state_api::{KeyHash, Result};

use crate::Aggregate;

/// How many bytes the folds of all keys of a subtask take at most.
const MOST_BYTES: usize = 32 << 20;

/// The folds of the window of one key that fired last (two stacks: Tangwongsan, Hirzel and Schneider, "Low-Latency
/// Sliding-Window Aggregation in Worst-Case Constant Time", DEBS 2017).
///
/// They follow from the panes of the key, which alone are state.
pub(super) struct Folds<A> {
    /// The end of that window.
    end: i64,
    /// Of each pane before the turn the fold of it and of all behind it up to the turn; that of the oldest pane is the
    /// last.
    front: Vec<(i64, A)>,
    /// The fold of the panes behind the turn.
    back: Option<A>,
    /// The start of the newest pane; the beginning of time where there is none.
    newest: i64,
}

impl<A> Folds<A> {
    pub(super) const fn new() -> Self {
        Self { end: i64::MIN, front: Vec::new(), back: None, newest: i64::MIN }
    }
}

impl<A: Clone> Folds<A> {
    pub(super) fn clear(&mut self) {
        self.front.clear();
        (self.end, self.back, self.newest) = (i64::MIN, None, i64::MIN);
    }

    /// Returns whether the window that ends at `end` follows from these folds and the panes of its last `slide`.
    pub(super) fn precede(&self, end: i64, slide: i64) -> bool {
        !self.front.is_empty() && self.end.saturating_add(slide) == end
    }

    /// Starts anew from all `panes` of the window that ends at `end`, in the order of time.
    pub(super) fn turn<G>(&mut self, aggregate: &G, panes: &[(i64, A)], end: i64) -> Result<()>
    where
        G: Aggregate<Accumulator = A>,
    {
        self.clear();
        self.end = end;
        self.newest = panes.last().map_or(i64::MIN, |(start, _)| *start);
        for (start, pane) in panes.iter().rev() {
            let mut fold = pane.clone();
            if let Some((_, behind)) = self.front.last() {
                aggregate.merge(&mut fold, behind.clone())?;
            }
            self.front.push((*start, fold));
        }
        Ok(())
    }

    /// Adds a pane behind all others.
    pub(super) fn add<G>(&mut self, aggregate: &G, start: i64, pane: A) -> Result<()>
    where
        G: Aggregate<Accumulator = A>,
    {
        self.newest = start;
        match &mut self.back {
            Some(back) => aggregate.merge(back, pane),
            None => {
                self.back = Some(pane);
                Ok(())
            }
        }
    }

    pub(super) fn ends_at(&mut self, end: i64) {
        self.end = end;
    }

    /// Returns the start of the newest pane; the beginning of time where there is none.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Computes the result of the window, if it has a pane.
    pub(super) fn result<G>(&self, aggregate: &G) -> Result<Option<G::Out>>
    where
        G: Aggregate<Accumulator = A>,
    {
        match (self.front.last(), &self.back) {
            (Some((_, front)), Some(back)) => {
                let mut all = front.clone();
                aggregate.merge(&mut all, back.clone())?;
                aggregate.result(&all).map(Some)
            }
            (Some((_, all)), None) | (None, Some(all)) => aggregate.result(all).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Removes the panes that start before `behind` and adds their starts to `expired`. Returns false, and removes
    /// none, where a [turn](Self::turn) must do that because the last pane before the turn would go, too.
    pub(super) fn expire(&mut self, behind: i64, expired: &mut Vec<i64>) -> bool {
        if self.front.first().is_none_or(|(start, _)| *start < behind) {
            return false;
        }
        while let Some((start, _)) = self.front.last().filter(|(start, _)| *start < behind) {
            expired.push(*start);
            self.front.pop();
        }
        true
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.front.capacity() * size_of::<(i64, A)>()
    }
}

/// The folds of the keys with many panes, by the hash of the key, as far as the memory for them reaches. Of other keys
/// each firing folds all panes anew.
pub(super) struct KeptFolds<K, A> {
    of_keys: HashMap<u64, Kept<K, A>, BuildHasherDefault<OfHash>>,
    bytes: usize,
}

struct Kept<K, A> {
    key: K,
    folds: Folds<A>,
    bytes: usize,
}

impl<K, A> Default for KeptFolds<K, A> {
    fn default() -> Self {
        Self { of_keys: HashMap::default(), bytes: 0 }
    }
}

impl<K: Clone + Eq, A: Clone> KeptFolds<K, A> {
    /// Moves the folds of a key into `folds`; returns whether there are any.
    pub(super) fn take(&mut self, hash: KeyHash, key: &K, folds: &mut Folds<A>) -> bool {
        match self.of_keys.get_mut(&hash.0) {
            Some(kept) if kept.key == *key => {
                std::mem::swap(&mut kept.folds, folds);
                true
            }
            _ => false,
        }
    }

    /// Moves `folds` back, or keeps those of another key if there is room.
    pub(super) fn keep(&mut self, hash: KeyHash, key: &K, folds: &mut Folds<A>) {
        let bytes = folds.bytes() + size_of::<Kept<K, A>>();
        if let Some(kept) = self.of_keys.get_mut(&hash.0) {
            if kept.key == *key {
                self.bytes += bytes.saturating_sub(kept.bytes);
                kept.bytes = kept.bytes.max(bytes);
                std::mem::swap(&mut kept.folds, folds);
            }
            return;
        }
        if self.bytes + bytes <= MOST_BYTES {
            self.bytes += bytes;
            let kept = Kept { key: key.clone(), folds: std::mem::replace(folds, Folds::new()), bytes };
            self.of_keys.insert(hash.0, kept);
        }
    }

    /// Forgets the folds of a key: its panes have changed.
    pub(super) fn forget(&mut self, hash: KeyHash, key: &K) {
        if self.of_keys.get(&hash.0).is_some_and(|kept| kept.key == *key)
            && let Some(kept) = self.of_keys.remove(&hash.0)
        {
            self.bytes -= kept.bytes;
        }
    }
}

/// A hash of what is a hash. Its bits change places, because all keys of a subtask have the same first ones.
#[derive(Clone, Copy, Debug, Default)]
struct OfHash(u64);

impl Hasher for OfHash {
    fn finish(&self) -> u64 {
        self.0.rotate_left(20)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<K, A> fmt::Debug for KeptFolds<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptFolds").field("keys", &self.of_keys.len()).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fold;

    /// What a record does to a number, as the factor and the summand of a function: an accumulator of which the order
    /// of merges counts.
    type Function = (u64, u64);

    fn behind(first: &mut Function, (factor, summand): Function) {
        *first = (first.0.wrapping_mul(factor), first.1.wrapping_mul(factor).wrapping_add(summand));
    }

    #[test]
    fn folds_are_those_of_all_panes_in_the_order_of_time() {
        let functions = Fold::new((1, 0), |all: &mut Function, next: Function| behind(all, next), behind);
        for size in 1..12 {
            let (mut folds, mut expired) = (Folds::new(), Vec::new());
            let mut turns = 0;
            // Every fourth pane has no record.
            let all: Vec<_> = (0..60u64)
                .map(|n| (n as i64, (2 * n + 3, n * n)))
                .filter(|(start, _)| start % 4 != 1)
                .collect();
            for end in 1..60 {
                let window: Vec<_> =
                    all.iter().filter(|(start, _)| (end - size..end).contains(start)).copied().collect();
                if folds.precede(end, 1) {
                    if let Some((start, pane)) = window.last().filter(|(start, _)| *start == end - 1) {
                        folds.add(&functions, *start, *pane).unwrap();
                    }
                    folds.ends_at(end);
                } else {
                    folds.turn(&functions, &window, end).unwrap();
                    turns += 1;
                }
                let mut merged = (1, 0);
                window.iter().for_each(|(_, pane)| behind(&mut merged, *pane));
                let expected = (!window.is_empty()).then_some(merged);
                assert_eq!(folds.result(&functions).unwrap(), expected, "{size} to {end}");
                if folds.expire(end - size + 1, &mut expired) {
                    continue;
                }
                folds.clear();
            }
            let most = 60 / size as usize + 60 / 4 + 2;
            assert!(turns <= most, "{turns} turns of windows of {size} panes");
        }
    }

    #[test]
    fn folds_are_kept_for_a_key_and_no_other_as_long_as_there_is_room() {
        let sums = Fold::new(0, |sum: &mut u64, n: u64| *sum += n, |sum, other| *sum += other);
        let panes: Vec<_> = (0..1_000).map(|start| (start, 1u64)).collect();
        let mut kept = KeptFolds::<u64, u64>::default();
        let mut folds = Folds::new();
        for key in 0..10_000u64 {
            folds.turn(&sums, &panes, 1_000).unwrap();
            kept.keep(KeyHash(key), &key, &mut folds);
        }
        assert!(kept.bytes <= MOST_BYTES && kept.of_keys.len() > 1_000, "{kept:?}");
        assert!(!kept.take(KeyHash(7), &8, &mut folds), "another key with the same hash");
        folds.clear();
        assert!(kept.take(KeyHash(7), &7, &mut folds));
        assert_eq!(folds.result(&sums).unwrap(), Some(1_000));
        kept.keep(KeyHash(7), &7, &mut folds);
        for key in 0..10_000u64 {
            kept.forget(KeyHash(key), &key);
        }
        assert_eq!((kept.bytes, kept.of_keys.len()), (0, 0));
    }
}
