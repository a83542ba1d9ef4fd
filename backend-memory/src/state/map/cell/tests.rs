//! A model of cuts, against which random steps check a cell.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put(u64, u64),
    Remove(u64),
    /// Puts many entries, so that the map becomes large.
    Grow,
    /// Removes most entries, so that the map becomes small.
    Shrink,
    Cut(bool),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2 * SEARCHED as u64, any::<u64>()).prop_map(|(key, value)| Step::Put(key, value)),
        4 => (0..2 * SEARCHED as u64).prop_map(Step::Remove),
        1 => Just(Step::Grow),
        1 => Just(Step::Shrink),
        3 => any::<bool>().prop_map(Step::Cut),
        3 => Just(Step::Drain),
    ]
}

/// A cut, the entries that it must hold, and those that were saved for it before its drain.
struct Open {
    cut: EpochCut,
    wanted: BTreeMap<u64, u64>,
    saved: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct World {
    values: BTreeMap<u64, u64>,
    put: BTreeSet<u64>,
    open: Vec<Open>,
}

impl World {
    fn save(&mut self, item: &Item<u64, u64>) {
        for open in self.open.iter_mut().filter(|open| open.cut.wants(item.epoch())) {
            open.saved.insert(item.key, item.value);
        }
    }

    fn put(&mut self, cell: &mut Cell<u64, u64>, epoch: u32, key: u64, value: u64) {
        // A value that is refused is replaced, another one changes in place.
        let keep = value.is_multiple_of(2);
        let save = |old: &Item<u64, u64>| self.save(old);
        let ((), new) = cell.modify(key, epoch, save, |_| keep, || value, |found| *found = value);
        assert_eq!(new, self.values.insert(key, value).is_none());
        self.put.insert(key);
    }

    fn remove(&mut self, cell: &mut Cell<u64, u64>, key: u64) {
        let removed = cell.remove(&key);
        assert_eq!(removed.as_ref().map(|item| item.value), self.values.remove(&key));
        if let Some(item) = removed {
            self.save(&item);
        }
        self.put.remove(&key);
    }

    fn drain(&mut self, cell: &mut Cell<u64, u64>) {
        if self.open.is_empty() {
            return;
        }
        let Open { cut, wanted, mut saved } = self.open.remove(0);
        assert!(cut.full || wanted.is_empty() || wanted == saved || cell.changed_in(cut.epoch));
        let visit = |item: &Item<u64, u64>| {
            saved.insert(item.key, item.value);
            Ok(())
        };
        cell.drain(cut, visit).unwrap();
        assert_eq!(saved, wanted, "{cut:?}");
    }
}

proptest! {
    #[test]
    fn each_cut_holds_the_entries_put_before_it(steps in prop::collection::vec(step(), 1..200)) {
        let (mut cell, mut world, mut epoch) = (Cell::new(), World::default(), 1);
        for step in steps {
            match step {
                Step::Put(key, value) => world.put(&mut cell, epoch, key, value),
                Step::Remove(key) => world.remove(&mut cell, key),
                Step::Grow => {
                    (0..SEARCHED as u64 + 5).for_each(|key| world.put(&mut cell, epoch, key, key));
                }
                Step::Shrink => (5..100).for_each(|key| world.remove(&mut cell, key)),
                Step::Cut(full) => {
                    let put = std::mem::take(&mut world.put);
                    let mut wanted = world.values.clone();
                    wanted.retain(|key, _| full || put.contains(key));
                    let cut = EpochCut { epoch, full };
                    world.open.push(Open { cut, wanted, saved: BTreeMap::new() });
                    epoch += 1;
                }
                Step::Drain => world.drain(&mut cell),
            }
        }
        while !world.open.is_empty() {
            world.drain(&mut cell);
        }
    }
}
