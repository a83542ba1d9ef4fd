//! Value states.

use std::any::Any;
use std::fmt;

use strandline_snapshot_format::{EntryRef, Op};
use strandline_state_api::backend::{
    AcceptedForm, At, RegisteredState, StateTime, StoredValues, Values, Verdict,
};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{KeyGroupRange, KeyHash, Keyed, Result, StateKey, Ttl};

use super::{Failure, MemoryState, VisitKey, cleanup_budget, group_of, key_of};
use crate::record::{self, Layout};
use crate::records::Records;
use crate::table::{Address, Cursor, EpochCut, Payload, Removed, Table};

struct ValueEntry<K, N, V> {
    key: K,
    namespace: N,
    value: V,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> Payload for ValueEntry<K, N, V> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }
}

impl<K: StateKey, N: StateKey, V: 'static> ValueEntry<K, N, V> {
    #[inline]
    fn is_at(&self, key: Keyed<'_, K>, namespace: &N) -> bool {
        self.key == *key.key() && self.namespace == *namespace
    }

    fn write(&self, values: &StoredValues<V>, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        record::begin(Op::Put, &self.key, &self.namespace, out);
        record::push_sized(out, |out| values.encode(&self.value, out))?;
        record::check_size(Layout::of::<K, N>, start, out)
    }
}

/// One value for each key and namespace.
pub struct ValueTable<K, N, V> {
    values: StoredValues<V>,
    table: Table<ValueEntry<K, N, V>>,
    /// The position where the next clean-up continues.
    cleanup: Cursor,
    /// The value that the last read removed and lent.
    lent: Option<V>,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, V: Send + 'static> ValueTable<K, N, V> {
    pub(crate) fn new(values: StoredValues<V>, key_groups: KeyGroupRange, epoch: u32) -> Self {
        let (table, failure) = (Table::new(key_groups, epoch), Failure::default());
        Self { values, table, cleanup: Cursor::default(), lent: None, failure }
    }

    /// Returns the value for a change.
    #[inline(always)]
    fn find_mut(&mut self, key: Keyed<'_, K>, namespace: &N) -> Option<&mut V> {
        let Self { table, values, failure, .. } = self;
        let touched = table.modify(
            Address::new(key.hash(), namespace),
            |e| e.is_at(key, namespace),
            |entry, _, out| failure.note(entry.write(values, out)),
        )?;
        Some(&mut touched.payload.value)
    }

    /// Adds a value that [`find_mut`](Self::find_mut) did not find.
    #[inline(never)]
    fn insert(&mut self, key: Keyed<'_, K>, namespace: &N, value: V) -> Result<()> {
        let entry = ValueEntry { key: key.key().clone(), namespace: namespace.clone(), value };
        self.table.insert(Address::new(key.hash(), namespace), entry).map(drop)
    }

    fn remove(&mut self, key: Keyed<'_, K>, namespace: &N) -> Option<V> {
        let Self { table, values, failure, .. } = self;
        let removed = table.remove(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace))?;
        Some(record_removal(removed, values, failure))
    }
}

/// Records a removal for the cuts that need it, and returns the removed value.
#[inline]
fn record_removal<K: StateKey, N: StateKey, V: 'static>(
    mut removed: Removed<'_, ValueEntry<K, N, V>>,
    values: &StoredValues<V>,
    failure: &mut Failure,
) -> V {
    let entry = &removed.payload;
    removed.copies.save(removed.before, |_, out| failure.note(entry.write(values, out)));
    if removed.known {
        record::begin(Op::Delete, &entry.key, &entry.namespace, removed.tombstones);
    }
    removed.payload.value
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for &'b mut ValueTable<K, N, V> {
    #[inline]
    fn get(self, At { key, namespace }: At<'_, K, N>) -> Result<Option<&'b V>> {
        let found = self.table.get(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace));
        Ok(found.map(|e| &e.value))
    }

    #[inline]
    fn get_if(
        self,
        At { key, namespace }: At<'_, K, N>,
        judge: impl FnOnce(&V) -> Verdict,
        refresh: impl FnOnce(&mut V),
    ) -> Result<Option<&'b V>> {
        // By position: a borrow that one path returns would last on the other path, too.
        let Some(position) =
            self.table.position(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace))
        else {
            return Ok(None);
        };
        let verdict = self.table.at(position).map(|e| judge(&e.value));
        if verdict == Some(Verdict::Keep) {
            return Ok(self.table.at(position).map(|e| &e.value));
        }
        let ValueTable { table, values, failure, lent, .. } = self;
        if verdict == Some(Verdict::Refresh) {
            let save =
                |entry: &ValueEntry<K, N, V>, _, out: &mut Vec<u8>| failure.note(entry.write(values, out));
            return Ok(table.modify_at(position, save).map(|touched| {
                refresh(&mut touched.payload.value);
                &touched.payload.value
            }));
        }
        let removed = table.remove_at(position).map(|removed| record_removal(removed, values, failure));
        *lent = removed.filter(|_| verdict == Some(Verdict::LendOnce));
        Ok(lent.as_ref())
    }

    fn change<R>(
        self,
        At { key, namespace }: At<'_, K, N>,
        change: impl FnOnce(&mut Option<V>) -> R,
    ) -> Result<R> {
        let mut stored = self.remove(key, namespace);
        let result = change(&mut stored);
        stored.map_or(Ok(()), |value| self.insert(key, namespace, value))?;
        Ok(result)
    }

    #[inline]
    fn put(self, At { key, namespace }: At<'_, K, N>, value: V) -> Result<()> {
        if let Some(found) = self.find_mut(key, namespace) {
            *found = value;
            return Ok(());
        }
        self.insert(key, namespace, value)
    }

    #[inline(always)]
    fn modify<R>(
        self,
        At { key, namespace }: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        if let Some(found) = self.find_mut(key, namespace) {
            if !keep(found) {
                *found = initial();
            }
            return Ok(change(found));
        }
        let mut value = initial();
        let result = change(&mut value);
        self.insert(key, namespace, value)?;
        Ok(result)
    }

    #[inline]
    fn update(self, At { key, namespace }: At<'_, K, N>, change: impl FnOnce(&mut V)) -> Result<bool> {
        Ok(self.find_mut(key, namespace).map(change).is_some())
    }

    #[inline]
    fn merge(
        self,
        At { key, namespace }: At<'_, K, N>,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        if let Some(found) = self.find_mut(key, namespace) {
            combine(found, value);
            return Ok(());
        }
        self.insert(key, namespace, value)
    }

    fn take(self, At { key, namespace }: At<'_, K, N>) -> Result<Option<V>> {
        Ok(self.remove(key, namespace))
    }

    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|e| visit(&e.key, &e.namespace, &e.value))
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> RegisteredState for ValueTable<K, N, V> {
    fn schema(&self) -> &StateSchema {
        self.values.schema()
    }

    fn types(&self) -> &'static str {
        self.values.types()
    }
}

impl<K: StateKey, N: StateKey, V: Send + 'static> MemoryState for ValueTable<K, N, V> {
    fn layout(&self) -> Layout {
        Layout::of::<K, N>()
    }

    fn entries(&self) -> u64 {
        self.table.len() as u64
    }

    fn load(&self) -> (usize, usize) {
        (self.table.len(), self.table.changes())
    }

    #[inline]
    fn accessed(&mut self) {
        self.table.accessed();
    }

    fn prefetch(&mut self, hashes: &[KeyHash]) {
        self.table.announce::<N>(hashes);
    }

    fn cut(&mut self, full: bool) {
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
        let emit = |entry: &mut ValueEntry<K, N, V>, epoch, cut: EpochCut, out: &mut Vec<u8>| {
            if cut.wants(epoch) { entry.write(values, out) } else { Ok(()) }
        };
        table.drain(budget, out, emit)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.values.accept(stored)
    }

    fn restore(&mut self, entry: &EntryRef<'_>, form: AcceptedForm) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let value = self.values.decode_stored(form, entry.value)?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        self.table.restore(at, |_| false, || ValueEntry { key, namespace, value }).map(drop)
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn look_up(&self, key: &dyn Any, hash: KeyHash, out: &mut Vec<u8>) -> Result<()> {
        let key: &K = key_of(key)?;
        let mut found = self.table.iter_near(group_of(hash)).filter(|entry| entry.key == *key);
        found.try_for_each(|entry| entry.write(&self.values, out))
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, values, cleanup, .. } = self;
        let mut expired = Vec::new();
        table.visit_some(cleanup, cleanup_budget(values, records), |entry| {
            if values.expired(&entry.value, clock) {
                expired.push((entry.key.clone(), entry.namespace.clone()));
            }
        });
        for (key, namespace) in &expired {
            self.remove(Keyed::new(key), namespace);
        }
        expired.len() as u64
    }
}

impl<K, N, V: 'static> fmt::Debug for ValueTable<K, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.values.meta().name, self.table)
    }
}
