//! The order of timers: leaves of a tree that are sorted only when their time comes.
//!
//! A registration appends to the leaf of its time. A full leaf splits at the median of its times, so a leaf takes a few
//! kilobytes however the times are spread. The first leaf is sorted, and timers fire from its end. (The idea is that of
//! the ladder queue: Tang, Goh, Thng, ACM TOMACS 15(3), 2005.)
//!
//! Timers of one time need no order. Once they fill a leaf alone, it takes any number of them and is never sorted: so
//! do the timers at the end of a window, one for each key.
//!
//! A timer that is deleted stays until its time comes, or until [`ByTime::sweep`] meets it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use prefetch_index::prefetch_index;
use slab::Slab;
use strandline_state_api::KeyHash;

/// The number of timers in a full leaf with several times.
const FULL: usize = 256;

/// A timer in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timer<K, N> {
    pub(super) millis: i64,
    pub(super) hash: KeyHash,
    pub(super) key: K,
    pub(super) namespace: N,
}

/// Timers in no order.
struct Leaf<K, N> {
    timers: Vec<Timer<K, N>>,
    /// The time of all, if the leaf is known to have only one. It then takes no other.
    only: Option<i64>,
}

impl<K, N> Leaf<K, N> {
    /// Timers that are sorted by time.
    fn of_sorted(timers: Vec<Timer<K, N>>) -> Self {
        let ends = timers.first().zip(timers.last());
        let only = ends.filter(|(first, last)| first.millis == last.millis && timers.len() >= FULL);
        Self { only: only.map(|(first, _)| first.millis), timers }
    }

    fn with(timer: Timer<K, N>) -> Self {
        Self { timers: vec![timer], only: None }
    }
}

/// See the [module](self).
pub(super) struct ByTime<K, N> {
    /// The first leaf, the latest timer first.
    first: Vec<Timer<K, N>>,
    /// The lowest time that is behind the first leaf; `None` if it takes all times.
    bound: Option<i64>,
    /// Where the other leaves are, by the lowest time that each takes. A tree of the leaves themselves would be
    /// compiled for each type of key and namespace.
    places: BTreeMap<i64, usize>,
    leaves: Slab<Leaf<K, N>>,
    len: usize,
    /// The leaf that the next sweep looks for, and the end of what is left of it.
    swept: (i64, usize),
}

impl<K: Eq, N: Eq> ByTime<K, N> {
    pub(super) fn new() -> Self {
        let swept = (i64::MIN, usize::MAX);
        let (places, leaves) = (BTreeMap::new(), Slab::new());
        Self { first: Vec::new(), bound: Some(i64::MIN), places, leaves, len: 0, swept }
    }

    /// Returns the number of timers, deleted ones included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, timer: Timer<K, N>) {
        self.len += 1;
        match self.bound {
            Some(bound) if bound <= timer.millis => self.append(bound, timer),
            _ => {
                let at = self.first.partition_point(|other| other.millis >= timer.millis);
                self.first.insert(at, timer);
                if self.first.len() > FULL {
                    self.split_first();
                }
            }
        }
    }

    /// Prefetches the place of a timer that is to be added.
    pub(super) fn prefetch(&self, millis: i64) {
        if self.bound.is_some_and(|bound| bound <= millis)
            && let Some((_, &place)) = self.places.range(..=millis).next_back()
            && let Some(leaf) = self.leaves.get(place)
        {
            prefetch_index(&leaf.timers, leaf.timers.len().saturating_sub(1));
        }
    }

    /// Returns the earliest timer.
    #[inline]
    pub(super) fn first(&mut self) -> Option<&Timer<K, N>> {
        if self.first.is_empty() {
            self.next_leaf();
        }
        self.first.last()
    }

    /// Returns the timer that is `count` timers behind the earliest one, if it is in the same leaf.
    #[inline]
    pub(super) fn ahead(&self, count: usize) -> Option<&Timer<K, N>> {
        self.first.get(self.first.len().checked_sub(count + 1)?)
    }

    /// Removes the timer that [`first`](Self::first) returned.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Timer<K, N>> {
        let timer = self.first.pop();
        self.len -= usize::from(timer.is_some());
        timer
    }

    /// Removes the timers of about one leaf that are not `pending`, and those that are there twice. Calls go from leaf
    /// to leaf, again and again.
    pub(super) fn sweep(&mut self, mut pending: impl FnMut(&Timer<K, N>) -> bool) {
        let (mut from, mut end) = self.swept;
        if self.places.range(from..).next().is_none() {
            (from, end) = (i64::MIN, usize::MAX);
        }
        if from == i64::MIN {
            self.unsort_first();
        }
        let Some((&key, &place)) = self.places.range(from..).next() else { return };
        let Some(leaf) = self.leaves.get_mut(place) else { return };
        let timers = &mut leaf.timers;
        let end = if key == from { end.min(timers.len()) } else { timers.len() };
        let start = end.saturating_sub(FULL);
        timers[start..end].sort_unstable_by_key(|timer| (timer.millis, timer.hash.0));
        let before = timers.len();
        for i in (start..end).rev() {
            let again = i > start && timers[i] == timers[i - 1];
            if again || !pending(&timers[i]) {
                // What comes here from the end was visited, or comes in the next round.
                timers.swap_remove(i);
            }
        }
        self.len -= before - timers.len();
        if timers.is_empty() {
            self.places.remove(&key);
            self.leaves.try_remove(place);
        }
        self.swept = match key.checked_add(1) {
            _ if start > 0 => (key, start),
            Some(next) => (next, usize::MAX),
            None => (i64::MIN, usize::MAX),
        };
    }

    /// Makes the first leaf one of the others.
    fn unsort_first(&mut self) {
        if !self.first.is_empty() {
            let leaf = Leaf::of_sorted(std::mem::take(&mut self.first));
            self.add(i64::MIN, leaf);
            self.bound = Some(i64::MIN);
        }
    }

    /// Adds a timer behind the first leaf.
    fn append(&mut self, bound: i64, timer: Timer<K, N>) {
        let place = self.places.range(..=timer.millis).next_back();
        let Some((leaf, place)) = place.and_then(|(_, &place)| Some((self.leaves.get_mut(place)?, place)))
        else {
            self.add(bound, Leaf::with(timer));
            return;
        };
        match leaf.only {
            Some(only) if only < timer.millis => {
                self.add(only + 1, Leaf::with(timer));
            }
            Some(only) if only > timer.millis => {
                let later = std::mem::replace(leaf, Leaf::with(timer));
                self.add(only, later);
            }
            Some(_) => leaf.timers.push(timer),
            None => {
                leaf.timers.push(timer);
                if leaf.timers.len() > FULL {
                    self.split(place);
                }
            }
        }
    }

    /// Splits a leaf behind the first one.
    #[cold]
    fn split(&mut self, place: usize) {
        let Some(leaf) = self.leaves.get_mut(place) else { return };
        let timers = &mut leaf.timers;
        let middle = timers.len() / 2;
        let (before, median, behind) = timers.select_nth_unstable_by_key(middle, |timer| timer.millis);
        let mut from = median.millis;
        if before.iter().all(|timer| timer.millis == from) {
            // The median is the earliest time.
            match behind.iter().map(|timer| timer.millis).filter(|millis| *millis > from).min() {
                Some(next) => from = next,
                None => {
                    leaf.only = Some(from);
                    return;
                }
            }
        }
        let mut later = Vec::with_capacity(FULL + 1);
        later.extend(timers.extract_if(.., |timer| timer.millis >= from));
        self.add(from, Leaf { timers: later, only: None });
    }

    fn add(&mut self, lowest: i64, leaf: Leaf<K, N>) {
        self.places.insert(lowest, self.leaves.insert(leaf));
    }

    /// Splits the first leaf, which stays sorted.
    #[cold]
    fn split_first(&mut self) {
        let Some((latest, earliest)) = self.first.first().zip(self.first.last()) else { return };
        let (latest, earliest) = (latest.millis, earliest.millis);
        if latest == earliest {
            self.bound = latest.checked_add(1);
            return;
        }
        let middle = self.first[self.first.len() / 2].millis;
        let middle = if middle == earliest { middle + 1 } else { middle };
        let at = self.first.partition_point(|timer| timer.millis >= middle);
        let sooner = self.first.split_off(at);
        let later = std::mem::replace(&mut self.first, sooner);
        self.add(middle, Leaf::of_sorted(later));
        self.bound = Some(middle);
    }

    /// Sorts the next leaf, which becomes the first one.
    #[cold]
    fn next_leaf(&mut self) {
        let next = self.places.pop_first().and_then(|(_, place)| self.leaves.try_remove(place));
        let Some(Leaf { timers, only }) = next else {
            self.bound = Some(i64::MIN);
            return;
        };
        self.first = timers;
        if let Some(only) = only {
            self.bound = only.checked_add(1);
        } else {
            self.first.sort_unstable_by_key(|timer| Reverse(timer.millis));
            self.bound = self.places.keys().next().copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use strandline_state_api::StateKey;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// Adds so many timers; the first number is the time of the first, the last the distance of the others.
        Insert(i64, u32, i64),
        /// Adds so many of the pending timers once more.
        Again(usize),
        Pop(usize),
        /// Deletes one of so many pending timers.
        Delete(usize),
        Sweep(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let time =
            prop_oneof![4 => -1000..1000i64, 1 => any::<i64>(), 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
        prop_oneof![
            4 => (time, 1..800u32, -3..4i64).prop_map(|(from, count, apart)| Step::Insert(from, count, apart)),
            1 => (1..400usize).prop_map(Step::Again),
            2 => (0..900usize).prop_map(Step::Pop),
            1 => (1..5usize).prop_map(Step::Delete),
            1 => (1..12usize).prop_map(Step::Sweep),
        ]
    }

    /// The index and the timers that are pending.
    struct Model {
        queue: ByTime<u32, ()>,
        pending: BTreeSet<(i64, u32)>,
        next_key: u32,
    }

    impl Model {
        fn insert(&mut self, millis: i64, key: u32) {
            self.queue.insert(Timer { millis, hash: key.key_hash(), key, namespace: () });
            self.pending.insert((millis, key));
        }

        /// Removes the earliest pending timer, as the table of timers does; returns whether there was one.
        fn pop(&mut self) -> bool {
            while let Some(first) = self.queue.first().cloned() {
                assert_eq!(self.queue.pop().as_ref(), Some(&first));
                let earliest = self.pending.first().map(|(millis, _)| *millis);
                if self.pending.remove(&(first.millis, first.key)) {
                    assert_eq!(earliest, Some(first.millis));
                    return true;
                }
            }
            assert!(self.pending.is_empty(), "lost {:?}", self.pending);
            false
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Insert(from, count, apart) => {
                    for i in 0..i64::from(count) {
                        self.next_key += 1;
                        self.insert(from.saturating_add(i * apart), self.next_key);
                    }
                }
                Step::Again(count) => {
                    let again: Vec<_> = self.pending.iter().take(count).copied().collect();
                    again.into_iter().for_each(|(millis, key)| self.insert(millis, key));
                }
                Step::Pop(count) => {
                    let _ = (0..count).all(|_| self.pop());
                }
                Step::Delete(nth) => {
                    let mut i = 0;
                    self.pending.retain(|_| {
                        i += 1;
                        i % nth != 0
                    });
                }
                Step::Sweep(count) => {
                    let Self { queue, pending, .. } = self;
                    (0..count)
                        .for_each(|_| queue.sweep(|timer| pending.contains(&(timer.millis, timer.key))));
                }
            }
            let leaves = self.queue.leaves.iter().map(|(_, leaf)| leaf.timers.len()).sum::<usize>();
            assert_eq!(self.queue.len(), self.queue.first.len() + leaves);
        }
    }

    proptest! {
        /// Pending timers come in the order of time, whatever is added, deleted and swept between.
        #[test]
        fn pending_timers_come_in_order(steps in prop::collection::vec(step(), 1..30)) {
            let mut model = Model { queue: ByTime::new(), pending: BTreeSet::new(), next_key: 0 };
            steps.iter().for_each(|step| model.take(step));
            while model.pop() {}
            assert_eq!(model.queue.len(), 0);
        }
    }

    #[test]
    fn leaves_with_several_times_stay_small() {
        let mut queue = ByTime::new();
        // Many timers of one time, which come between others.
        for i in 0..100_000u32 {
            let millis = if i % 2 == 0 { 1 << 16 } else { i64::from(i.wrapping_mul(0x9E37_79B9) >> 8) };
            queue.insert(Timer { millis, hash: i.key_hash(), key: i, namespace: () });
        }
        let mixed = queue.leaves.iter().map(|(_, leaf)| leaf).filter(|leaf| leaf.only.is_none());
        assert!(mixed.clone().all(|leaf| leaf.timers.len() <= FULL));
        assert!(mixed.count() < 100_000 / FULL * 2);
    }
}
