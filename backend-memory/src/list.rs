//! List states. An append is written as an append: a snapshot holds only the elements that came since the one before.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::format::{EntryRef, Op, StateMeta, list};
use strandline_state_api::{
    Codec, Decoder, KeyGroupRange, KeyHash, Keyed, ListDescriptor, Migration, Reading, Result, StateKey,
    StateSchema, StateTime, Ttl,
};

use crate::ageing::Ageing;
use crate::record::{self, Layout};
use crate::state::{AnyState, Failure, VisitKey};
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
    schema: StateSchema,
    codec: Arc<dyn Codec<T>>,
    decoder: Decoder<T>,
    /// For what is being restored, where it is stored in an older form.
    migration: Option<Migration<T>>,
    table: Table<Entry<K, N, T>>,
    ageing: Option<Ageing<T>>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> ListTable<K, N, T> {
    pub(crate) fn new(descriptor: &ListDescriptor<T, N>, range: KeyGroupRange, epoch: u32) -> Self {
        let (codec, decoder) = (Arc::clone(descriptor.codec()), descriptor.decoder().clone());
        let (schema, ageing) = (descriptor.schema::<K>(), descriptor.expiry().map(Ageing::new));
        let (table, failure) = (Table::new(range, epoch), Failure::default());
        Self { schema, codec, decoder, migration: None, table, ageing, failure }
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
        !self.take(key, namespace).is_empty()
    }

    pub(crate) fn take(&mut self, key: Keyed<'_, K>, namespace: &N) -> Vec<T> {
        let at = Address::new(key.hash(), namespace);
        let Self { table, codec, failure, .. } = self;
        let removed = table.remove(at, |e| e.key == *key.key() && e.namespace == *namespace);
        let Some(mut removed) = removed else { return Vec::new() };
        let entry = &removed.payload;
        removed.debts.save(removed.before, |cut, out| failure.note(entry.write(cut, &**codec, out)));
        if removed.known {
            record::begin(Op::Delete, &entry.key, &entry.namespace, removed.removed);
        }
        removed.payload.elements
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> AnyState for ListTable<K, N, T> {
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
        let emit = |entry: &mut Entry<K, N, T>, epoch, cut: Cut, out: &mut Vec<u8>| {
            if cut.wants(epoch) { entry.write(cut, &**codec, out) } else { Ok(()) }
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
        let decode = |element: Result<&[u8]>| match &self.migration {
            None => self.codec.decode(element?),
            Some(migration) => migration.decode(element?),
        };
        let elements = list::elements(entry.value).map(decode).collect::<Result<Vec<_>>>()?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        self.table.restore(at, |_| false, || Entry { key, namespace, elements, kept: REWRITTEN }).map(drop)
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, ageing: Some(ageing), .. } = self else { return 0 };
        let (budget, expiry) = (ageing.budget(records), ageing.expiry);
        let mut touched = Vec::new();
        table.visit_some(&mut ageing.cursor, budget, |entry| {
            if entry.elements.iter().any(|element| expiry.expired(element, clock)) {
                touched.push((entry.key.clone(), entry.namespace.clone()));
            }
        });
        let mut expired = 0;
        for (key, namespace) in &touched {
            let key = Keyed::new(key);
            let Some((entry, _)) = self.find_mut(key, namespace) else { continue };
            let before = entry.elements.len();
            entry.elements.retain(|element| !expiry.expired(element, clock));
            entry.kept = REWRITTEN;
            expired += (before - entry.elements.len()) as u64;
            if entry.elements.is_empty() {
                self.take(key, namespace);
            }
        }
        expired
    }
}

impl<K, N, T> fmt::Debug for ListTable<K, N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.schema.meta.name, self.table)
    }
}
