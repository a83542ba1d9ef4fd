//! The map of one key and namespace.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use strandline_state_api::{Result, StateKey};

use crate::table::EpochCut;

/// Marks, as in the table, the epoch of an item that no snapshot before this epoch can hold.
const BORN: u32 = 1 << 31;

/// A map entry.
pub(super) struct Item<MK, V> {
    pub(super) key: MK,
    pub(super) value: V,
    epoch: u32,
}

impl<MK, V> Item<MK, V> {
    /// Returns the epoch of the last change.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch & !BORN
    }

    /// Returns whether the item was created in `epoch`, so that its removal leaves no tombstone.
    pub(super) fn is_born_in(&self, epoch: u32) -> bool {
        self.epoch == (epoch | BORN)
    }
}

/// A map with more entries than this logs its changes. A drain searches a smaller one for changes, so that
/// most changes of most maps cost no allocation.
const SEARCHED: usize = 32;

/// Keys that changed, by epoch, oldest first, until they are drained.
struct Logs<MK>(Vec<(u32, Vec<MK>)>);

/// Map entries with their epochs. The struct is small: together with a key it fills a cache line.
pub(super) struct Cell<MK, V> {
    items: HashTable<Item<MK, V>>,
    /// The logs of the epochs whose first put found the map large.
    logs: Option<Box<Logs<MK>>>,
    /// The newest epoch with a put.
    newest: u32,
    /// The newest epoch whose first put found the map small, so that it has no log.
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

    /// Returns the position of an entry, which holds until the map changes.
    #[inline]
    pub(super) fn position(&self, key: &MK) -> Option<usize> {
        self.items.find_bucket_index(key.key_hash().0, |item| item.key == *key)
    }

    /// Returns the value at a position.
    #[inline]
    pub(super) fn at(&self, position: usize) -> Option<&V> {
        self.items.get_bucket(position).map(|item| &item.value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item<MK, V>> {
        self.items.iter()
    }

    /// Returns whether the cut of `epoch` has to visit the map; also `true` where the map cannot know.
    pub(super) fn changed_in(&self, epoch: u32) -> bool {
        let logged = self.logs.as_ref().is_some_and(|logs| logs.0.iter().any(|(of, _)| *of == epoch));
        logged || self.searched >= epoch
    }

    /// Decides before the first put in `epoch` whether the map logs the changes of this epoch.
    fn begin(&mut self, epoch: u32) {
        self.newest = epoch;
        if self.items.len() <= SEARCHED {
            self.searched = epoch;
        } else {
            self.logs.get_or_insert_with(|| Box::new(Logs(Vec::new()))).0.push((epoch, Vec::new()));
        }
    }

    /// Changes an entry; also returns whether the entry is new. If there is none, or `keep` refuses it,
    /// `initial` creates it first. `save` receives the old item before its first change in this epoch.
    #[inline]
    pub(super) fn modify<R>(
        &mut self,
        key: MK,
        epoch: u32,
        save: impl FnOnce(&Item<MK, V>),
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> (R, bool) {
        if self.newest != epoch {
            self.begin(epoch);
        }
        match self.items.entry(key.key_hash().0, |item| item.key == key, |item| item.key.key_hash().0) {
            Entry::Occupied(mut found) => {
                let item = found.get_mut();
                if item.epoch() != epoch {
                    save(item);
                    item.epoch = epoch;
                    log_change(&mut self.logs, epoch, || key);
                }
                if !keep(&item.value) {
                    item.value = initial();
                }
                (change(&mut item.value), false)
            }
            Entry::Vacant(free) => {
                let mut value = initial();
                let result = change(&mut value);
                log_change(&mut self.logs, epoch, || key.clone());
                free.insert(Item { key, value, epoch: epoch | BORN });
                (result, true)
            }
        }
    }

    /// Returns the value at a position for a change. `save` receives the old item before its first change in this
    /// epoch.
    pub(super) fn touch(
        &mut self,
        position: usize,
        epoch: u32,
        save: impl FnOnce(&Item<MK, V>),
    ) -> Option<&mut V> {
        if self.newest != epoch {
            self.begin(epoch);
        }
        let item = self.items.get_bucket_mut(position)?;
        if item.epoch() != epoch {
            save(item);
            item.epoch = epoch;
            log_change(&mut self.logs, epoch, || item.key.clone());
        }
        Some(&mut item.value)
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

    /// Visits the items that `cut` needs and forgets that they changed. An item that changed again after the
    /// cut was saved before.
    pub(super) fn drain(
        &mut self,
        cut: EpochCut,
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

    /// Removes and returns the log of `epoch`, if there is one. Older logs remain from abandoned cuts.
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

/// Logs a change in `epoch` if that epoch has a log.
#[inline]
fn log_change<MK>(logs: &mut Option<Box<Logs<MK>>>, epoch: u32, key: impl FnOnce() -> MK) {
    if let Some(logs) = logs
        && let Some((of, keys)) = logs.0.last_mut()
        && *of == epoch
    {
        keys.push(key());
    }
}

#[cfg(test)]
mod tests;
