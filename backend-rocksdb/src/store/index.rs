//! An index of slots by hash that supports prefetching: linear probing over cells of eight bytes.
//!
//! A look-up waits twice, for a cell and for the slot that it names. A batch of keys
//! [prefetches](Index::prefetch) all cells first, then all slots, so the batch waits about twice in all.

use prefetch_index::prefetch_index;

/// The name of no slot.
const VACANT: u32 = u32::MAX;
const FIRST_CELLS: usize = 16;

/// Part of a hash, and a slot. The search starts at the part, so cells move without a look at slots.
#[derive(Clone, Copy, Debug)]
struct Cell {
    part: u32,
    id: u32,
}

const EMPTY: Cell = Cell { part: 0, id: VACANT };

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Index {
    /// None, or a power of two of them, at most three quarters in use.
    cells: Box<[Cell]>,
    len: usize,
}

fn part(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    fn mask(&self) -> usize {
        self.cells.len().wrapping_sub(1)
    }

    /// The cells that may hold a slot with this part of a hash, up to the first empty one.
    #[inline]
    fn probe(&self, part: u32) -> impl Iterator<Item = (usize, Cell)> {
        let mask = self.mask();
        let places = (part as usize..).take(self.cells.len()).map(move |at| at & mask);
        let cells = places.filter_map(|at| self.cells.get(at).map(|cell| (at, *cell)));
        cells.take_while(|(_, cell)| cell.id != VACANT)
    }

    /// The slot with this hash that `is` the right one.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let part = part(hash);
        self.probe(part).find(|(_, cell)| cell.part == part && is(cell.id)).map(|(_, cell)| cell.id)
    }

    /// Prefetches the memory where a search starts.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_index(&self.cells, part(hash) as usize & self.mask());
    }

    /// The slot that a search most likely ends at.
    #[inline]
    pub(super) fn likely(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds a slot that the index lacks.
    pub(super) fn insert(&mut self, hash: u64, id: u32) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.grow();
        }
        self.len += 1;
        self.put(Cell { part: part(hash), id });
    }

    fn put(&mut self, cell: Cell) {
        let mask = self.mask();
        let mut at = cell.part as usize & mask;
        while self.cells[at].id != VACANT {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }

    fn grow(&mut self) {
        let cells = (self.cells.len() * 2).max(FIRST_CELLS);
        let old = std::mem::replace(&mut self.cells, vec![EMPTY; cells].into_boxed_slice());
        old.iter().filter(|cell| cell.id != VACANT).for_each(|cell| self.put(*cell));
    }

    /// Removes a slot.
    pub(super) fn remove(&mut self, hash: u64, id: u32) {
        let Some((mut hole, _)) = self.probe(part(hash)).find(|(_, cell)| cell.id == id) else { return };
        self.len -= 1;
        // Cells behind it move up where a search would miss them now.
        let mask = self.mask();
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.id == VACANT {
                break;
            }
            let from_start = at.wrapping_sub(cell.part as usize) & mask;
            if from_start >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few different hashes, so that cells are crowded and wrap around.
        #[test]
        fn is_a_map(steps in proptest::collection::vec((any::<bool>(), 0u32..40), 1..400)) {
            let hash = |id: u32| u64::from(id % 7).wrapping_sub(3) << 32;
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (add, id) in steps {
                if add && model.insert(id, ()).is_none() {
                    index.insert(hash(id), id);
                } else if !add && model.remove(&id).is_some() {
                    index.remove(hash(id), id);
                }
                for id in 0..40 {
                    let found = index.find(hash(id), |other| other == id);
                    prop_assert_eq!(found, model.get(&id).map(|()| id));
                }
                prop_assert_eq!(index.len, model.len());
            }
        }
    }
}
