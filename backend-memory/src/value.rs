//! Value states.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::format::{EntryRef, Op, StateMeta};
use strandline_state_api::{
    Codec, Decoder, KeyGroupRange, KeyHash, Keyed, Migration, Reading, Result, StateKey, StateSchema,
    StateTime, Ttl, ValueDescriptor,
};

use crate::ageing::Ageing;
use crate::record::{self, Layout};
use crate::state::{AnyState, Failure, VisitKey};
use crate::table::{Address, Cut, Payload, Table};

struct Entry<K, N, V> {
    key: K,
    namespace: N,
    value: V,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> Payload for Entry<K, N, V> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }
}

impl<K: StateKey, N: StateKey, V: 'static> Entry<K, N, V> {
    fn write(&self, codec: &dyn Codec<V>, out: &mut Vec<u8>) -> Result<()> {
        record::begin(Op::Put, &self.key, &self.namespace, out);
        record::push_sized(out, |out| codec.encode(&self.value, out))
    }
}

/// A value for each key and namespace.
pub(crate) struct ValueTable<K, N, V> {
    schema: StateSchema,
    codec: Arc<dyn Codec<V>>,
    decoder: Decoder<V>,
    /// For what is being restored, where it is stored in an older form.
    migration: Option<Migration<V>>,
    table: Table<Entry<K, N, V>>,
    ageing: Option<Ageing<V>>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> ValueTable<K, N, V> {
    pub(crate) fn new(descriptor: &ValueDescriptor<V, N>, range: KeyGroupRange, epoch: u32) -> Self {
        let (codec, decoder) = (Arc::clone(descriptor.codec()), descriptor.decoder().clone());
        let (schema, ageing) = (descriptor.schema::<K>(), descriptor.expiry().map(Ageing::new));
        let (table, failure) = (Table::new(range, epoch), Failure::default());
        Self { schema, codec, decoder, migration: None, table, ageing, failure }
    }

    #[inline]
    pub(crate) fn get(&self, key: Keyed<'_, K>, namespace: &N) -> Option<&V> {
        let at = Address::new(key.hash(), namespace);
        self.table.get(at, |e| e.key == *key.key() && e.namespace == *namespace).map(|e| &e.value)
    }

    /// The value if `keep` says so; otherwise it is removed.
    #[inline]
    pub(crate) fn get_if(
        &mut self,
        key: Keyed<'_, K>,
        namespace: &N,
        keep: impl FnOnce(&V) -> bool,
    ) -> Option<&V> {
        let at = Address::new(key.hash(), namespace);
        // By its place, because a borrow that is returned on one path lives on both.
        let place = self.table.place(at, |e| e.key == *key.key() && e.namespace == *namespace)?;
        if self.table.at(place).is_some_and(|e| keep(&e.value)) {
            return self.table.at(place).map(|e| &e.value);
        }
        self.take(key, namespace);
        None
    }

    #[inline]
    pub(crate) fn put(&mut self, key: Keyed<'_, K>, namespace: &N, value: V) -> Result<()> {
        if let Some(found) = self.find_mut(key, namespace) {
            *found = value;
            return Ok(());
        }
        self.insert(key, namespace, value)
    }

    #[inline]
    pub(crate) fn modify<R>(
        &mut self,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        if let Some(found) = self.find_mut(key, namespace) {
            return Ok(change(found));
        }
        let mut value = initial();
        let result = change(&mut value);
        self.insert(key, namespace, value)?;
        Ok(result)
    }

    /// The value, for a change.
    #[inline]
    fn find_mut(&mut self, key: Keyed<'_, K>, namespace: &N) -> Option<&mut V> {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let touched = table.modify(
            at,
            |e| e.key == *key.key() && e.namespace == *namespace,
            |entry, _, out| failure.note(entry.write(&**codec, out)),
        )?;
        Some(&mut touched.payload.value)
    }

    fn insert(&mut self, key: Keyed<'_, K>, namespace: &N, value: V) -> Result<()> {
        let at = Address::new(key.hash(), namespace);
        let entry = Entry { key: key.key().clone(), namespace: namespace.clone(), value };
        self.table.insert(at, entry).map(drop)
    }

    #[inline]
    pub(crate) fn merge(
        &mut self,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        if let Some(found) = self.find_mut(key, namespace) {
            combine(found, value);
            return Ok(());
        }
        self.insert(key, namespace, value)
    }

    pub(crate) fn update(&mut self, key: Keyed<'_, K>, namespace: &N, change: impl FnOnce(&mut V)) -> bool {
        self.find_mut(key, namespace).map(change).is_some()
    }

    pub(crate) fn take(&mut self, key: Keyed<'_, K>, namespace: &N) -> Option<V> {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let removed = table.remove(at, |e| e.key == *key.key() && e.namespace == *namespace);
        let mut removed = removed?;
        let entry = &removed.payload;
        removed.debts.save(removed.before, |_, out| failure.note(entry.write(&**codec, out)));
        if removed.known {
            record::begin(Op::Delete, &entry.key, &entry.namespace, removed.removed);
        }
        Some(removed.payload.value)
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|e| visit(&e.key, &e.namespace, &e.value))
    }

    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        self.table.prefetch(Address::new(hash, &()));
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> AnyState for ValueTable<K, N, V> {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn layout(&self) -> Layout {
        Layout::of::<K, N>()
    }

    fn entries(&self) -> u64 {
        self.table.len() as u64
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
        let emit = |entry: &mut Entry<K, N, V>, epoch, cut: Cut, out: &mut Vec<u8>| {
            if cut.wants(epoch) { entry.write(&**codec, out) } else { Ok(()) }
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
        let value = match &self.migration {
            None => self.codec.decode(entry.value)?,
            Some(migration) => migration.decode(entry.value)?,
        };
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        self.table.restore(at, |_| false, || Entry { key, namespace, value }).map(drop)
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, ageing: Some(ageing), .. } = self else { return 0 };
        let (budget, expiry) = (ageing.budget(records), ageing.expiry);
        let mut expired = Vec::new();
        table.visit_some(&mut ageing.cursor, budget, |entry| {
            if expiry.expired(&entry.value, clock) {
                expired.push((entry.key.clone(), entry.namespace.clone()));
            }
        });
        for (key, namespace) in &expired {
            self.take(Keyed::new(key), namespace);
        }
        expired.len() as u64
    }
}

impl<K, N, V> fmt::Debug for ValueTable<K, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.schema.meta.name, self.table)
    }
}
