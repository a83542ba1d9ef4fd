//! A few thousand entries: a small hash table, the list of changes, and what is frozen for cuts that are not drained.

use std::collections::VecDeque;

use hashbrown::HashTable;
use strandline_state_api::Result;

use super::{Address, BORN, Cut, Debts, Payload, Removed, Touched};

/// Buckets of a shard that may still split. Small enough that a split takes some ten microseconds.
const MAX_BUCKETS: usize = 4096;
/// A buffer of records is handed over when it reaches this size, so that none is ever grown by copying megabytes.
const CHUNK: usize = 1 << 20;

/// An entry in its place. The place, a bucket of the table, stays until the shard grows: the list of changes names buckets.
struct Slot<P> {
    /// Of the last change; with [`BORN`] when the entry came into being then.
    epoch: u32,
    payload: P,
}

/// What a shard holds for one cut until it is drained.
pub(super) struct Frozen {
    pub(super) cut: Cut,
    /// Slots that changed in the epoch. Some may be empty or hold something else by now.
    changed: Vec<u32>,
    /// Encoded entries that changed or went since, and tombstones.
    pub(super) records: Vec<u8>,
}

// What an access needs stands in one cache line: with thousands of shards these lines are what the cache must hold.
#[repr(C, align(64))]
pub(super) struct Shard<P> {
    table: HashTable<Slot<P>>,
    /// The epoch of `changed` and `removed`.
    pub(super) epoch: u32,
    changed: Vec<u32>,
    removed: Vec<u8>,
    frozen: Vec<Frozen>,
}

/// How a crowded shard gets room.
pub(super) enum Growth {
    /// There is room.
    None,
    /// By a new table of this capacity.
    Resize(usize),
    /// By a split, if that helps, else by a new table of this capacity.
    Split(usize),
}

impl<P: Payload> Shard<P> {
    pub(super) fn new(epoch: u32) -> Self {
        Self::with_capacity(0, epoch)
    }

    fn with_capacity(capacity: usize, epoch: u32) -> Self {
        let table = HashTable::with_capacity(capacity);
        Self { table, epoch, changed: Vec::new(), removed: Vec::new(), frozen: Vec::new() }
    }

    /// What is needed before one more entry. The table itself must never grow: that would move entries unseen.
    pub(super) fn growth(&self) -> Growth {
        let (len, buckets) = (self.table.len(), self.table.num_buckets());
        if len < self.table.capacity() {
            Growth::None
        } else if len * 2 < buckets || buckets < MAX_BUCKETS {
            // A small shard, or one whose room is taken by deleted entries.
            Growth::Resize((len * 2).max(4))
        } else {
            Growth::Split(len * 2)
        }
    }

    #[inline]
    pub(super) fn find(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<&P> {
        self.table.find(at.local, |slot| is(&slot.payload)).map(|slot| &slot.payload)
    }

    #[inline]
    pub(super) fn find_mut(&mut self, at: Address, is: impl Fn(&P) -> bool) -> Option<&mut P> {
        self.table.find_mut(at.local, |slot| is(&slot.payload)).map(|slot| &mut slot.payload)
    }

    /// A few bits of the entry where a search for `at` starts.
    #[inline]
    pub(super) fn peek(&self, at: Address) -> u32 {
        self.table.find(at.local, |_| true).map_or(0, |slot| slot.epoch)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &P> {
        self.table.iter().map(|slot| &slot.payload)
    }

    /// Brings the shard to the current epoch: changes of an older one are frozen for the cut that ended it.
    #[cold]
    pub(super) fn roll(&mut self, epoch: u32, cuts: &VecDeque<Cut>) {
        for &cut in cuts.iter().filter(|cut| cut.epoch >= self.epoch) {
            let mut frozen = Frozen { cut, changed: Vec::new(), records: Vec::new() };
            if cut.epoch == self.epoch {
                frozen.changed = std::mem::take(&mut self.changed);
                frozen.records = std::mem::take(&mut self.removed);
            }
            if cut.full || !frozen.changed.is_empty() || !frozen.records.is_empty() {
                self.frozen.push(frozen);
            }
        }
        self.epoch = epoch;
    }

    #[inline]
    pub(super) fn touch(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        mut save: impl FnMut(&P, Cut, &mut Vec<u8>),
        changes: &mut usize,
    ) -> Option<Touched<'_, P>> {
        let index = self.table.find_bucket_index(at.local, |slot| is(&slot.payload))?;
        let Slot { epoch, payload } = self.table.get_bucket_mut(index)?;
        let before = *epoch & !BORN;
        if before != self.epoch {
            for frozen in &mut self.frozen {
                if frozen.cut.wants(before) {
                    save(payload, frozen.cut, &mut frozen.records);
                }
            }
            *epoch = self.epoch;
            self.changed.push(index as u32);
            *changes += 1;
        }
        let debts = Debts { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Touched { payload, before, debts, removed: &mut self.removed })
    }

    /// Adds an entry that is known not to be there; [`growth`](Self::growth) was heeded.
    pub(super) fn place(&mut self, at: Address, epoch: u32, payload: P) -> &mut P {
        let slot = Slot { epoch, payload };
        &mut self.table.insert_unique(at.local, slot, |slot| slot.payload.address().local).into_mut().payload
    }

    /// As [`place`](Self::place), for an entry of this epoch.
    pub(super) fn insert(&mut self, at: Address, payload: P) -> Touched<'_, P> {
        let slot = Slot { epoch: self.epoch | BORN, payload };
        let place = self.table.insert_unique(at.local, slot, |slot| slot.payload.address().local);
        self.changed.push(place.bucket_index() as u32);
        let debts = Debts { frozen: &mut self.frozen, epoch: self.epoch };
        Touched {
            payload: &mut place.into_mut().payload,
            before: self.epoch,
            debts,
            removed: &mut self.removed,
        }
    }

    pub(super) fn remove(&mut self, at: Address, is: impl Fn(&P) -> bool) -> Option<Removed<'_, P>> {
        let found = self.table.find_entry(at.local, |slot| is(&slot.payload)).ok()?;
        let Slot { epoch, payload } = found.remove().0;
        let known = epoch != (self.epoch | BORN);
        let debts = Debts { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Removed { payload, before: epoch & !BORN, known, debts, removed: &mut self.removed })
    }

    /// Moves what this shard has for `cut`; false when the budget ended first.
    pub(super) fn drain(
        &mut self,
        cut: Cut,
        budget: &mut usize,
        out: &mut Vec<Vec<u8>>,
        emit: &mut impl FnMut(&mut P, u32, Cut, &mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let Some(frozen) = self.frozen.first_mut().filter(|frozen| frozen.cut.epoch == cut.epoch) else {
            return Ok(true);
        };
        let mut buffer = match out.pop() {
            Some(last) if last.len() < CHUNK => last,
            Some(last) => {
                out.push(last);
                Vec::with_capacity(CHUNK + (CHUNK >> 4))
            }
            None => Vec::new(),
        };
        let mut visit = |slot: &mut Slot<P>| emit(&mut slot.payload, slot.epoch & !BORN, cut, &mut buffer);
        let mut result = Ok(true);
        if cut.full {
            // In one go: entries move when the shard grows, so a place to go on from would not last.
            result = self.table.iter_mut().try_for_each(visit).map(|()| true);
            *budget = budget.saturating_sub(self.table.len() + 1);
        } else {
            while let Some(index) = frozen.changed.pop() {
                if let Some(Err(error)) = self.table.get_bucket_mut(index as usize).map(&mut visit) {
                    result = Err(error);
                    break;
                }
                *budget = budget.saturating_sub(1);
                if *budget == 0 && !frozen.changed.is_empty() {
                    result = Ok(false);
                    break;
                }
            }
        }
        if matches!(result, Ok(true)) {
            buffer.append(&mut frozen.records);
            self.frozen.remove(0);
        }
        if !buffer.is_empty() {
            out.push(buffer);
        }
        result
    }

    /// Moves everything into a table of this capacity.
    pub(super) fn resize(&mut self, capacity: usize) {
        let mut grown = Self::with_capacity(capacity, self.epoch);
        self.move_to(|_| 0, &mut [&mut grown]);
        *self = grown;
    }

    /// Keeps the entries that are not `upper`, and gives a shard with the others.
    pub(super) fn split_off(&mut self, upper: impl Fn(Address) -> bool) -> Self {
        let capacity = self.table.capacity();
        let mut low = Self::with_capacity(capacity, self.epoch);
        let mut high = Self::with_capacity(capacity, self.epoch);
        self.move_to(|at| usize::from(upper(at)), &mut [&mut low, &mut high]);
        *self = low;
        high
    }

    /// Moves all entries, each to the target that `choose` gives, with what cuts have to know of them.
    fn move_to(&mut self, choose: impl Fn(Address) -> usize, targets: &mut [&mut Self]) {
        for (i, target) in targets.iter_mut().enumerate() {
            let halves = self.frozen.iter_mut().map(|frozen| Frozen {
                cut: frozen.cut,
                changed: Vec::new(),
                // Records are complete in themselves, so it does not matter who hands them over.
                records: if i == 0 { std::mem::take(&mut frozen.records) } else { Vec::new() },
            });
            target.frozen = halves.collect();
        }
        targets[0].removed = std::mem::take(&mut self.removed);
        for Slot { epoch, payload } in std::mem::take(&mut self.table) {
            let at = payload.address();
            let target = &mut *targets[choose(at)];
            let slot = Slot { epoch, payload };
            let place = target.table.insert_unique(at.local, slot, |slot| slot.payload.address().local);
            let index = place.bucket_index() as u32;
            let (epoch, payload) = (epoch & !BORN, &place.get().payload);
            for frozen in &mut target.frozen {
                if payload.changed_in(epoch, frozen.cut.epoch) {
                    frozen.changed.push(index);
                }
            }
            if payload.changed_in(epoch, target.epoch) {
                target.changed.push(index);
            }
        }
    }
}
