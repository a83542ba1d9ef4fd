//! Timers: entries of the database in the order of time within their key group, with the first few of each
//! key group in memory.
//!
//! So memory is bounded by the number of key groups of the subtask, not by the number of timers. (Flink:
//! `RocksDBCachingPriorityQueueSet`, one for each key group under a heap of their heads.)

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_snapshot_format::timer_key;
use strandline_state_api::backend::{AcceptedForm, At, EncodedEntry, RegisteredState, TimerEntry, Timers};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{
    Error, ErrorKind, KeyGroup, KeyGroupRange, KeyHash, Result, StateKey, Timestamp, Ttl,
};

use super::{Access, RocksState, VisitKey};
use crate::layout::{Addressing, Layout, PREFIX, Part, bounds, prefix, start, successor, time_from_bytes};
use crate::store::scan::to_state;
use crate::store::{Bytes, Order, Store};

/// Timers of a key group that are kept in memory.
const HEAD: usize = 16;

/// The earliest timers of a key group.
#[derive(Debug)]
struct Head {
    /// Their addresses, the latest first. Never empty, except while it is changed or where the key group has none.
    first: Vec<Bytes>,
    /// Whether these are all.
    all: bool,
}

impl Head {
    /// The head of a key group without timers.
    const NONE: Self = Self { first: Vec::new(), all: true };

    /// Whether a timer at `address` is among these if it exists.
    fn covers(&self, address: &[u8]) -> bool {
        self.all || self.first.first().is_some_and(|last| address <= last.as_slice())
    }

    /// The place of an address, or the place to insert it.
    fn find(&self, address: &[u8]) -> std::result::Result<usize, usize> {
        self.first.binary_search_by(|other| address.cmp(other))
    }

    /// Adds an address at its place, and forgets the latest ones where there are many.
    fn insert(&mut self, place: usize, address: &[u8]) {
        self.first.insert(place, Bytes::from_slice(address));
        if self.first.len() > 2 * HEAD {
            self.first.drain(..self.first.len() - HEAD);
            self.all = false;
        }
    }

    fn time(&self, layout: Layout) -> Option<Timestamp> {
        let address = self.first.last()?;
        if layout.key == Part::Escaped {
            let parts = layout.split(address).ok()?;
            return parts.key.first_chunk().copied().map(time_from_bytes);
        }
        // The time comes first, so nothing else has to be read.
        address.get(PREFIX..)?.first_chunk().copied().map(time_from_bytes)
    }
}

/// The timers of one service.
pub struct TimerQueue<K, N> {
    schema: StateSchema,
    addressing: Addressing,
    key_groups: KeyGroupRange,
    /// The address of the current access.
    address: Vec<u8>,
    /// The head of each key group, once they are loaded.
    heads: Vec<Head>,
    /// The earliest timer of each key group.
    queue: BTreeSet<(Timestamp, KeyGroup)>,
    /// Whether `heads` holds the heads of what is in the database.
    loaded: bool,
    types: PhantomData<fn() -> (K, N)>,
}

impl<K: StateKey, N: StateKey> TimerQueue<K, N> {
    pub(crate) fn new(schema: StateSchema, id: u16, key_groups: KeyGroupRange) -> Self {
        let addressing = Addressing { id, layout: Layout::of::<K, N>(schema.meta.kind, Some(0)) };
        Self {
            schema,
            addressing,
            key_groups,
            address: Vec::new(),
            heads: Vec::new(),
            queue: BTreeSet::new(),
            loaded: false,
            types: PhantomData,
        }
    }

    /// The head of a key group of this subtask.
    fn head(&mut self, group: KeyGroup) -> Result<&mut Head> {
        let index = u32::from(group.index()).wrapping_sub(self.key_groups.start());
        self.heads.get_mut(index as usize).ok_or_else(|| {
            Error::invalid("the key group does not belong to this subtask").with("key group", group)
        })
    }

    /// Removes the timer at an address; returns whether one existed.
    fn remove(&mut self, store: &mut Store, group: KeyGroup, address: &[u8]) -> Result<bool> {
        let (id, layout) = (self.addressing.id, self.addressing.layout);
        let head = self.head(group)?;
        if !head.covers(address) {
            let exists = store.contains(address, Order::Sorted)?;
            if exists {
                store.delete(address, Order::Sorted)?;
            }
            return Ok(exists);
        }
        let Ok(place) = head.find(address) else { return Ok(false) };
        store.delete(address, Order::Sorted)?;
        let before = head.time(layout);
        head.first.remove(place);
        if head.first.is_empty() && !head.all {
            *head = read_head(id, store, group)?;
        }
        let after = head.time(layout);
        self.requeue(group, before, after);
        Ok(true)
    }

    /// Adds a timer at an address; returns whether it is new.
    fn insert(&mut self, store: &mut Store, group: KeyGroup, address: &[u8]) -> Result<bool> {
        let Addressing { layout, .. } = self.addressing;
        self.addressing.check_size(address, &[])?;
        let head = self.head(group)?;
        if !head.covers(address) {
            let new = !store.contains(address, Order::Sorted)?;
            if new {
                store.put(address, Order::Sorted, &[])?;
            }
            return Ok(new);
        }
        let Err(place) = head.find(address) else { return Ok(false) };
        store.put(address, Order::Sorted, &[])?;
        let before = head.time(layout);
        head.insert(place, address);
        let after = head.time(layout);
        self.requeue(group, before, after);
        Ok(true)
    }

    fn requeue(&mut self, group: KeyGroup, before: Option<Timestamp>, after: Option<Timestamp>) {
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
        let (id, mut groups) = (self.addressing.id, Vec::new());
        {
            let (from, to) = bounds(self.key_groups);
            let database = Arc::clone(store.database());
            let mut entries = database.iterate(&from, Some(&to));
            let mut target = Vec::new();
            entries.first()?;
            to_state(&mut entries, id, &mut target)?;
            while let Some((address, _)) = entries.entry() {
                let (group, _) = prefix(address)?;
                groups.push(group);
                start(id, group, &mut target);
                let Some(end) = successor(&target) else { break };
                entries.seek(&end)?;
                to_state(&mut entries, id, &mut target)?;
            }
        }
        self.heads.clear();
        self.heads.resize_with(self.key_groups.len() as usize, || Head::NONE);
        self.queue.clear();
        for group in groups {
            let head = read_head(id, store, group)?;
            self.queue.extend(head.time(self.addressing.layout).map(|time| (time, group)));
            *self.head(group)? = head;
        }
        self.loaded = true;
        Ok(())
    }
}

impl<'b, K: StateKey, N: StateKey> Timers<'b, K, N> for Access<'b, TimerQueue<K, N>> {
    fn register(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        self.run(|timers, store| {
            timers.load(store)?;
            let mut address = std::mem::take(&mut timers.address);
            timers.addressing.encode_timer(at, time, &mut address);
            let registered = timers.insert(store, at.key.group(), &address);
            timers.address = address;
            registered
        })
    }

    fn delete(self, at: At<'_, K, N>, time: Timestamp) -> Result<bool> {
        self.run(|timers, store| {
            timers.load(store)?;
            let mut address = std::mem::take(&mut timers.address);
            timers.addressing.encode_timer(at, time, &mut address);
            let existed = timers.remove(store, at.key.group(), &address);
            timers.address = address;
            existed
        })
    }

    fn pop(self, up_to: Timestamp) -> Result<Option<TimerEntry<K, N>>> {
        self.run(|timers, store| {
            timers.load(store)?;
            let Some(&(time, group)) = timers.queue.first().filter(|(time, _)| *time <= up_to) else {
                return Ok(None);
            };
            let Some(address) = timers.head(group)?.first.last().cloned() else { return Ok(None) };
            let timer = timer_at(timers.addressing.layout, &address)?;
            debug_assert_eq!(timer.time, time);
            timers.remove(store, group, &address)?;
            Ok(Some(timer))
        })
    }

    fn next(self) -> Result<Option<Timestamp>> {
        self.run(|timers, store| {
            timers.load(store)?;
            Ok(timers.queue.first().map(|(time, _)| *time))
        })
    }

    fn for_each(self, mut visit: impl FnMut(&TimerEntry<K, N>) -> Result<()>) -> Result<()> {
        self.run(|timers, store| {
            let TimerQueue { addressing: Addressing { id, layout }, key_groups, .. } = timers;
            store.scan_state(*id, *key_groups, Order::Sorted, |address, _| {
                visit(&timer_at(*layout, address)?)?;
                Ok(true)
            })
        })
    }
}

/// The timer at an address.
fn timer_at<K: StateKey, N: StateKey>(layout: Layout, address: &[u8]) -> Result<TimerEntry<K, N>> {
    let parts = layout.split(address)?;
    let (time, encoded) = timer_key::unpack(&parts.key)?;
    let (hash, key) = (KeyHash::of_encoded(encoded), K::decode(encoded)?);
    Ok(TimerEntry { time: Timestamp::from_millis(time), key, hash, namespace: N::decode(&parts.namespace)? })
}

/// The earliest timers of a key group.
fn read_head(state: u16, store: &mut Store, group: KeyGroup) -> Result<Head> {
    let mut from = Vec::new();
    start(state, group, &mut from);
    let mut head = Head::NONE;
    store.scan(&from, successor(&from).as_deref(), Order::Sorted, |address, _| {
        if head.first.len() == HEAD {
            head.all = false;
            return Ok(false);
        }
        head.first.push(Bytes::from_slice(address));
        Ok(true)
    })?;
    head.first.reverse();
    Ok(head)
}

impl<K: StateKey, N: StateKey> RegisteredState for TimerQueue<K, N> {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn types(&self) -> &'static str {
        std::any::type_name::<N>()
    }
}

impl<K: StateKey, N: StateKey> RocksState for TimerQueue<K, N> {
    fn addressing(&self) -> Addressing {
        self.addressing
    }

    fn set_addressing(&mut self, addressing: Addressing) {
        self.addressing = addressing;
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<AcceptedForm> {
        self.schema.compatibility(stored).map(|_| AcceptedForm::CURRENT)
    }

    fn rewrite(&self, _form: AcceptedForm, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(stored);
        Ok(())
    }

    fn ttl(&self) -> Option<&Ttl> {
        None
    }

    fn for_each_key(&mut self, _: &mut Store, _: KeyGroupRange, _: VisitKey<'_>) -> Result<()> {
        // Timers are no state with keys to visit.
        Ok(())
    }

    fn look_up(
        &mut self,
        _: &mut Store,
        _: &[u8],
        _: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, "timers are not looked up"))
    }
}

impl<K, N> fmt::Debug for TimerQueue<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue").field("addressing", &self.addressing).finish_non_exhaustive()
    }
}
