//! Timers: a table that deduplicates them and knows which changed, and an index by time.

use std::any::{Any, type_name};
use std::fmt;

use strandline_snapshot_format::{EntryRef, Op, timer_key};
use strandline_state_api::backend::{AcceptedForm, At, RegisteredState, TimerEntry, Timers};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyHash, Keyed, Result, StateKey, Timestamp};

mod by_time;

use super::{MemoryState, VisitKey};
use crate::record::{self, Layout};
use crate::records::Records;
use crate::table::{Address, EpochCut, Payload, Table};
use by_time::{ByTime, Timer};

/// How many timers ahead of the next one are prefetched while timers fire.
const AHEAD: usize = 8;

/// So many deleted timers may stay in the index by time beside as many as are pending.
const DELETED: usize = 1024;

/// How many timers are deleted between two sweeps, at least. Each sweep visits more: it finds as many where half are
/// deleted, and where it finds none, many deletions share its cost.
const BETWEEN_SWEEPS: usize = 128;

/// A pending timer. Its time is the stored one, because older versions stored `i64::MIN`, too, which no
/// [`Timestamp`] equals, and the tombstone of such a timer must equal its entry.
struct PendingTimer<K, N> {
    millis: i64,
    key: K,
    namespace: N,
}

fn address<N: StateKey>(hash: KeyHash, namespace: &N, millis: i64) -> Address {
    let at = Address::new(hash, namespace);
    Address { hash, local: at.local ^ (millis as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
}

impl<K: StateKey, N: StateKey> Payload for PendingTimer<K, N> {
    fn address(&self) -> Address {
        address(self.key.key_hash(), &self.namespace, self.millis)
    }
}

impl<K: StateKey, N: StateKey> PendingTimer<K, N> {
    #[inline]
    fn is(&self, key: &K, namespace: &N, millis: i64) -> bool {
        self.millis == millis && self.key == *key && self.namespace == *namespace
    }

    fn write(&self, op: Op, out: &mut Vec<u8>) {
        out.push(op.code());
        let pack = |out: &mut Vec<u8>| {
            timer_key::pack(self.millis, &[], out);
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

/// The timers of one service.
pub struct TimerTable<K, N> {
    schema: StateSchema,
    table: Table<PendingTimer<K, N>>,
    /// All timers by time, and some that were deleted: a timer that the table lacks does not count.
    by_time: ByTime<K, N>,
    /// How many timers were deleted since the last sweep.
    deleted: usize,
}

impl<K: StateKey, N: StateKey> TimerTable<K, N> {
    pub(crate) fn new(schema: StateSchema, key_groups: KeyGroupRange, epoch: u32) -> Self {
        Self { schema, table: Table::new(key_groups, epoch), by_time: ByTime::new(), deleted: 0 }
    }

    fn is_pending(table: &Table<PendingTimer<K, N>>, timer: &Timer<K, N>) -> bool {
        let Timer { millis, hash, key, namespace } = timer;
        table.get(address(*hash, namespace, *millis), |e| e.is(key, namespace, *millis)).is_some()
    }

    fn remove(&mut self, key: Keyed<'_, K>, namespace: &N, millis: i64) -> bool {
        let address = address(key.hash(), namespace, millis);
        let removed = self.table.remove(address, |e| e.is(key.key(), namespace, millis));
        let Some(mut removed) = removed else { return false };
        let timer = &removed.payload;
        removed.copies.save(removed.before, |_, out| timer.write(Op::Put, out));
        if removed.known {
            timer.write(Op::Delete, removed.tombstones);
        }
        true
    }
}

impl<K: StateKey, N: StateKey> Timers<'_, K, N> for &mut TimerTable<K, N> {
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        let (key, hash, namespace, millis) = (at.key.key(), at.key.hash(), at.namespace, time.as_millis());
        let address = address(hash, namespace, millis);
        // Neither waits for the other.
        self.table.prefetch(address);
        self.by_time.prefetch(millis);
        if self.table.get(address, |e| e.is(key, namespace, millis)).is_some() {
            return Ok(false);
        }
        let timer = PendingTimer { millis, key: key.clone(), namespace: namespace.clone() };
        self.table.insert(address, timer)?;
        self.by_time.insert(Timer { millis, hash, key: key.clone(), namespace: namespace.clone() });
        Ok(true)
    }

    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        let removed = self.remove(at.key, at.namespace, time.as_millis());
        self.deleted += usize::from(removed);
        if self.deleted >= BETWEEN_SWEEPS && self.by_time.len() > 2 * self.table.len() + DELETED {
            self.deleted = 0;
            self.by_time.sweep(|timer| TimerTable::is_pending(&self.table, timer));
        }
        Ok(removed)
    }

    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        let up_to = up_to.as_millis();
        while self.by_time.first().is_some_and(|first| first.millis <= up_to) {
            if let Some(Timer { millis, hash, namespace, .. }) = self.by_time.ahead(AHEAD) {
                self.table.prefetch(address(*hash, namespace, *millis));
            }
            let Some(Timer { millis, hash, key, namespace }) = self.by_time.pop() else { break };
            if self.remove(Keyed::with_hash(&key, hash), &namespace, millis) {
                let time = Timestamp::from_millis(millis);
                return Ok(Some(TimerEntry { time, key, hash, namespace }));
            }
        }
        Ok(None)
    }

    fn next(self) -> Result<Option<Timestamp>> {
        while let Some(first) = self.by_time.first() {
            if TimerTable::is_pending(&self.table, first) {
                return Ok(Some(Timestamp::from_millis(first.millis)));
            }
            self.by_time.pop();
        }
        Ok(None)
    }

    fn for_each(self, mut visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        self.table.iter().try_for_each(|PendingTimer { millis, key, namespace }| {
            let (hash, key, namespace) = (key.key_hash(), key.clone(), namespace.clone());
            visit(&TimerEntry { time: Timestamp::from_millis(*millis), key, hash, namespace })
        })
    }
}

impl<K: StateKey, N: StateKey> RegisteredState for TimerTable<K, N> {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn types(&self) -> &'static str {
        type_name::<N>()
    }
}

impl<K: StateKey, N: StateKey> MemoryState for TimerTable<K, N> {
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

    fn drain(&mut self, budget: &mut usize, out: &mut Records) -> Result<bool> {
        let emit = |timer: &mut PendingTimer<K, N>, epoch, cut: EpochCut, out: &mut Vec<u8>| {
            if cut.wants(epoch) {
                timer.write(Op::Put, out);
            }
            Ok(())
        };
        self.table.drain(budget, out, emit)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.schema.compatibility(stored).map(|_| AcceptedForm::CURRENT)
    }

    fn restore(&mut self, entry: &EntryRef<'_>, _form: AcceptedForm) -> Result<()> {
        let (millis, encoded) = timer_key::unpack(entry.key)?;
        let (key, namespace) = (K::decode(encoded)?, N::decode(entry.namespace)?);
        let hash = KeyHash::of_encoded(encoded);
        self.by_time.insert(Timer { millis, hash, key: key.clone(), namespace: namespace.clone() });
        let at = address(hash, &namespace, millis);
        self.table.restore(at, |_| false, || PendingTimer { millis, key, namespace }).map(drop)
    }

    fn for_each_key(&self, _key_groups: KeyGroupRange, _visit: VisitKey<'_>) -> Result<()> {
        // The contract excludes timer services.
        Ok(())
    }

    fn look_up(&self, _key: &dyn Any, _hash: KeyHash, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "timers are not looked up"))
    }
}

impl<K, N> fmt::Debug for TimerTable<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.schema.meta.name, self.table)
    }
}

#[cfg(test)]
mod tests {
    use strandline_state_api::KeyGroup;
    use strandline_state_api::schema::StateKind;

    use super::*;

    #[test]
    fn the_tombstone_of_a_timer_equals_its_stored_entry_even_at_the_oldest_stored_time() {
        let schema = StateSchema::plain(StateMeta::new("timers", StateKind::EventTimers));
        let mut timers = TimerTable::<u64, ()>::new(schema, KeyGroupRange::ALL, 1);
        let (mut packed, mut key) = (Vec::new(), Vec::new());
        7u64.encode(&mut key);
        timer_key::pack(i64::MIN, &key, &mut packed);
        let entry = EntryRef::new(KeyGroup::of(7u64.key_hash()), 0, Op::Put, &packed);
        timers.restore(&entry, AcceptedForm::CURRENT).unwrap();

        let fired = (&mut timers).pop(Timestamp::MIN).unwrap().unwrap();
        assert_eq!((fired.time, fired.key), (Timestamp::MIN, 7));
        assert_eq!((&mut timers).next().unwrap(), None);
        timers.cut(false);
        let mut records = Records::default();
        assert!(timers.drain(&mut 100, &mut records).unwrap());
        let (tombstone, _) = timers.layout().split(&records.chunks()[0].bytes).unwrap();
        assert_eq!((tombstone.op, tombstone.key), (Op::Delete, &packed[..]));
    }

    /// Sessions and times-to-live move one timer further and further; the clean-up of a window comes and goes at one
    /// time.
    #[test]
    fn deleted_timers_do_not_pile_up() {
        for apart in [0, 1] {
            let schema = StateSchema::plain(StateMeta::new("timers", StateKind::EventTimers));
            let mut timers = TimerTable::<u64, ()>::new(schema, KeyGroupRange::ALL, 1);
            let hash = 7u64.key_hash();
            let at = At { key: Keyed::with_hash(&7, hash), namespace: &() };
            for i in 0..20_000 {
                let time = Timestamp::from_millis(1_000_000 + i * apart);
                assert!((&mut timers).register(at, time).unwrap());
                assert_eq!((&mut timers).next().unwrap(), Some(time));
                assert!((&mut timers).delete(at, time).unwrap());
            }
            assert!(timers.by_time.len() < 2 * DELETED, "{} timers", timers.by_time.len());
            assert_eq!((&mut timers).next().unwrap(), None);
        }
    }
}
