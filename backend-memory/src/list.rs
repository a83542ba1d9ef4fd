//! List states. An append is written as an append: a snapshot holds only the elements that came since the one before.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::format::{EntryRef, Op, StateKind, StateMeta, list};
use strandline_state_api::{Codec, KeyGroupRange, KeyHash, Keyed, ListDescriptor, Result, StateKey};

use crate::record::{self, Layout};
use crate::state::{AnyState, Failure, meta};
use crate::table::{Address, Cut, Payload, Table};

/// No older snapshot holds the beginning of the list.
const REWRITTEN: usize = usize::MAX;

struct Entry<K, N, T> {
    key: K,
    namespace: N,
    elements: Vec<T>,
    /// How many elements snapshots before the epoch of the slot hold; what follows was appended since.
    kept: usize,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> Payload for Entry<K, N, T> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }
}

impl<K: StateKey, N: StateKey, T: 'static> Entry<K, N, T> {
    fn write(&self, cut: Cut, codec: &dyn Codec<T>, out: &mut Vec<u8>) -> Result<()> {
        let (op, elements) = match self.elements.get(self.kept..) {
            Some(added) if !cut.full => (Op::Append, added),
            _ => (Op::Put, &self.elements[..]),
        };
        record::begin(op, &self.key, &self.namespace, out);
        let mut scratch = Vec::new();
        record::push_sized(out, |out| {
            for element in elements {
                scratch.clear();
                codec.encode(element, &mut scratch)?;
                list::push(out, &scratch);
            }
            Ok(())
        })
    }
}

/// A list for each key and namespace. No list in it is empty.
pub(crate) struct ListTable<K, N, T> {
    meta: StateMeta,
    codec: Arc<dyn Codec<T>>,
    table: Table<Entry<K, N, T>>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> ListTable<K, N, T> {
    pub(crate) fn new(descriptor: &ListDescriptor<T, N>, range: KeyGroupRange, epoch: u32) -> Self {
        let codec = Arc::clone(descriptor.codec());
        let (name, version) = (descriptor.name(), descriptor.version());
        let meta = meta::<K, N>(name, StateKind::List, String::new(), codec.id(), version);
        Self { meta, codec, table: Table::new(range, epoch), failure: Failure::default() }
    }

    #[inline]
    pub(crate) fn get(&self, key: Keyed<'_, K>, namespace: &N) -> &[T] {
        let at = Address::new(key.hash(), namespace);
        let found = self.table.get(at, |e| e.key == *key.key() && e.namespace == *namespace);
        found.map_or(&[], |e| &e.elements)
    }

    #[inline]
    pub(crate) fn append(
        &mut self,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_none() {
            return Ok(());
        }
        if let Some((entry, first_change)) = self.find_mut(key, namespace) {
            if first_change {
                entry.kept = entry.elements.len();
            }
            entry.elements.extend(elements);
            return Ok(());
        }
        self.insert(key, namespace, elements.collect())
    }

    pub(crate) fn put(&mut self, key: Keyed<'_, K>, namespace: &N, elements: Vec<T>) -> Result<()> {
        if elements.is_empty() {
            self.clear(key, namespace);
            return Ok(());
        }
        if let Some((entry, _)) = self.find_mut(key, namespace) {
            entry.elements = elements;
            entry.kept = REWRITTEN;
            return Ok(());
        }
        self.insert(key, namespace, elements)
    }

    /// The entry for a change, and whether this is its first change in this epoch.
    #[inline]
    fn find_mut(&mut self, key: Keyed<'_, K>, namespace: &N) -> Option<(&mut Entry<K, N, T>, bool)> {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let touched = table.modify(
            at,
            |e| e.key == *key.key() && e.namespace == *namespace,
            |entry, cut, out| failure.note(entry.write(cut, &**codec, out)),
        )?;
        let first_change = touched.before != touched.debts.epoch;
        Some((touched.payload, first_change))
    }

    fn insert(&mut self, key: Keyed<'_, K>, namespace: &N, elements: Vec<T>) -> Result<()> {
        let at = Address::new(key.hash(), namespace);
        let (key, namespace) = (key.key().clone(), namespace.clone());
        self.table.insert(at, Entry { key, namespace, elements, kept: REWRITTEN }).map(drop)
    }

    pub(crate) fn clear(&mut self, key: Keyed<'_, K>, namespace: &N) -> bool {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let removed = table.remove(at, |e| e.key == *key.key() && e.namespace == *namespace);
        let Some(mut removed) = removed else { return false };
        let entry = &removed.payload;
        removed.debts.save(removed.before, |cut, out| failure.note(entry.write(cut, &**codec, out)));
        if removed.known {
            record::begin(Op::Delete, &entry.key, &entry.namespace, removed.removed);
        }
        true
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> AnyState for ListTable<K, N, T> {
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
        let emit = |entry: &mut Entry<K, N, T>, epoch, cut: Cut, out: &mut Vec<u8>| {
            if cut.wants(epoch) { entry.write(cut, &**codec, out) } else { Ok(()) }
        };
        table.drain(budget, out, emit)
    }

    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let decode = |element: Result<&[u8]>| self.codec.decode(element?);
        let elements = list::elements(entry.value).map(decode).collect::<Result<Vec<_>>>()?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        self.table.restore(at, |_| false, || Entry { key, namespace, elements, kept: REWRITTEN }).map(drop)
    }
}

impl<K, N, T> fmt::Debug for ListTable<K, N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.meta.name, self.table)
    }
}
