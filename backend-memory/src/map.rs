//! Map states. Each map entry carries its own epoch, so a snapshot holds the map entries that changed and not their maps.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::format::{EntryRef, Op, StateMeta};
use strandline_state_api::{
    Codec, Decoder, KeyGroupRange, KeyHash, Keyed, MapDescriptor, Migration, Reading, Result, StateKey,
    StateSchema, StateTime, Ttl,
};

use crate::ageing::Ageing;
use crate::record::{self, Layout};
use crate::state::{AnyState, Failure, VisitKey};
use crate::table::{Address, Cut, Payload, Table, Touched};

mod cell;

use cell::{Cell, Item};

struct Entry<K, N, MK, V> {
    key: K,
    namespace: N,
    cell: Cell<MK, V>,
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> Payload for Entry<K, N, MK, V> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }

    fn changed_in(&self, slot_epoch: u32, epoch: u32) -> bool {
        slot_epoch == epoch || self.cell.changed_in(epoch)
    }
}

/// Appends the put of one map entry.
fn write<K: StateKey, N: StateKey, MK: StateKey, V: 'static>(
    (key, namespace): (&K, &N),
    item: &Item<MK, V>,
    codec: &dyn Codec<V>,
    out: &mut Vec<u8>,
) -> Result<()> {
    record::begin(Op::Put, key, namespace, out);
    record::push_part(&item.key, out);
    record::push_sized(out, |out| codec.encode(&item.value, out))
}

/// A map for each key and namespace. No map in it is empty.
pub(crate) struct MapTable<K, N, MK, V> {
    schema: StateSchema,
    codec: Arc<dyn Codec<V>>,
    decoder: Decoder<V>,
    /// For what is being restored, where it is stored in an older form.
    migration: Option<Migration<V>>,
    table: Table<Entry<K, N, MK, V>>,
    ageing: Option<Ageing<V>>,
    /// Map entries of all maps.
    items: u64,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> MapTable<K, N, MK, V> {
    pub(crate) fn new(descriptor: &MapDescriptor<MK, V, N>, range: KeyGroupRange, epoch: u32) -> Self {
        let (codec, decoder) = (Arc::clone(descriptor.codec()), descriptor.decoder().clone());
        let (schema, ageing) = (descriptor.schema::<K>(), descriptor.expiry().map(Ageing::new));
        let (table, failure) = (Table::new(range, epoch), Failure::default());
        Self { schema, codec, decoder, migration: None, table, ageing, items: 0, failure }
    }

    #[inline]
    fn cell(&self, key: Keyed<'_, K>, namespace: &N) -> Option<&Cell<MK, V>> {
        let at = Address::new(key.hash(), namespace);
        self.table.get(at, |e| e.key == *key.key() && e.namespace == *namespace).map(|e| &e.cell)
    }

    #[inline]
    pub(crate) fn get(&self, key: Keyed<'_, K>, namespace: &N, map_key: &MK) -> Option<&V> {
        self.cell(key, namespace)?.get(map_key)
    }

    pub(crate) fn is_empty(&self, key: Keyed<'_, K>, namespace: &N) -> bool {
        self.cell(key, namespace).is_none()
    }

    pub(crate) fn for_each(
        &self,
        key: Keyed<'_, K>,
        namespace: &N,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let Some(cell) = self.cell(key, namespace) else { return Ok(()) };
        cell.iter().try_for_each(|item| visit(&item.key, &item.value))
    }

    #[inline]
    pub(crate) fn put(&mut self, key: Keyed<'_, K>, namespace: &N, map_key: MK, value: V) -> Result<()> {
        let at = Address::new(key.hash(), namespace);
        let is = |e: &Entry<K, N, MK, V>| e.key == *key.key() && e.namespace == *namespace;
        let Self { table, codec, failure, items, .. } = self;
        // Two steps, because a borrow that is returned on one path lives on both.
        let added = if let Some(touched) = table.modify(at, is, |_, _, _| {}) {
            put_item(touched, map_key, value, &**codec, failure)
        } else {
            let (key, namespace) = (key.key().clone(), namespace.clone());
            let touched = table.insert(at, Entry { key, namespace, cell: Cell::new() })?;
            put_item(touched, map_key, value, &**codec, failure)
        };
        *items += u64::from(added);
        Ok(())
    }

    pub(crate) fn take(&mut self, key: Keyed<'_, K>, namespace: &N, map_key: &MK) -> Option<V> {
        let at = Address::new(key.hash(), namespace);
        let is = |e: &Entry<K, N, MK, V>| e.key == *key.key() && e.namespace == *namespace;
        let has = |e: &Entry<K, N, MK, V>| is(e) && e.cell.get(map_key).is_some();
        let Self { table, codec, failure, .. } = self;
        let mut touched = table.modify(at, has, |_, _, _| {})?;
        let Entry { key, namespace, cell } = touched.payload;
        let item = cell.remove(map_key)?;
        let names = (&*key, &*namespace);
        touched.debts.save(item.epoch(), |_, out| failure.note(write(names, &item, &**codec, out)));
        if !item.is_born_in(touched.debts.epoch) {
            record::begin(Op::Delete, key, namespace, touched.removed);
            record::push_part(&item.key, touched.removed);
        }
        if cell.is_empty() {
            // Every entry is accounted for; only the empty map itself goes.
            table.remove(at, is);
        }
        self.items -= 1;
        Some(item.value)
    }

    pub(crate) fn clear(&mut self, key: Keyed<'_, K>, namespace: &N) -> bool {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, items, .. } = self;
        let removed = table.remove(at, |e| e.key == *key.key() && e.namespace == *namespace);
        let Some(mut removed) = removed else { return false };
        let Entry { key, namespace, cell } = &removed.payload;
        for item in cell.iter() {
            let names = (key, namespace);
            removed.debts.save(item.epoch(), |_, out| failure.note(write(names, item, &**codec, out)));
        }
        *items -= cell.len() as u64;
        if removed.known {
            record::begin(Op::Clear, key, namespace, removed.removed);
        }
        true
    }
}

/// Sets a map entry; true when it is new.
#[inline]
fn put_item<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static>(
    mut touched: Touched<'_, Entry<K, N, MK, V>>,
    map_key: MK,
    value: V,
    codec: &dyn Codec<V>,
    failure: &mut Failure,
) -> bool {
    let Entry { key, namespace, cell } = touched.payload;
    let names = (&*key, &*namespace);
    let epoch = touched.debts.epoch;
    cell.put(map_key, value, epoch, |old| {
        touched.debts.save(old.epoch(), |_, out| failure.note(write(names, old, codec, out)));
    })
}

impl<K: StateKey, N: StateKey, MK: StateKey, V: Send + 'static> AnyState for MapTable<K, N, MK, V> {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn layout(&self) -> Layout {
        Layout::of::<K, N>().with_map_key::<MK>()
    }

    fn entries(&self) -> u64 {
        self.items
    }

    fn load(&self) -> (usize, usize) {
        (self.table.len(), self.table.changes())
    }

    fn cut(&mut self, full: bool) {
        self.table.cut(full);
    }

    fn abandon(&mut self) {
        self.table.abandon();
        self.failure = Failure::default();
    }

    fn drain(&mut self, budget: &mut usize, out: &mut Vec<Vec<u8>>) -> Result<bool> {
        let Self { table, codec, failure, .. } = self;
        failure.check()?;
        let emit = |entry: &mut Entry<K, N, MK, V>, _, cut: Cut, out: &mut Vec<u8>| {
            let Entry { key, namespace, cell } = entry;
            cell.drain(cut, |item| write((&*key, &*namespace), item, &**codec, out))
        };
        table.drain(budget, out, emit)
    }

    fn ttl(&self) -> Option<Ttl> {
        self.ageing.as_ref().map(|ageing| *ageing.expiry.ttl())
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.migration = match self.decoder.reading(stored, &self.schema.meta)? {
            Reading::AsIs => None,
            Reading::Migrate(migration) => Some(migration),
        };
        Ok(())
    }

    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let map_key = MK::decode(entry.sub)?;
        let value = match &self.migration {
            None => self.codec.decode(entry.value)?,
            Some(migration) => migration.decode(entry.value)?,
        };
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        let is = |e: &Entry<K, N, MK, V>| e.key == key && e.namespace == namespace;
        let make = || Entry { key: key.clone(), namespace: namespace.clone(), cell: Cell::new() };
        self.table.restore(at, is, make)?.cell.restore(map_key, value);
        self.items += 1;
        Ok(())
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, ageing: Some(ageing), .. } = self else { return 0 };
        let (budget, expiry) = (ageing.budget(records), ageing.expiry);
        let mut expired = Vec::new();
        table.visit_some(&mut ageing.cursor, budget, |entry| {
            for item in entry.cell.iter().filter(|item| expiry.expired(&item.value, clock)) {
                expired.push((entry.key.clone(), entry.namespace.clone(), item.key.clone()));
            }
        });
        for (key, namespace, map_key) in &expired {
            self.take(Keyed::new(key), namespace, map_key);
        }
        expired.len() as u64
    }
}

impl<K, N, MK, V> fmt::Debug for MapTable<K, N, MK, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} map entries) {:?}", self.schema.meta.name, self.items, self.table)
    }
}
