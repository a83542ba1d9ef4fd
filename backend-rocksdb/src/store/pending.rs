//! The slots of a cut that the database lacks, handed out in nearly the order of the database.
//!
//! A memtable takes keys in their order several times as fast as keys in any order, but a step of the drain
//! holds few of them, and a sort of all would stop the work. So they are first laid out by key group, in
//! steps, too.

use super::overlay::Overlay;

/// Slots that are laid out in a step, for each that a step may write.
const CHEAPER: usize = 8;
/// Key groups are numbers of 15 bits.
const GROUP_BITS: u32 = 15;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// In the order in which they were changed.
    mixed: Vec<u32>,
    /// By key group, each with as many neighbouring groups; a power of two of them, or none.
    parts: Vec<Vec<u32>>,
    /// Those before this one are empty.
    next: usize,
}

impl Pending {
    pub(super) fn new(mixed: Vec<u32>) -> Self {
        Self { mixed, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mixed.is_empty() && self.next == self.parts.len()
    }

    /// Takes more, in any order.
    pub(super) fn extend(&mut self, more: impl IntoIterator<Item = u32>) {
        self.mixed.extend(more);
    }

    /// All of them.
    pub(super) fn into_slots(self) -> impl Iterator<Item = u32> {
        self.mixed.into_iter().chain(self.parts.into_iter().flatten())
    }

    /// Takes `budget` slots out, or nearly so many; none while they are being laid out.
    pub(super) fn step(&mut self, budget: usize, overlay: &Overlay) -> Vec<u32> {
        let budget = budget.max(1);
        if self.parts.is_empty() && self.mixed.len() <= budget {
            return std::mem::take(&mut self.mixed);
        }
        if !self.mixed.is_empty() {
            self.lay_out(budget, overlay);
            return Vec::new();
        }
        let mut step = Vec::new();
        while let Some(part) = self.parts.get_mut(self.next) {
            if step.is_empty() && part.len() > budget {
                return part.split_off(part.len() - budget);
            }
            if step.len() + part.len() > budget {
                break;
            }
            step.append(part);
            self.next += 1;
        }
        step
    }

    fn lay_out(&mut self, budget: usize, overlay: &Overlay) {
        if self.parts.is_empty() {
            // Small ones, as the key groups of a subtask may be few of all.
            let parts = (self.mixed.len() / budget * 4).next_power_of_two().min(1 << GROUP_BITS);
            self.parts.resize_with(parts, Vec::new);
        }
        let shift = GROUP_BITS - self.parts.len().trailing_zeros();
        let rest = self.mixed.len().saturating_sub(budget.saturating_mul(CHEAPER));
        overlay.prefetch(&self.mixed[rest..]);
        for id in self.mixed.drain(rest..) {
            let index = usize::from(overlay.key_group(id)) >> shift;
            self.parts[index].push(id);
            // A slot that was put back may belong before the remaining ones.
            self.next = self.next.min(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::overlay::{Known, Order};
    use super::*;

    proptest! {
        #[test]
        fn each_slot_is_handed_out_once_and_groups_in_order(
            groups in proptest::collection::vec(0u16..1 << GROUP_BITS, 0..200),
            few in any::<bool>(),
            budget in 1usize..40,
            back in 0usize..10,
        ) {
            let mut overlay = Overlay::default();
            let slots = groups.iter().enumerate().map(|(i, group)| {
                let group = if few { group % 3 } else { *group };
                let mut at = group.to_be_bytes().to_vec();
                at.extend_from_slice(&(i as u32).to_be_bytes());
                overlay.insert(&at, Order::Hashed, Known::Gone)
            });
            let slots: Vec<u32> = slots.collect();
            let mut pending = Pending::new(slots.clone());
            let (mut given, mut steps, mut returned) = (Vec::new(), 0, false);
            while !pending.is_empty() {
                let mut step = pending.step(budget, &overlay);
                prop_assert!(step.len() <= budget);
                steps += 1;
                if steps == back {
                    // A step that failed.
                    pending.extend(std::mem::take(&mut step));
                    returned = true;
                }
                given.extend(step);
            }
            // Slots that fit into one step are not laid out.
            let in_order = given.is_sorted_by_key(|id| overlay.key_group(*id) >> 13);
            prop_assert!(in_order || returned || given.len() <= budget);
            given.sort_unstable();
            prop_assert_eq!(given, slots);
        }
    }
}
