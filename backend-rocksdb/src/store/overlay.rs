//! The write-back table: slots with an index by hash, and one by order of what is read in ranges.

use prefetch_index::prefetch_index;
use rocksdb::WriteBatch;
use xxhash_rust::xxh3::xxh3_64;

use super::index::Index;
use super::ordered::{Bytes, Ordered};
use crate::increment::Increment;

/// How a state is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By address alone: values and lists.
    Hashed,
    /// In ranges, too: maps and timers.
    Sorted,
}

/// What the table knows of an address.
#[derive(Debug)]
pub(crate) enum Known {
    /// The whole value.
    Put(Bytes),
    /// There is no value.
    Gone,
    /// The bytes that follow those in the database. The first ones may be on their way there, or be there.
    Append(Bytes),
}

impl Known {
    fn heap(&self) -> usize {
        match self {
            Self::Put(bytes) | Self::Append(bytes) => heap(bytes),
            Self::Gone => 0,
        }
    }
}

/// The bytes on the heap.
fn heap(bytes: &Bytes) -> usize {
    if bytes.spilled() { bytes.capacity() } else { 0 }
}

#[derive(Debug)]
struct Slot {
    at: Bytes,
    value: Known,
    hash: u64,
    order: Order,
    /// The epoch of its last change; 0 where the database holds that.
    dirty: u32,
    /// The epoch of the newest increment that has it, 0 for none: the database holds it once it has the increment.
    handed: u32,
    /// How many bytes of an append that increment has.
    handed_bytes: u32,
    /// Whether it was used since the hand of the clock passed.
    used: bool,
    alive: bool,
    /// Whether the index by order has it: from its first change on, as walks ask for changes alone.
    listed: bool,
}

/// What a slot costs beside its bytes on the heap: itself, and its place in an index that is half full.
const SLOT_BYTES: usize = size_of::<Slot>() + 16;
/// What its place in the index by order costs, whose leaves are mostly three quarters full.
const SORTED_BYTES: usize = (size_of::<Bytes>() + 4) * 4 / 3;

impl Slot {
    /// Whether the database, which has the increments up to `ingested`, holds its last change.
    #[inline]
    fn is_clean(&self, ingested: u32) -> bool {
        self.dirty == 0 || (self.is_handed() && self.handed <= ingested)
    }

    /// Whether an increment has its last change.
    #[inline]
    fn is_handed(&self) -> bool {
        self.dirty <= self.handed
    }

    fn cost(&self) -> usize {
        let listed = if self.listed { self.cost_of_order() } else { 0 };
        SLOT_BYTES + heap(&self.at) + self.value.heap() + listed
    }

    fn cost_of_order(&self) -> usize {
        SORTED_BYTES + heap(&self.at)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Overlay {
    slots: Vec<Slot>,
    free: Vec<u32>,
    hashed: Index,
    /// The slots of sorted states that have changed.
    sorted: Ordered,
    bytes: usize,
    /// The position of the hand of the clock.
    hand: usize,
    newest: u32,
    /// The database has the increments of this epoch and of all before.
    ingested: u32,
}

impl Overlay {
    /// The bytes of memory that it takes, approximately.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn find(&mut self, at: &[u8]) -> Option<u32> {
        self.find_hashed(at, xxh3_64(at))
    }

    #[inline]
    fn find_hashed(&mut self, at: &[u8], hash: u64) -> Option<u32> {
        let slots = &self.slots;
        let id = self.hashed.find(hash, |id| slots[id as usize].at.as_slice() == at)?;
        if self.is_spent(id) {
            self.remove(id);
            return None;
        }
        self.slots[id as usize].used = true;
        Some(id)
    }

    /// Those of these addresses that are not in the table; the memory of the others is in the processor's
    /// cache then. Each step is taken for all addresses before the next, so all of them together wait about
    /// twice.
    pub(super) fn missing<'a>(&mut self, wanted: &'a [Vec<u8>]) -> Vec<&'a [u8]> {
        let hashes: Vec<u64> = wanted.iter().map(|at| xxh3_64(at)).collect();
        hashes.iter().for_each(|hash| self.hashed.prefetch(*hash));
        hashes.iter().filter_map(|hash| self.hashed.likely(*hash)).for_each(|id| self.prefetch_one(id));
        let all = wanted.iter().map(Vec::as_slice).zip(hashes);
        all.filter(|(at, hash)| self.find_hashed(at, *hash).is_none()).map(|(at, _)| at).collect()
    }

    /// Prefetches the memory of slots.
    pub(super) fn prefetch(&self, slots: &[u32]) {
        slots.iter().for_each(|id| self.prefetch_one(*id));
    }

    #[inline]
    fn prefetch_one(&self, id: u32) {
        // A slot is longer than a cache line.
        prefetch_index(&self.slots, id as usize);
        prefetch_index(&self.slots, id as usize + 1);
    }

    /// Adds an address that the table lacks, clean.
    pub(super) fn insert(&mut self, at: &[u8], order: Order, value: Known) -> u32 {
        let hash = xxh3_64(at);
        let slot = Slot {
            at: Bytes::from_slice(at),
            value,
            hash,
            order,
            dirty: 0,
            handed: 0,
            handed_bytes: 0,
            used: true,
            alive: true,
            listed: false,
        };
        self.bytes += slot.cost();
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        self.hashed.insert(hash, id);
        self.newest = id;
        id
    }

    pub(super) fn remove(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        if !slot.alive {
            return;
        }
        self.bytes -= slot.cost();
        slot.alive = false;
        slot.dirty = 0;
        slot.value = Known::Gone;
        let at = std::mem::take(&mut slot.at);
        self.hashed.remove(slot.hash, id);
        if slot.listed {
            self.sorted.remove(&at, id);
        }
        self.free.push(id);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The value of a slot that is not only appended to.
    #[inline]
    pub(super) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        match &self.slots[id as usize].value {
            Known::Put(bytes) => Some(bytes),
            Known::Gone | Known::Append(_) => None,
        }
    }

    /// Address and elements of a slot that is only appended to.
    pub(super) fn appended(&self, id: u32) -> Option<(&[u8], &[u8])> {
        let slot = &self.slots[id as usize];
        match &slot.value {
            Known::Append(bytes) => Some((&slot.at, bytes)),
            Known::Put(_) | Known::Gone => None,
        }
    }

    /// Sets the value, in place where it fits.
    #[inline]
    pub(super) fn set(&mut self, id: u32, value: &[u8]) {
        if let Known::Put(bytes) = &mut self.slots[id as usize].value
            && !bytes.spilled()
            && value.len() <= bytes.inline_size()
        {
            bytes.clear();
            bytes.extend_from_slice(value);
            return;
        }
        self.replace(id, Known::Put(Bytes::from_slice(value)));
    }

    pub(super) fn replace(&mut self, id: u32, value: Known) {
        let slot = &mut self.slots[id as usize];
        let before = slot.value.heap();
        slot.value = value;
        slot.handed_bytes = 0;
        self.bytes = self.bytes + slot.value.heap() - before;
    }

    /// Appends to the value; `known` is whether the table held the address before.
    pub(super) fn append(&mut self, id: u32, more: &[u8], known: bool) {
        let slot = &mut self.slots[id as usize];
        let before = slot.value.heap();
        match &mut slot.value {
            Known::Put(bytes) | Known::Append(bytes) => bytes.extend_from_slice(more),
            value @ Known::Gone if known => *value = Known::Put(Bytes::from_slice(more)),
            value @ Known::Gone => *value = Known::Append(Bytes::from_slice(more)),
        }
        self.bytes = self.bytes + slot.value.heap() - before;
    }

    /// The epoch since which the database lacks the value.
    #[inline]
    pub(super) fn dirty_since(&self, id: u32) -> Option<u32> {
        let slot = &self.slots[id as usize];
        (!slot.is_clean(self.ingested)).then_some(slot.dirty)
    }

    /// The epoch since which neither the database nor an increment has the value.
    #[inline]
    pub(super) fn kept_since(&self, id: u32) -> Option<u32> {
        let slot = &self.slots[id as usize];
        (!slot.is_handed()).then_some(slot.dirty)
    }

    pub(super) fn mark_dirty(&mut self, id: u32, epoch: u32) {
        let slot = &mut self.slots[id as usize];
        slot.dirty = epoch;
        if slot.order == Order::Sorted && !slot.listed {
            slot.listed = true;
            self.bytes += slot.cost_of_order();
            self.sorted.insert(&slot.at, id);
        }
    }

    /// The database has the increments of this epoch and of all before.
    pub(super) fn ingested(&self) -> u32 {
        self.ingested
    }

    pub(super) fn set_ingested(&mut self, epoch: u32) {
        self.ingested = epoch;
    }

    /// Whether the table has nothing of a slot: only elements that are in the database.
    #[inline]
    fn is_spent(&self, id: u32) -> bool {
        matches!(self.slots[id as usize].value, Known::Append(_)) && self.dirty_since(id).is_none()
    }

    /// Notes that the database holds the value. Removes a slot that was only appended to, as it lacks the
    /// whole value.
    pub(super) fn clean(&mut self, id: u32) {
        self.slots[id as usize].dirty = 0;
        if matches!(self.slots[id as usize].value, Known::Append(_)) {
            self.remove(id);
        }
    }

    /// Adds the value to a batch. The database has all increments that have elements of the slot.
    pub(super) fn write(&self, id: u32, batch: &mut WriteBatch) {
        let slot = &self.slots[id as usize];
        match &slot.value {
            Known::Put(value) => batch.put(&slot.at, value),
            Known::Gone => batch.delete(&slot.at),
            Known::Append(more) => batch.merge(&slot.at, &more[slot.handed_bytes as usize..]),
        }
    }

    /// Copies the value to the increment of `epoch`. The database has all increments before it.
    #[inline]
    pub(super) fn hand_over(&mut self, id: u32, epoch: u32, increment: &mut Increment) {
        let slot = &mut self.slots[id as usize];
        match &mut slot.value {
            Known::Put(value) => increment.put(&slot.at, value),
            Known::Gone => increment.delete(&slot.at),
            Known::Append(more) => {
                more.drain(..slot.handed_bytes as usize);
                increment.append(&slot.at, more);
                slot.handed_bytes = more.len() as u32;
            }
        }
        slot.handed = epoch;
    }

    /// How many of the elements' bytes of an appended slot the database has.
    pub(super) fn ingested_bytes(&self, id: u32) -> usize {
        let slot = &self.slots[id as usize];
        if slot.handed <= self.ingested { slot.handed_bytes as usize } else { 0 }
    }

    /// Sorts slots by address: the database takes keys in order the fastest.
    pub(super) fn sort(&self, slots: &mut [u32]) {
        self.prefetch(slots);
        let at = |id: u32| self.slots[id as usize].at.as_slice();
        let start = |at: &[u8]| {
            let mut first = [0; 16];
            let taken = at.len().min(16);
            first[..taken].copy_from_slice(&at[..taken]);
            u128::from_be_bytes(first)
        };
        // Most addresses differ in their first bytes, which are compared without another look at the slots.
        let mut keyed: Vec<(u128, u32)> = slots.iter().map(|id| (start(at(*id)), *id)).collect();
        keyed.sort_unstable_by(|(a, i), (b, j)| a.cmp(b).then_with(|| at(*i).cmp(at(*j))));
        for (slot, (_, id)) in slots.iter_mut().zip(keyed) {
            *slot = id;
        }
    }

    /// Chooses slots to remove until `target` bytes are left: clean ones, and those dirty since `writable` or
    /// before. The clock spares a slot that was used since its hand passed last.
    pub(super) fn choose(&mut self, target: usize, writable: Option<u32>, victims: &mut Vec<u32>) {
        let mut excess = self.bytes.saturating_sub(target);
        for _ in 0..2 * self.slots.len() {
            if excess == 0 {
                return;
            }
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[self.hand];
            // What an increment has waits until the database has that.
            let may = slot.is_clean(self.ingested)
                || (!slot.is_handed() && writable.is_some_and(|writable| slot.dirty <= writable));
            if !slot.alive || !may || self.hand as u32 == self.newest {
                continue;
            }
            if std::mem::take(&mut slot.used) {
                continue;
            }
            excess = excess.saturating_sub(slot.cost());
            // So that the second round does not choose it again.
            slot.used = true;
            victims.push(self.hand as u32);
        }
    }

    /// Dirty slots with addresses from `from` to before `to`, in order.
    pub(super) fn dirty_between(&self, from: &[u8], to: Option<&[u8]>, order: Order) -> Vec<u32> {
        let inside = |at: &[u8]| at >= from && to.is_none_or(|to| at < to);
        match order {
            Order::Sorted => self.sorted.range(from, to, |id| self.dirty_since(id).is_some()),
            Order::Hashed => {
                let all = (0..self.slots.len() as u32).filter(|id| {
                    let slot = &self.slots[*id as usize];
                    slot.alive && self.dirty_since(*id).is_some() && inside(&slot.at)
                });
                let mut found: Vec<u32> = all.collect();
                self.sort(&mut found);
                found
            }
        }
    }

    pub(super) fn entry(&self, id: u32) -> (&[u8], &Known) {
        let slot = &self.slots[id as usize];
        (&slot.at, &slot.value)
    }
}
