//! An index of slots by address: leaves of a tree that are sorted only as far as a walk needs it.
//!
//! An insertion appends to a leaf, so it costs little more than finding that. Accesses to one slot go by the
//! [hash](super::index) instead.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::SmallVec;

/// Keys and values of up to 24 bytes need no allocation.
pub(crate) type Bytes = SmallVec<[u8; 24]>;

/// The number of slots in a full leaf.
const FULL: usize = 32;

/// Slots in no order.
#[derive(Debug)]
struct Leaf {
    ids: Vec<u32>,
    /// Their addresses.
    at: Vec<Bytes>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Ordered {
    /// The leaves by the lowest address that each takes. There is one for the empty address once there is any.
    leaves: BTreeMap<Bytes, Leaf>,
}

impl Ordered {
    /// Adds a slot at an address that the index lacks.
    pub(super) fn insert(&mut self, at: &[u8], id: u32) {
        let Some((_, leaf)) = self.leaf(at) else {
            let leaf = Leaf { ids: vec![id], at: vec![Bytes::from_slice(at)] };
            self.leaves.insert(Bytes::new(), leaf);
            return;
        };
        leaf.ids.push(id);
        leaf.at.push(Bytes::from_slice(at));
        if leaf.ids.len() > FULL {
            let (from, later) = leaf.split();
            self.leaves.insert(from, later);
        }
    }

    /// The leaf that takes an address, with its lowest one.
    fn leaf(&mut self, at: &[u8]) -> Option<(&Bytes, &mut Leaf)> {
        self.leaves.range_mut::<[u8], _>(up_to(at)).next_back()
    }

    /// Removes a slot.
    pub(super) fn remove(&mut self, at: &[u8], id: u32) {
        let Some((from, leaf)) = self.leaf(at) else { return };
        let Some(found) = leaf.ids.iter().position(|other| *other == id) else { return };
        leaf.ids.swap_remove(found);
        leaf.at.swap_remove(found);
        if leaf.ids.is_empty() && !from.is_empty() {
            let from = from.clone();
            self.leaves.remove(&from);
        }
    }

    /// Returns those of the slots from `from` to before `to` that `keep` keeps, in order.
    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>, keep: impl Fn(u32) -> bool) -> Vec<u32> {
        let first = self.leaves.range::<[u8], _>(up_to(from)).next_back().map(|(first, _)| first.as_slice());
        let first = Bound::Included(first.unwrap_or_default());
        let leaves = self.leaves.range::<[u8], _>((first, Bound::Unbounded));
        let mut found: Vec<(&[u8], u32)> = Vec::new();
        for (_, leaf) in leaves.take_while(|(lowest, _)| to.is_none_or(|to| lowest.as_slice() < to)) {
            let start = found.len();
            let slots = leaf.at.iter().map(Bytes::as_slice).zip(leaf.ids.iter().copied());
            let inside = slots.filter(|(at, _)| *at >= from && to.is_none_or(|to| *at < to));
            found.extend(inside.filter(|(_, id)| keep(*id)));
            found[start..].sort_unstable_by_key(|(at, _)| *at);
        }
        found.into_iter().map(|(_, id)| id).collect()
    }
}

fn up_to(at: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(at))
}

impl Leaf {
    /// Keeps the lower half; returns the upper one, and its lowest address.
    #[cold]
    fn split(&mut self) -> (Bytes, Self) {
        let mut slots: Vec<_> = std::mem::take(&mut self.at).into_iter().zip(self.ids.drain(..)).collect();
        let middle = slots.len() / 2;
        slots.select_nth_unstable_by(middle, |(a, _), (b, _)| a.cmp(b));
        let from = slots[middle].0.clone();
        let mut later = Self { ids: Vec::with_capacity(FULL + 1), at: Vec::with_capacity(FULL + 1) };
        for (i, (at, id)) in slots.into_iter().enumerate() {
            let leaf = if i < middle { &mut *self } else { &mut later };
            leaf.at.push(at);
            leaf.ids.push(id);
        }
        (from, later)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Vec<u8>),
        /// Removes the next slot from an address on.
        Remove(Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = prop::collection::vec(any::<u8>(), 1..40);
        prop_oneof![2 => at.clone().prop_map(Step::Insert), 1 => at.prop_map(Step::Remove)]
    }

    proptest! {
        /// Walks find the same slots as in a sorted map.
        #[test]
        fn ranges_are_in_order(
            steps in prop::collection::vec(step(), 1..600),
            bounds in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 2),
            ascending in any::<bool>(),
        ) {
            let (mut ordered, mut model) = (Ordered::default(), BTreeMap::new());
            for (id, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(mut at) => {
                        if ascending {
                            at.splice(..0, (id as u16 / 3).to_be_bytes());
                        }
                        if let Some(old) = model.insert(at.clone(), id as u32) {
                            ordered.remove(&at, old);
                        }
                        ordered.insert(&at, id as u32);
                    }
                    Step::Remove(from) => {
                        let next = model.range(from..).next().map(|(at, id)| (at.clone(), *id));
                        if let Some((at, id)) = next {
                            model.remove(&at);
                            ordered.remove(&at, id);
                        }
                    }
                }
            }
            let (from, to) = (&bounds[0], Some(&bounds[1]).filter(|to| **to > bounds[0]));
            let inside = model.iter().filter(|(at, _)| *at >= from && to.is_none_or(|to| *at < to));
            let kept: Vec<u32> = inside.map(|(_, id)| *id).filter(|id| id % 5 != 0).collect();
            assert_eq!(ordered.range(from, to.map(Vec::as_slice), |id| id % 5 != 0), kept);
            let small = |leaf: &Leaf| leaf.ids.len() <= FULL && leaf.ids.len() == leaf.at.len();
            assert!(ordered.leaves.values().all(small));
        }
    }
}
