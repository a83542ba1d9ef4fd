//! Map states. Each map entry carries its own epoch, so a snapshot holds the map entries that changed and not
//! their whole maps.

use std::any::Any;
use std::fmt;
use std::ops::RangeBounds;

use strandline_snapshot_format::{EntryRef, Op};
use strandline_state_api::backend::{
    AcceptedForm, At, Maps, RegisteredState, StateTime, StoredValues, Verdict, encoded_range,
};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{KeyGroupRange, KeyHash, Keyed, Result, StateKey, Ttl};

use super::{Failure, MemoryState, VisitKey, cleanup_budget, group_of, key_of};
use crate::record::{self, Layout};
use crate::records::Records;
use crate::table::{Address, Cursor, EpochCut, Payload, Table, Touched};

mod cell;

use cell::{Cell, Item};

/// The map of one key and namespace.
struct MapEntry<K, N, MK, V> {
    key: K,
    namespace: N,
    cell: Cell<MK, V>,
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Payload for MapEntry<K, N, MK, V> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }

    fn changed_in(&self, slot_epoch: u32, epoch: u32) -> bool {
        slot_epoch == epoch || self.cell.changed_in(epoch)
    }
}

impl<K: StateKey, N: StateKey, MK, V> MapEntry<K, N, MK, V> {
    #[inline]
    fn is_at(&self, key: Keyed<'_, K>, namespace: &N) -> bool {
        self.key == *key.key() && self.namespace == *namespace
    }
}

/// Appends the put of one map entry.
fn write<K: StateKey, N: StateKey, MK: StateKey, V: 'static>(
    (key, namespace): (&K, &N),
    item: &Item<MK, V>,
    values: &StoredValues<V>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    record::begin(Op::Put, key, namespace, out);
    record::push_part(&item.key, out);
    record::push_sized(out, |out| values.encode(&item.value, out))?;
    record::check_size(|| Layout::of::<K, N>().with_map_key::<MK>(), start, out)
}

/// One map for each key and namespace. No map in the table is empty.
pub struct MapTable<K, N, MK, V> {
    values: StoredValues<V>,
    table: Table<MapEntry<K, N, MK, V>>,
    /// The position where the next clean-up continues.
    cleanup: Cursor,
    /// The number of map entries of all maps.
    items: u64,
    /// How many of them changed or went since the last cut.
    changed: usize,
    /// The value that the last read removed and lent.
    lent: Option<V>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> MapTable<K, N, MK, V> {
    pub(crate) fn new(values: StoredValues<V>, key_groups: KeyGroupRange, epoch: u32) -> Self {
        let (table, failure) = (Table::new(key_groups, epoch), Failure::default());
        Self { values, table, cleanup: Cursor::default(), items: 0, changed: 0, lent: None, failure }
    }

    #[inline]
    fn cell(&self, key: Keyed<'_, K>, namespace: &N) -> Option<&Cell<MK, V>> {
        self.table.get(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace)).map(|e| &e.cell)
    }

    /// Calls `change` with the map of a key and namespace, which it creates if there is none, and with the number of
    /// changes, to which it adds those of map entries that were there; it also returns whether it added one.
    #[inline]
    fn change<R>(
        &mut self,
        key: Keyed<'_, K>,
        namespace: &N,
        change: impl FnOnce(
            Touched<'_, MapEntry<K, N, MK, V>>,
            &StoredValues<V>,
            &mut Failure,
            &mut usize,
        ) -> (R, bool),
    ) -> Result<R> {
        let address = Address::new(key.hash(), namespace);
        let Self { table, values, failure, items, changed, .. } = self;
        let (result, added) =
            if let Some(touched) = table.modify(address, |e| e.is_at(key, namespace), |_, _, _| {}) {
                change(touched, values, failure, changed)
            } else {
                let (key, namespace) = (key.key().clone(), namespace.clone());
                let touched = table.insert(address, MapEntry { key, namespace, cell: Cell::new() })?;
                change(touched, values, failure, changed)
            };
        *items += u64::from(added);
        *changed += usize::from(added);
        Ok(result)
    }

    fn remove_item(&mut self, key: Keyed<'_, K>, namespace: &N, map_key: &MK) -> Option<V> {
        let has = |e: &MapEntry<K, N, MK, V>| e.is_at(key, namespace) && e.cell.get(map_key).is_some();
        let Self { table, values, failure, changed, .. } = self;
        let mut touched = table.modify(Address::new(key.hash(), namespace), has, |_, _, _| {})?;
        let entry = touched.payload;
        let item = entry.cell.remove(map_key)?;
        let names = (&entry.key, &entry.namespace);
        *changed += usize::from(item.epoch() != touched.copies.epoch);
        touched.copies.save(item.epoch(), |_, out| failure.note(write(names, &item, values, out)));
        if !item.is_born_in(touched.copies.epoch) {
            record::begin(Op::Delete, &entry.key, &entry.namespace, touched.tombstones);
            record::push_part(&item.key, touched.tombstones);
        }
        if entry.cell.is_empty() {
            // Copies and tombstones of all map entries are written; only the empty map itself goes.
            table.remove(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace));
        }
        self.items -= 1;
        Some(item.value)
    }
}

impl<'b, K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Maps<'b, K, N, MK, V>
    for &'b mut MapTable<K, N, MK, V>
{
    #[inline(always)]
    fn get(self, At { key, namespace }: At<'_, K, N>, map_key: &MK) -> Result<Option<&'b V>> {
        Ok(self.cell(key, namespace).and_then(|cell| cell.get(map_key)))
    }

    #[inline]
    fn get_if(
        self,
        At { key, namespace }: At<'_, K, N>,
        map_key: &MK,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        // By position: a borrow that one path returns would last on the other path, too.
        let Some(slot) =
            self.table.position(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace))
        else {
            return Ok(None);
        };
        let Some(item) = self.table.at(slot).and_then(|e| e.cell.position(map_key)) else { return Ok(None) };
        let verdict = self.table.at(slot).and_then(|e| e.cell.at(item)).map(judge);
        if verdict == Some(Verdict::Keep) {
            return Ok(self.table.at(slot).and_then(|e| e.cell.at(item)));
        }
        if verdict == Some(Verdict::Refresh) {
            let MapTable { table, values, failure, changed, .. } = self;
            let Some(mut touched) = table.modify_at(slot, |_, _, _| {}) else { return Ok(None) };
            let MapEntry { key, namespace, cell } = touched.payload;
            let names = (&*key, &*namespace);
            let epoch = touched.copies.epoch;
            let save = |old: &Item<MK, V>| {
                *changed += 1;
                touched.copies.save(old.epoch(), |_, out| failure.note(write(names, old, values, out)));
            };
            return Ok(cell.touch(item, epoch, save).map(|value| {
                refresh(value);
                &*value
            }));
        }
        let removed = self.remove_item(key, namespace, map_key);
        self.lent = removed.filter(|_| verdict == Some(Verdict::LendOnce));
        Ok(self.lent.as_ref())
    }

    #[inline]
    fn put(self, At { key, namespace }: At<'_, K, N>, map_key: MK, value: V) -> Result<()> {
        self.modify(At { key, namespace }, map_key, |_| false, || value, |_| ())
    }

    #[inline]
    fn modify<R>(
        self,
        At { key, namespace }: At<'_, K, N>,
        map_key: MK,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.change(key, namespace, |mut touched, values, failure, changed| {
            let MapEntry { key, namespace, cell } = touched.payload;
            let names = (&*key, &*namespace);
            let epoch = touched.copies.epoch;
            let save = |old: &Item<MK, V>| {
                *changed += 1;
                touched.copies.save(old.epoch(), |_, out| failure.note(write(names, old, values, out)));
            };
            cell.modify(map_key, epoch, save, keep, initial, change)
        })
    }

    fn take(self, At { key, namespace }: At<'_, K, N>, map_key: &MK) -> Result<Option<V>> {
        Ok(self.remove_item(key, namespace, map_key))
    }

    fn for_each(
        self,
        At { key, namespace }: At<'_, K, N>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let Some(cell) = self.cell(key, namespace) else { return Ok(()) };
        cell.iter().try_for_each(|item| visit(&item.key, &item.value))
    }

    fn range(
        self,
        At { key, namespace }: At<'_, K, N>,
        range: impl RangeBounds<MK>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let Some(cell) = self.cell(key, namespace) else { return Ok(()) };
        let range = encoded_range(&range);
        let mut found = Vec::new();
        let mut encoded = Vec::with_capacity(MK::WIDTH.unwrap_or(32));
        for item in cell.iter() {
            encoded.clear();
            item.key.encode(&mut encoded);
            if range.contains(&encoded) {
                found.push((encoded.clone(), item));
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found.into_iter().try_for_each(|(_, item)| visit(&item.key, &item.value))
    }

    #[inline]
    fn len(self, At { key, namespace }: At<'_, K, N>) -> Result<usize> {
        Ok(self.cell(key, namespace).map_or(0, Cell::len))
    }

    #[inline]
    fn is_empty(self, At { key, namespace }: At<'_, K, N>) -> Result<bool> {
        Ok(self.cell(key, namespace).is_none())
    }

    fn clear(self, At { key, namespace }: At<'_, K, N>) -> Result<bool> {
        let MapTable { table, values, failure, items, changed, .. } = self;
        let removed = table.remove(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace));
        let Some(mut removed) = removed else { return Ok(false) };
        let MapEntry { key, namespace, cell } = &removed.payload;
        for item in cell.iter() {
            let names = (key, namespace);
            removed.copies.save(item.epoch(), |_, out| failure.note(write(names, item, values, out)));
        }
        *items -= cell.len() as u64;
        *changed += 1;
        if removed.known {
            record::begin(Op::Clear, key, namespace, removed.tombstones);
        }
        Ok(true)
    }
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> RegisteredState for MapTable<K, N, MK, V> {
    fn schema(&self) -> &StateSchema {
        self.values.schema()
    }

    fn types(&self) -> &'static str {
        self.values.types()
    }
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> MemoryState for MapTable<K, N, MK, V> {
    fn layout(&self) -> Layout {
        Layout::of::<K, N>().with_map_key::<MK>()
    }

    fn entries(&self) -> u64 {
        self.items
    }

    fn load(&self) -> (usize, usize) {
        (self.items as usize, self.changed)
    }

    #[inline]
    fn accessed(&mut self) {
        self.table.accessed();
    }

    fn prefetch(&mut self, hashes: &[KeyHash]) {
        self.table.announce::<N>(hashes);
    }

    fn cut(&mut self, full: bool) {
        self.changed = 0;
        self.table.cut(full);
    }

    fn ttl(&self) -> Option<&Ttl> {
        self.values.ttl()
    }

    fn abandon(&mut self) {
        self.table.abandon();
        self.failure = Failure::default();
    }

    fn drain(&mut self, budget: &mut usize, out: &mut Records) -> Result<bool> {
        let Self { table, values, failure, .. } = self;
        failure.check()?;
        let emit = |entry: &mut MapEntry<K, N, MK, V>, _, cut: EpochCut, out: &mut Vec<u8>| {
            let MapEntry { key, namespace, cell } = entry;
            cell.drain(cut, |item| write((&*key, &*namespace), item, values, out))
        };
        table.drain(budget, out, emit)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.values.accept(stored)
    }

    fn restore(&mut self, entry: &EntryRef<'_>, form: AcceptedForm) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let map_key = MK::decode(entry.sub)?;
        let value = self.values.decode_stored(form, entry.value)?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        let is = |e: &MapEntry<K, N, MK, V>| e.key == key && e.namespace == namespace;
        let make = || MapEntry { key: key.clone(), namespace: namespace.clone(), cell: Cell::new() };
        self.table.restore(at, is, make)?.cell.restore(map_key, value);
        self.items += 1;
        Ok(())
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn look_up(&self, key: &dyn Any, hash: KeyHash, out: &mut Vec<u8>) -> Result<()> {
        let key: &K = key_of(key)?;
        let mut found = self.table.iter_near(group_of(hash)).filter(|entry| entry.key == *key);
        found.try_for_each(|entry| {
            let at = (&entry.key, &entry.namespace);
            entry.cell.iter().try_for_each(|item| write(at, item, &self.values, out))
        })
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, values, cleanup, .. } = self;
        let mut expired = Vec::new();
        table.visit_some(cleanup, cleanup_budget(values, records), |entry| {
            for item in entry.cell.iter().filter(|item| values.expired(&item.value, clock)) {
                expired.push((entry.key.clone(), entry.namespace.clone(), item.key.clone()));
            }
        });
        for (key, namespace, map_key) in &expired {
            self.remove_item(Keyed::new(key), namespace, map_key);
        }
        expired.len() as u64
    }
}

impl<K, N, MK, V: 'static> fmt::Debug for MapTable<K, N, MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} map entries) {:?}", self.values.meta().name, self.items, self.table)
    }
}
