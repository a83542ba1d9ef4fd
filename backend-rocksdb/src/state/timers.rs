//! Timers: entries of the database in the order of time within their key group, with the first few of each key group in memory.
//!
//! (Flink: `RocksDBCachingPriorityQueueSet`, one for each key group under a heap of their heads.) So memory is bounded by the number
//! of key groups that have timers, not by the number of timers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::format::{StateMeta, timer_key};
use strandline_state_api::{
    FiredTimer, KeyGroup, KeyGroupRange, KeyHash, Keyed, Result, StateKey, StateSchema, TimerDescriptor, Ttl,
};

use super::{AnyState, Place, VisitKey};
use crate::layout::{Layout, Part, flip, prefix, start, successor};
use crate::store::scan::to_state;
use crate::store::{Order, Store};

/// Timers of a key group that are kept in memory.
const HEAD: usize = 16;

/// The earliest timers of a key group.
#[derive(Debug, Default)]
struct Head {
    /// By their order in the database. Never empty, except while it is changed.
    first: BTreeSet<Vec<u8>>,
    /// Whether these are all.
    all: bool,
}

impl Head {
    /// Whether `at` belongs among these if it exists.
    fn covers(&self, at: &[u8]) -> bool {
        self.all || self.first.last().is_some_and(|last| at <= last.as_slice())
    }
}

/// Timers of one service.
pub(crate) struct Timers<K, N> {
    place: Place,
    range: KeyGroupRange,
    at: Vec<u8>,
    heads: BTreeMap<u16, Head>,
    /// The earliest timer of each key group.
    queue: BTreeSet<(i64, u16)>,
    /// Whether `heads` knows what is in the database.
    loaded: bool,
    types: PhantomData<fn() -> (K, N)>,
}

impl<K: StateKey, N: StateKey> Timers<K, N> {
    pub(crate) fn new(descriptor: &TimerDescriptor<N>, id: u16, range: KeyGroupRange) -> Self {
        let place = Place::new::<K, N>(StateSchema::plain(descriptor.meta::<K>()), id, Some(0));
        let (heads, queue, types) = (BTreeMap::new(), BTreeSet::new(), PhantomData);
        Self { place, range, at: Vec::new(), heads, queue, loaded: false, types }
    }

    fn aim(&mut self, key: Keyed<'_, K>, namespace: &N, time: i64) {
        let Place { id, layout, .. } = &self.place;
        layout.timer(*id, key.group(), time, key.key(), namespace, &mut self.at);
    }

    pub(crate) fn register(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        self.load(store)?;
        self.aim(key, namespace, time);
        let group = key.group().index();
        let head = self.heads.entry(group).or_insert_with(|| Head { first: BTreeSet::new(), all: true });
        let covered = head.covers(&self.at);
        let there =
            if covered { head.first.contains(&self.at) } else { store.contains(&self.at, Order::Sorted)? };
        if there {
            return Ok(false);
        }
        store.put(&self.at, Order::Sorted, &[])?;
        if covered {
            let before = self.place.head_time(head);
            head.first.insert(self.at.clone());
            if head.first.len() > 2 * HEAD {
                while head.first.len() > HEAD {
                    head.first.pop_last();
                }
                head.all = false;
            }
            let after = self.place.head_time(head);
            self.requeue(group, before, after);
        }
        Ok(true)
    }

    pub(crate) fn delete(
        &mut self,
        store: &mut Store,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        self.load(store)?;
        self.aim(key, namespace, time);
        let at = std::mem::take(&mut self.at);
        let there = self.remove(store, key.group(), &at);
        self.at = at;
        there
    }

    fn remove(&mut self, store: &mut Store, group: KeyGroup, at: &[u8]) -> Result<bool> {
        let Some(head) = self.heads.get_mut(&group.index()) else { return Ok(false) };
        if !head.covers(at) {
            let there = store.contains(at, Order::Sorted)?;
            if there {
                store.delete(at, Order::Sorted)?;
            }
            return Ok(there);
        }
        if !head.first.contains(at) {
            return Ok(false);
        }
        store.delete(at, Order::Sorted)?;
        let before = self.place.head_time(head);
        head.first.remove(at);
        if head.first.is_empty() && !head.all {
            *head = self.place.read_head(store, group)?;
        }
        let after = self.place.head_time(head);
        if head.first.is_empty() {
            self.heads.remove(&group.index());
        }
        self.requeue(group.index(), before, after);
        Ok(true)
    }

    pub(crate) fn pop(&mut self, store: &mut Store, up_to: i64) -> Result<Option<FiredTimer<K, N>>> {
        self.load(store)?;
        let Some(&(time, group)) = self.queue.first().filter(|(time, _)| *time <= up_to) else {
            return Ok(None);
        };
        let Some(at) = self.heads.get(&group).and_then(|head| head.first.first()).cloned() else {
            return Ok(None);
        };
        let timer = self.place.timer(&at)?;
        debug_assert_eq!(timer.time, time);
        let (group, _) = prefix(&at)?;
        self.remove(store, group, &at)?;
        Ok(Some(timer))
    }

    pub(crate) fn for_each(
        &mut self,
        store: &mut Store,
        mut visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>,
    ) -> Result<()> {
        let Self { place, range, .. } = self;
        store.scan_state(place.id, *range, Order::Sorted, |address, _| {
            visit(&place.timer(address)?)?;
            Ok(true)
        })
    }

    pub(crate) fn next(&mut self, store: &mut Store) -> Result<Option<i64>> {
        self.load(store)?;
        Ok(self.queue.first().map(|(time, _)| *time))
    }

    fn requeue(&mut self, group: u16, before: Option<i64>, after: Option<i64>) {
        if before != after {
            if let Some(before) = before {
                self.queue.remove(&(before, group));
            }
            self.queue.extend(after.map(|after| (after, group)));
        }
    }

    /// Reads the heads of all key groups, the first time after a restore.
    #[inline]
    fn load(&mut self, store: &mut Store) -> Result<()> {
        if self.loaded { Ok(()) } else { self.load_now(store) }
    }

    #[cold]
    fn load_now(&mut self, store: &mut Store) -> Result<()> {
        let mut groups = Vec::new();
        {
            let (from, to) = crate::layout::bounds(self.range);
            let database = std::sync::Arc::clone(store.database());
            let mut entries = database.iterate(&from, Some(&to));
            let mut target = Vec::new();
            entries.first()?;
            to_state(&mut entries, self.place.id, &mut target)?;
            while let Some((at, _)) = entries.entry() {
                let (group, _) = prefix(at)?;
                groups.push(group);
                start(self.place.id, group, &mut target);
                let Some(end) = successor(&target) else { break };
                entries.seek(&end)?;
                to_state(&mut entries, self.place.id, &mut target)?;
            }
        }
        for group in groups {
            let head = self.place.read_head(store, group)?;
            if let Some(time) = self.place.head_time(&head) {
                self.queue.insert((time, group.index()));
                self.heads.insert(group.index(), head);
            }
        }
        self.loaded = true;
        Ok(())
    }
}

impl Place {
    /// The timer at an address.
    fn timer<K: StateKey, N: StateKey>(&self, at: &[u8]) -> Result<FiredTimer<K, N>> {
        let parts = self.layout.split(at)?;
        let (time, encoded) = timer_key::unpack(&parts.key)?;
        let (hash, key) = (KeyHash::of_encoded(encoded), K::decode(encoded)?);
        Ok(FiredTimer { time, key, hash, namespace: N::decode(&parts.namespace)? })
    }

    /// The time of the first timer.
    fn head_time(&self, head: &Head) -> Option<i64> {
        let at = head.first.first()?;
        // Escaped or not, the time can be told without the rest.
        if self.layout.key == Part::Escaped {
            let parts = self.layout.split(at).ok()?;
            return timer_key::unpack(&parts.key).ok().map(|(time, _)| time);
        }
        let bytes = at.get(crate::layout::PREFIX..)?.first_chunk::<8>()?;
        Some(flip(u64::from_be_bytes(*bytes) as i64) as i64)
    }

    /// The earliest timers of a key group.
    fn read_head(&self, store: &mut Store, group: KeyGroup) -> Result<Head> {
        let mut from = Vec::new();
        start(self.id, group, &mut from);
        let mut head = Head { first: BTreeSet::new(), all: true };
        store.scan(&from, successor(&from).as_deref(), Order::Sorted, |at, _| {
            if head.first.len() == HEAD {
                head.all = false;
                return Ok(false);
            }
            head.first.insert(at.to_vec());
            Ok(true)
        })?;
        Ok(head)
    }
}

impl<K: StateKey, N: StateKey> AnyState for Timers<K, N> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn adopt(&mut self, id: u16, layout: Layout) {
        self.place.adopt(id, layout);
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<bool> {
        self.place.schema.compatibility(stored).map(|_| false)
    }

    fn migrate(&self, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.extend_from_slice(value);
        Ok(())
    }

    fn ttl(&self) -> Option<Ttl> {
        None
    }

    fn for_each_key(
        &mut self,
        _store: &mut Store,
        _key_groups: KeyGroupRange,
        _visit: VisitKey<'_>,
    ) -> Result<()> {
        // No handle of a state leads here.
        Ok(())
    }
}

impl<K, N> fmt::Debug for Timers<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("place", &self.place).finish_non_exhaustive()
    }
}
