//! The map of one key and namespace.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use strandline_state_api::{Result, StateKey};

use crate::table::Cut;

/// As in the table: no snapshot before this epoch can know the item.
const BORN: u32 = 1 << 31;

/// A map entry.
pub(super) struct Item<MK, V> {
    pub(super) key: MK,
    pub(super) value: V,
    epoch: u32,
}

impl<MK, V> Item<MK, V> {
    /// The epoch of its last change.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch & !BORN
    }

    /// Whether it came into being in `epoch`, so that its removal leaves no tombstone.
    pub(super) fn is_born_in(&self, epoch: u32) -> bool {
        self.epoch == (epoch | BORN)
    }
}

/// A map with more entries than this keeps a log of its changes. A smaller one is searched for them, so that most changes
/// of most maps cost no allocation.
const SEARCHED: usize = 32;

/// Keys that changed, by epoch, oldest first, until they are drained.
struct Logs<MK>(Vec<(u32, Vec<MK>)>);

/// Map entries with their epochs. Small where it can be: together with a key it fills a cache line.
pub(super) struct Cell<MK, V> {
    items: HashTable<Item<MK, V>>,
    /// Of epochs that found the map large.
    logs: Option<Box<Logs<MK>>>,
    /// The newest epoch with a put.
    newest: u32,
    /// The newest epoch whose first put found the map small, so that there is no log of it.
    searched: u32,
}

impl<MK: StateKey, V> Cell<MK, V> {
    pub(super) fn new() -> Self {
        Self { items: HashTable::new(), logs: None, newest: 0, searched: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    #[inline]
    pub(super) fn get(&self, key: &MK) -> Option<&V> {
        self.items.find(key.key_hash().0, |item| item.key == *key).map(|item| &item.value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item<MK, V>> {
        self.items.iter()
    }

    /// Whether the cut of `epoch` has to visit it; also true where that cannot be told.
    pub(super) fn changed_in(&self, epoch: u32) -> bool {
        let logged = self.logs.as_ref().is_some_and(|logs| logs.0.iter().any(|(of, _)| *of == epoch));
        logged || self.searched >= epoch
    }

    /// Before the first put in `epoch`: whether its changes are logged is decided for all of it.
    fn begin(&mut self, epoch: u32) {
        self.newest = epoch;
        if self.items.len() <= SEARCHED {
            self.searched = epoch;
        } else {
            self.logs.get_or_insert_with(|| Box::new(Logs(Vec::new()))).0.push((epoch, Vec::new()));
        }
    }

    /// Sets an entry; true when it is new. `save` sees the old one before its first change in this epoch.
    #[inline]
    pub(super) fn put(&mut self, key: MK, value: V, epoch: u32, save: impl FnOnce(&Item<MK, V>)) -> bool {
        if self.newest != epoch {
            self.begin(epoch);
        }
        let place = self.items.entry(key.key_hash().0, |item| item.key == key, |item| item.key.key_hash().0);
        match place {
            Place::Occupied(mut found) => {
                let item = found.get_mut();
                if item.epoch() != epoch {
                    save(item);
                    item.epoch = epoch;
                    note(&mut self.logs, epoch, || key);
                }
                item.value = value;
                false
            }
            Place::Vacant(free) => {
                note(&mut self.logs, epoch, || key.clone());
                free.insert(Item { key, value, epoch: epoch | BORN });
                true
            }
        }
    }

    /// Adds an entry of a restored snapshot.
    pub(super) fn restore(&mut self, key: MK, value: V) {
        self.items
            .insert_unique(key.key_hash().0, Item { key, value, epoch: 0 }, |item| item.key.key_hash().0);
    }

    pub(super) fn remove(&mut self, key: &MK) -> Option<Item<MK, V>> {
        let found = self.items.find_entry(key.key_hash().0, |item| item.key == *key).ok()?;
        Some(found.remove().0)
    }

    /// Visits what `cut` has to know and forgets that it changed. What changed again was saved before.
    pub(super) fn drain(
        &mut self,
        cut: Cut,
        mut visit: impl FnMut(&Item<MK, V>) -> Result<()>,
    ) -> Result<()> {
        let log = self.take_log(cut.epoch);
        if cut.full {
            return self.items.iter().filter(|item| cut.wants(item.epoch())).try_for_each(visit);
        }
        let Some(changed) = log else {
            let searched = if self.searched >= cut.epoch { self.items.iter() } else { Default::default() };
            return searched.filter(|item| cut.wants(item.epoch())).try_for_each(visit);
        };
        for key in changed {
            let item = self.items.find(key.key_hash().0, |item| item.key == key);
            if let Some(item) = item.filter(|item| cut.wants(item.epoch())) {
                visit(item)?;
            }
        }
        Ok(())
    }

    /// The log of `epoch`, if there is one. Older ones are left from cuts that were given up.
    fn take_log(&mut self, epoch: u32) -> Option<Vec<MK>> {
        let logs = &mut self.logs.as_mut()?.0;
        let mut taken = None;
        while logs.first().is_some_and(|(of, _)| *of <= epoch) {
            let (of, keys) = logs.remove(0);
            taken = (of == epoch).then_some(keys);
        }
        if logs.is_empty() {
            self.logs = None;
        }
        taken
    }
}

/// Logs a change in `epoch`, where that epoch has a log.
#[inline]
fn note<MK>(logs: &mut Option<Box<Logs<MK>>>, epoch: u32, key: impl FnOnce() -> MK) {
    if let Some(logs) = logs
        && let Some((of, keys)) = logs.0.last_mut()
        && *of == epoch
    {
        keys.push(key());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u64),
        Remove(u64),
        /// Puts many, so that the map becomes a large one.
        Grow,
        /// Removes most, so that it becomes a small one.
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

    /// A cut, what it must tell, and what it was told before its turn.
    struct Open {
        cut: Cut,
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
            let new = cell.put(key, value, epoch, |old| self.save(old));
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
        fn cuts_get_what_was_put_before_them(steps in prop::collection::vec(step(), 1..200)) {
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
                        let cut = Cut { epoch, full };
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
}
