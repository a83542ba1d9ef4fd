//! Value states.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::format::{EntryRef, Op, StateKind, StateMeta};
use strandline_state_api::{Codec, KeyGroupRange, KeyHash, Keyed, Result, StateKey, ValueDescriptor};

use crate::record::{self, Layout};
use crate::state::{AnyState, Failure, meta};
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
    meta: StateMeta,
    codec: Arc<dyn Codec<V>>,
    table: Table<Entry<K, N, V>>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> ValueTable<K, N, V> {
    pub(crate) fn new(descriptor: &ValueDescriptor<V, N>, range: KeyGroupRange, epoch: u32) -> Self {
        let codec = Arc::clone(descriptor.codec());
        let (name, version) = (descriptor.name(), descriptor.version());
        let meta = meta::<K, N>(name, StateKind::Value, String::new(), codec.id(), version);
        Self { meta, codec, table: Table::new(range, epoch), failure: Failure::default() }
    }

    #[inline]
    pub(crate) fn get(&self, key: Keyed<'_, K>, namespace: &N) -> Option<&V> {
        let at = Address::new(key.hash(), namespace);
        self.table.get(at, |e| e.key == *key.key() && e.namespace == *namespace).map(|e| &e.value)
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

    pub(crate) fn clear(&mut self, key: Keyed<'_, K>, namespace: &N) -> bool {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let removed = table.remove(at, |e| e.key == *key.key() && e.namespace == *namespace);
        let Some(mut removed) = removed else { return false };
        let entry = &removed.payload;
        removed.debts.save(removed.before, |_, out| failure.note(entry.write(&**codec, out)));
        if removed.known {
            record::begin(Op::Delete, &entry.key, &entry.namespace, removed.removed);
        }
        true
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|e| visit(&e.key, &e.namespace, &e.value))
    }

    #[inline]
    pub(crate) fn touch(&mut self, hash: KeyHash) {
        self.table.touch(Address::new(hash, &()));
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> AnyState for ValueTable<K, N, V> {
    fn meta(&self) -> &StateMeta {
        &self.meta
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

    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let value = self.codec.decode(entry.value)?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        self.table.restore(at, |_| false, || Entry { key, namespace, value }).map(drop)
    }
}

impl<K, N, V> fmt::Debug for ValueTable<K, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.meta.name, self.table)
    }
}
