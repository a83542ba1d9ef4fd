//! Timers: a table that deduplicates them and knows what changed, and an index by time.

use std::collections::BTreeMap;
use std::fmt;

use strandline_state_api::format::{EntryRef, Op, StateMeta, timer_key};
use strandline_state_api::{
    FiredTimer, KeyGroupRange, KeyHash, Keyed, Result, StateKey, StateSchema, TimerDescriptor,
};

use crate::record::{self, Layout};
use crate::state::{AnyState, VisitKey};
use crate::table::{Address, Cut, Payload, Table};

struct Entry<K, N> {
    time: i64,
    key: K,
    namespace: N,
}

fn address<N: StateKey>(hash: KeyHash, namespace: &N, time: i64) -> Address {
    let at = Address::new(hash, namespace);
    Address { hash, local: at.local ^ (time as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
}

impl<K: StateKey, N: StateKey> Payload for Entry<K, N> {
    fn address(&self) -> Address {
        address(self.key.key_hash(), &self.namespace, self.time)
    }
}

impl<K: StateKey, N: StateKey> Entry<K, N> {
    fn write(&self, op: Op, out: &mut Vec<u8>) {
        out.push(op.code());
        let pack = |out: &mut Vec<u8>| {
            timer_key::pack(self.time, &[], out);
            self.key.encode(out);
        };
        if K::WIDTH.is_some() {
            pack(out);
        } else {
            // The closure cannot fail.
            let _ = record::push_sized(out, |out| {
                pack(out);
                Ok(())
            });
        }
        record::push_part(&self.namespace, out);
        if op.has_value() {
            out.extend_from_slice(&[0; 4]);
        }
    }
}

/// One timer service.
pub(crate) struct TimerTable<K, N> {
    schema: StateSchema,
    table: Table<Entry<K, N>>,
    /// All timers by time, and some that were deleted: what is not in the table does not count.
    by_time: BTreeMap<i64, Vec<(KeyHash, K, N)>>,
}

impl<K: StateKey, N: StateKey> TimerTable<K, N> {
    pub(crate) fn new(descriptor: &TimerDescriptor<N>, range: KeyGroupRange, epoch: u32) -> Self {
        let schema = StateSchema::plain(descriptor.meta::<K>());
        Self { schema, table: Table::new(range, epoch), by_time: BTreeMap::new() }
    }

    pub(crate) fn register(&mut self, key: Keyed<'_, K>, namespace: &N, time: i64) -> Result<bool> {
        let at = address(key.hash(), namespace, time);
        let is = |e: &Entry<K, N>| e.time == time && e.key == *key.key() && e.namespace == *namespace;
        if self.table.get(at, is).is_some() {
            return Ok(false);
        }
        let entry = Entry { time, key: key.key().clone(), namespace: namespace.clone() };
        self.table.insert(at, entry)?;
        let timers = self.by_time.entry(time).or_default();
        timers.push((key.hash(), key.key().clone(), namespace.clone()));
        Ok(true)
    }

    pub(crate) fn delete(&mut self, key: Keyed<'_, K>, namespace: &N, time: i64) -> bool {
        let at = address(key.hash(), namespace, time);
        let is = |e: &Entry<K, N>| e.time == time && e.key == *key.key() && e.namespace == *namespace;
        let Some(mut removed) = self.table.remove(at, is) else { return false };
        let entry = &removed.payload;
        removed.debts.save(removed.before, |_, out| entry.write(Op::Put, out));
        if removed.known {
            entry.write(Op::Delete, removed.removed);
        }
        true
    }

    pub(crate) fn pop(&mut self, up_to: i64) -> Option<FiredTimer<K, N>> {
        loop {
            let mut first = self.by_time.first_entry().filter(|first| *first.key() <= up_to)?;
            let time = *first.key();
            let Some((hash, key, namespace)) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            if first.get().is_empty() {
                first.remove();
            }
            if self.delete(Keyed::with_hash(&key, hash), &namespace, time) {
                return Some(FiredTimer { time, key, hash, namespace });
            }
        }
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|Entry { time, key, namespace }| {
            let (hash, key, namespace) = (key.key_hash(), key.clone(), namespace.clone());
            visit(&FiredTimer { time: *time, key, hash, namespace })
        })
    }

    /// The time of the earliest timer.
    pub(crate) fn next(&mut self) -> Option<i64> {
        loop {
            let mut first = self.by_time.first_entry()?;
            let time = *first.key();
            let alive = first.get().last().is_some_and(|(hash, key, namespace)| {
                let is = |e: &Entry<K, N>| e.time == time && e.key == *key && e.namespace == *namespace;
                self.table.get(address(*hash, namespace, time), is).is_some()
            });
            if alive {
                return Some(time);
            }
            first.get_mut().pop();
            if first.get().is_empty() {
                first.remove();
            }
        }
    }
}

impl<K: StateKey, N: StateKey> AnyState for TimerTable<K, N> {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn layout(&self) -> Layout {
        Layout::of::<K, N>().with_time()
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
    }

    fn drain(&mut self, budget: &mut usize, out: &mut Vec<Vec<u8>>) -> Result<bool> {
        let emit = |entry: &mut Entry<K, N>, epoch, cut: Cut, out: &mut Vec<u8>| {
            if cut.wants(epoch) {
                entry.write(Op::Put, out);
            }
            Ok(())
        };
        self.table.drain(budget, out, emit)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.schema.compatibility(stored).map(drop)
    }

    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let (time, encoded) = timer_key::unpack(entry.key)?;
        let (key, namespace) = (K::decode(encoded)?, N::decode(entry.namespace)?);
        let hash = KeyHash::of_encoded(encoded);
        self.by_time.entry(time).or_default().push((hash, key.clone(), namespace.clone()));
        let at = address(hash, &namespace, time);
        self.table.restore(at, |_| false, || Entry { time, key, namespace }).map(drop)
    }

    fn for_each_key(&self, _key_groups: KeyGroupRange, _visit: VisitKey<'_>) -> Result<()> {
        // No handle of a state leads here.
        Ok(())
    }
}

impl<K, N> fmt::Debug for TimerTable<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.schema.meta.name, self.table)
    }
}
