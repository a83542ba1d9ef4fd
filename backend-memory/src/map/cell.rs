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

/// Map entries with their epochs, and the keys of those that changed, by epoch, until they are drained.
pub(super) struct Cell<MK, V> {
    items: HashTable<Item<MK, V>>,
    changed: Vec<(u32, Vec<MK>)>,
}

impl<MK: StateKey, V> Cell<MK, V> {
    pub(super) fn new() -> Self {
        Self { items: HashTable::new(), changed: Vec::new() }
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

    pub(super) fn changed_in(&self, epoch: u32) -> bool {
        self.changed.iter().any(|(of, _)| *of == epoch)
    }

    /// Sets an entry; true when it is new. `save` sees the old one before its first change in this epoch.
    #[inline]
    pub(super) fn put(&mut self, key: MK, value: V, epoch: u32, save: impl FnOnce(&Item<MK, V>)) -> bool {
        let place = self.items.entry(key.key_hash().0, |item| item.key == key, |item| item.key.key_hash().0);
        match place {
            Place::Occupied(mut found) => {
                let item = found.get_mut();
                if item.epoch() != epoch {
                    save(item);
                    item.epoch = epoch;
                    note(&mut self.changed, epoch, key);
                }
                item.value = value;
                false
            }
            Place::Vacant(free) => {
                note(&mut self.changed, epoch, key.clone());
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
        let log = self.changed.iter().position(|(of, _)| *of == cut.epoch);
        let changed = log.map(|i| self.changed.remove(i).1).unwrap_or_default();
        if cut.full {
            return self.items.iter().filter(|item| cut.wants(item.epoch())).try_for_each(visit);
        }
        for key in changed {
            let item = self.items.find(key.key_hash().0, |item| item.key == key);
            if let Some(item) = item.filter(|item| cut.wants(item.epoch())) {
                visit(item)?;
            }
        }
        Ok(())
    }
}

#[inline]
fn note<MK>(changed: &mut Vec<(u32, Vec<MK>)>, epoch: u32, key: MK) {
    match changed.last_mut() {
        Some((of, keys)) if *of == epoch => keys.push(key),
        _ => changed.push((epoch, vec![key])),
    }
}
