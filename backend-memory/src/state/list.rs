//! List states. A snapshot holds only the elements that were appended since the snapshot before.

use std::any::Any;
use std::cell::Cell;
use std::fmt;

use strandline_snapshot_format::{EntryRef, MAX_ENTRY_BYTES, Op, list, too_large};
use strandline_state_api::backend::{
    AcceptedForm, At, Lists, RegisteredState, StateTime, StoredValues, Verdict,
};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyHash, Keyed, Result, StateKey, Ttl};

use super::{Failure, MemoryState, VisitKey, cleanup_budget, group_of, key_of};
use crate::record::{self, Layout};
use crate::records::Records;
use crate::table::{Address, Cursor, EpochCut, Payload, SlotPosition, Table};

/// Marks a list whose beginning no older snapshot holds.
const REWRITTEN: usize = usize::MAX;

struct ListEntry<K, N, T> {
    key: K,
    namespace: N,
    elements: Vec<T>,
    /// The number of elements that snapshots before the epoch of the slot hold; the others were appended
    /// since.
    stored: usize,
    /// The encoded bytes of the whole list at the last cut that took it: the list is one entry of a snapshot,
    /// however it was appended.
    bytes: Cell<usize>,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> Payload for ListEntry<K, N, T> {
    fn address(&self) -> Address {
        Address::new(self.key.key_hash(), &self.namespace)
    }
}

impl<K: StateKey, N: StateKey, T: 'static> ListEntry<K, N, T> {
    #[inline]
    fn is_at(&self, key: Keyed<'_, K>, namespace: &N) -> bool {
        self.key == *key.key() && self.namespace == *namespace
    }

    fn write(&self, cut: EpochCut, values: &StoredValues<T>, out: &mut Vec<u8>) -> Result<()> {
        let (op, elements) = match self.elements.get(self.stored..) {
            Some(added) if !cut.full => (Op::Append, added),
            _ => (Op::Put, &self.elements[..]),
        };
        let start = out.len();
        record::begin(op, &self.key, &self.namespace, out);
        let (mut scratch, mut added) = (Vec::new(), 0);
        record::push_sized(out, |out| {
            let before = out.len();
            list::extend(out, elements, values, &mut scratch)?;
            added = out.len() - before;
            Ok(())
        })?;
        let before = if op == Op::Append { self.bytes.get() } else { 0 };
        self.bytes.set(before + added);
        if before + added > MAX_ENTRY_BYTES {
            let entry = Layout::of::<K, N>().split(&out[start..]);
            return Err(entry.map_or_else(
                || Error::new(ErrorKind::Unsupported, "a list has more than 4 GiB"),
                |(entry, _)| too_large(&entry, before + added),
            ));
        }
        record::check_size(Layout::of::<K, N>, start, out)
    }
}

/// One list for each key and namespace. No list in the table is empty.
pub struct ListTable<K, N, T> {
    /// The byte form of the elements.
    values: StoredValues<T>,
    table: Table<ListEntry<K, N, T>>,
    /// The position where the next clean-up continues.
    cleanup: Cursor,
    /// The elements that the last read lent that also removed some of them.
    lent: Vec<T>,
    /// The number of elements of all lists.
    elements: usize,
    /// How many of them came since the last cut or are in lists that were rewritten, and how many lists went.
    changed: usize,
    failure: Failure,
}

impl<K: StateKey, N: StateKey, T: Send + 'static> ListTable<K, N, T> {
    pub(crate) fn new(values: StoredValues<T>, key_groups: KeyGroupRange, epoch: u32) -> Self {
        Self {
            values,
            table: Table::new(key_groups, epoch),
            cleanup: Cursor::default(),
            lent: Vec::new(),
            elements: 0,
            changed: 0,
            failure: Failure::default(),
        }
    }

    /// Adds a list that [`find_mut`] did not find.
    fn insert(&mut self, key: Keyed<'_, K>, namespace: &N, elements: Vec<T>) -> Result<()> {
        let address = Address::new(key.hash(), namespace);
        let (key, namespace) = (key.key().clone(), namespace.clone());
        self.elements += elements.len();
        self.changed += elements.len();
        let entry = ListEntry { key, namespace, elements, stored: REWRITTEN, bytes: Cell::new(0) };
        self.table.insert(address, entry).map(drop)
    }

    fn remove(&mut self, key: Keyed<'_, K>, namespace: &N) -> Vec<T> {
        let Self { table, values, failure, elements, changed, .. } = self;
        let removed = table.remove(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace));
        let Some(mut removed) = removed else { return Vec::new() };
        let entry = &removed.payload;
        removed.copies.save(removed.before, |cut, out| failure.note(entry.write(cut, values, out)));
        if removed.known {
            record::begin(Op::Delete, &entry.key, &entry.namespace, removed.tombstones);
        }
        *elements -= removed.payload.elements.len();
        *changed += 1;
        removed.payload.elements
    }

    /// Removes the elements of one list that have expired; returns the number removed.
    fn remove_expired(&mut self, key: Keyed<'_, K>, namespace: &N, clock: &StateTime) -> u64 {
        let Self { table, values, failure, elements, changed, .. } = self;
        let Some((entry, _)) = find_mut(table, values, failure, key, namespace) else { return 0 };
        let before = entry.elements.len();
        entry.elements.retain(|element| !values.expired(element, clock));
        entry.stored = REWRITTEN;
        let removed = before - entry.elements.len();
        *elements -= removed;
        *changed += entry.elements.len();
        if entry.elements.is_empty() {
            self.remove(key, namespace);
        }
        removed as u64
    }

    /// Removes elements of a list that exists, as `judge` decides. Returns whether `lent` holds those to
    /// lend; otherwise they are those that stay.
    #[cold]
    fn remove_elements(
        &mut self,
        At { key, namespace }: At<'_, K, N>,
        position: SlotPosition,
        judge: impl Fn(&T) -> Verdict,
    ) -> Result<bool> {
        let Self { table, values, failure, lent, elements, changed, .. } = self;
        let found = table.at(position).map_or(&[][..], |e| &e.elements);
        let kept = if found.iter().any(|element| judge(element) == Verdict::LendOnce) {
            // Elements need not be `Clone`, and those that stay are lent beside those that go: their codec
            // copies them, before anything changes.
            Some(copies(found.iter().filter(|element| judge(element) == Verdict::Keep), values)?)
        } else {
            None
        };
        let Some((entry, _)) = find_mut(table, values, failure, key, namespace) else { return Ok(false) };
        entry.stored = REWRITTEN;
        let (lends, before) = (kept.is_some(), entry.elements.len());
        match kept {
            Some(kept) => {
                *lent = std::mem::replace(&mut entry.elements, kept);
                lent.retain(|element| judge(element) != Verdict::Remove);
            }
            None => entry.elements.retain(|element| judge(element) == Verdict::Keep),
        }
        *elements -= before - entry.elements.len();
        *changed += entry.elements.len();
        if entry.elements.is_empty() {
            self.remove(key, namespace);
        }
        Ok(lends)
    }
}

fn copies<'e, T: Send + 'static>(
    elements: impl Iterator<Item = &'e T>,
    values: &StoredValues<T>,
) -> Result<Vec<T>> {
    let mut encoded = Vec::new();
    let copy = |element| {
        encoded.clear();
        values.encode(element, &mut encoded)?;
        values.decode(&encoded)
    };
    elements.map(copy).collect()
}

/// Returns the entry for a change, and whether this is its first change in this epoch.
#[inline]
fn find_mut<'t, K: StateKey, N: StateKey, T: Send + 'static>(
    table: &'t mut Table<ListEntry<K, N, T>>,
    values: &StoredValues<T>,
    failure: &mut Failure,
    key: Keyed<'_, K>,
    namespace: &N,
) -> Option<(&'t mut ListEntry<K, N, T>, bool)> {
    let touched = table.modify(
        Address::new(key.hash(), namespace),
        |e| e.is_at(key, namespace),
        |entry, cut, out| failure.note(entry.write(cut, values, out)),
    )?;
    let first_change = touched.before != touched.copies.epoch;
    Some((touched.payload, first_change))
}

impl<'b, K: StateKey, N: StateKey, T: Send + 'static> Lists<'b, K, N, T> for &'b mut ListTable<K, N, T> {
    #[inline]
    fn get(self, At { key, namespace }: At<'_, K, N>) -> Result<&'b [T]> {
        let found = self.table.get(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace));
        Ok(found.map_or(&[], |e| &e.elements))
    }

    fn get_if(self, at: At<'_, K, N>, judge: impl Fn(&T) -> Verdict) -> Result<&'b [T]> {
        let At { key, namespace } = at;
        // By position: a borrow that one path returns would last on the other path, too.
        let Some(position) =
            self.table.position(Address::new(key.hash(), namespace), |e| e.is_at(key, namespace))
        else {
            return Ok(&[]);
        };
        let keeps = |e: &ListEntry<K, N, T>| e.elements.iter().all(|element| judge(element) == Verdict::Keep);
        if self.table.at(position).is_some_and(keeps) {
            return Ok(self.table.at(position).map_or(&[], |e| &e.elements));
        }
        if self.remove_elements(at, position, judge)? {
            return Ok(&self.lent);
        }
        self.get(at)
    }

    #[inline]
    fn append(
        self,
        At { key, namespace }: At<'_, K, N>,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_none() {
            return Ok(());
        }
        if let Some((entry, first_change)) =
            find_mut(&mut self.table, &self.values, &mut self.failure, key, namespace)
        {
            if first_change {
                entry.stored = entry.elements.len();
            }
            let before = entry.elements.len();
            entry.elements.extend(elements);
            let added = entry.elements.len() - before;
            self.elements += added;
            self.changed += added;
            return Ok(());
        }
        self.insert(key, namespace, elements.collect())
    }

    fn put(self, At { key, namespace }: At<'_, K, N>, elements: Vec<T>) -> Result<()> {
        if elements.is_empty() {
            self.remove(key, namespace);
            return Ok(());
        }
        if let Some((entry, _)) = find_mut(&mut self.table, &self.values, &mut self.failure, key, namespace) {
            self.elements = self.elements - entry.elements.len() + elements.len();
            self.changed += elements.len();
            entry.elements = elements;
            entry.stored = REWRITTEN;
            return Ok(());
        }
        self.insert(key, namespace, elements)
    }

    fn take(self, At { key, namespace }: At<'_, K, N>) -> Result<Vec<T>> {
        Ok(self.remove(key, namespace))
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> RegisteredState for ListTable<K, N, T> {
    fn schema(&self) -> &StateSchema {
        self.values.schema()
    }

    fn types(&self) -> &'static str {
        self.values.types()
    }
}

impl<K: StateKey, N: StateKey, T: Send + 'static> MemoryState for ListTable<K, N, T> {
    fn layout(&self) -> Layout {
        Layout::of::<K, N>()
    }

    fn entries(&self) -> u64 {
        self.table.len() as u64
    }

    fn load(&self) -> (usize, usize) {
        (self.elements, self.changed)
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
        let emit = |entry: &mut ListEntry<K, N, T>, epoch, cut: EpochCut, out: &mut Vec<u8>| {
            if cut.wants(epoch) { entry.write(cut, values, out) } else { Ok(()) }
        };
        table.drain(budget, out, emit)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.values.accept(stored)
    }

    fn restore(&mut self, entry: &EntryRef<'_>, form: AcceptedForm) -> Result<()> {
        let (key, namespace) = (K::decode(entry.key)?, N::decode(entry.namespace)?);
        let decode = |element: Result<&[u8]>| self.values.decode_stored(form, element?);
        let elements = list::elements(entry.value).map(decode).collect::<Result<Vec<_>>>()?;
        let at = Address::new(KeyHash::of_encoded(entry.key), &namespace);
        if entry.op == Op::Append {
            let is = |e: &ListEntry<K, N, T>| e.key == key && e.namespace == namespace;
            let make = || ListEntry {
                key: key.clone(),
                namespace: namespace.clone(),
                elements: Vec::new(),
                stored: REWRITTEN,
                bytes: Cell::new(0),
            };
            let list = self.table.restore(at, is, make)?;
            self.elements += elements.len();
            list.elements.extend(elements);
            list.bytes.set(list.bytes.get() + entry.value.len());
            return Ok(());
        }
        let bytes = Cell::new(entry.value.len());
        self.elements += elements.len();
        let make = || ListEntry { key, namespace, elements, stored: REWRITTEN, bytes };
        self.table.restore(at, |_| false, make).map(drop)
    }

    fn for_each_key(&self, key_groups: KeyGroupRange, visit: VisitKey<'_>) -> Result<()> {
        self.table.iter_near(key_groups).try_for_each(|e| visit(e.key.key_hash(), &e.key, &e.namespace))
    }

    fn look_up(&self, key: &dyn Any, hash: KeyHash, out: &mut Vec<u8>) -> Result<()> {
        let key: &K = key_of(key)?;
        let mut found = self.table.iter_near(group_of(hash)).filter(|entry| entry.key == *key);
        found.try_for_each(|entry| {
            let bytes = entry.bytes.get();
            let written = entry.write(EpochCut { epoch: 0, full: true }, &self.values, out);
            // No cut has taken it.
            entry.bytes.set(bytes);
            written
        })
    }

    fn clean_up(&mut self, records: usize, clock: &StateTime) -> u64 {
        let Self { table, values, cleanup, .. } = self;
        let mut lists = Vec::new();
        table.visit_some(cleanup, cleanup_budget(values, records), |entry| {
            if entry.elements.iter().any(|element| values.expired(element, clock)) {
                lists.push((entry.key.clone(), entry.namespace.clone()));
            }
        });
        let remove = |(key, namespace): &(K, N)| self.remove_expired(Keyed::new(key), namespace, clock);
        lists.iter().map(remove).sum()
    }
}

impl<K, N, T: 'static> fmt::Debug for ListTable<K, N, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.values.meta().name, self.table)
    }
}
