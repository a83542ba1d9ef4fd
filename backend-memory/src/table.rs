//! The state table: a hash table in small shards that knows which entries changed in which epoch.
//!
//! *Shards.* The upper bits of the key hash choose a small hash table through a directory, the lower bits the
//! slot in it. A full shard splits in two; so the table grows in steps of a few thousand entries, never all
//! at once, and a shard holds consecutive key groups.
//!
//! *Epochs.* A snapshot ends an epoch. Each entry carries the epoch of its last change; the first change of
//! an entry in an epoch also adds its slot to the shard's list of changes. A snapshot's cut is thus one
//! increment. The backend drains the entries of a cut from the lists later, shard by shard, in bounded steps.
//! An entry that changes before its drain is copied on write: the table first saves its old value as an
//! encoded record. The table copies no entry that did not change, and processing never stops.

use std::collections::VecDeque;

use strandline_state_api::backend::Demand;
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyHash, Result, StateKey};

mod change;
mod directory;
mod grow;
mod shard;
mod slots;

use crate::records::Records;
pub(crate) use change::{EpochCut, Removed, Touched};
use directory::Directory;
use shard::Shard;
use slots::Slots;

/// Marks the epoch of an entry that no snapshot before this epoch can hold: its removal leaves no tombstone.
const BORN: u32 = 1 << 31;

/// Entries of one kind, addressed by key and namespace.
pub(crate) trait Payload: Send + 'static {
    /// Computes the address; a shard calls this when it grows.
    fn address(&self) -> Address;

    /// Returns whether the cut of `epoch` has to visit the entry, given the epoch in its slot.
    fn changed_in(&self, slot_epoch: u32, epoch: u32) -> bool {
        slot_epoch == epoch
    }
}

/// The hash of the key, which chooses the shard, and the hash within the shard, which also depends on the
/// namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) hash: KeyHash,
    pub(crate) local: u64,
}

impl Address {
    #[inline]
    pub(crate) fn new<N: StateKey>(hash: KeyHash, namespace: &N) -> Self {
        // The lowest bits choose the slot and the highest are the tag. All key hashes of a shard have equal
        // highest bits, so the halves of the hash are swapped.
        let own = hash.0.rotate_left(32);
        let local = if N::WIDTH == Some(0) { own } else { own ^ namespace.key_hash().0 };
        Self { hash, local }
    }

    #[inline]
    fn tag(self) -> u16 {
        (self.local >> 48) as u16
    }
}

/// A position in a table, for walks in steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    shard: usize,
    slot: usize,
}

/// The shard and the slot of an entry, until the table changes.
#[derive(Clone, Copy)]
pub(crate) struct SlotPosition {
    shard: usize,
    slot: usize,
}

/// See the [module](self).
pub(crate) struct Table<P> {
    /// The slots of each shard.
    slots: Vec<Slots<P>>,
    /// The other fields of each shard.
    shards: Vec<Shard>,
    directory: Directory,
    epoch: u32,
    /// Cuts before `epoch` that are not drained, oldest first.
    cuts: VecDeque<EpochCut>,
    /// The slice where the drain of the oldest cut continues: it goes by the hash, so that records of near
    /// key groups come together.
    next_slice: usize,
    len: usize,
    /// The number of entries that changed in this epoch.
    changes: usize,
    demand: Demand,
}

impl<P: Payload> Table<P> {
    pub(crate) fn new(range: KeyGroupRange, epoch: u32) -> Self {
        Self {
            slots: vec![Shard::first_slots()],
            shards: vec![Shard::new(epoch)],
            directory: Directory::new(range),
            epoch,
            cuts: VecDeque::new(),
            next_slice: 0,
            len: 0,
            changes: 0,
            demand: Demand::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of entries that changed since the last cut.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    #[inline]
    pub(crate) fn get(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<&P> {
        self.slots[self.directory.shard_of(at.hash)?].find(at, is)
    }

    /// Finds an entry; the position holds until the table changes.
    #[inline]
    pub(crate) fn position(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<SlotPosition> {
        let shard = self.directory.shard_of(at.hash)?;
        Some(SlotPosition { shard, slot: self.slots[shard].position(at, is)? })
    }

    /// Returns the entry at a position.
    #[inline]
    pub(crate) fn at(&self, position: SlotPosition) -> Option<&P> {
        self.slots[position.shard].at(position.slot)
    }

    /// Counts an access, for [`announce`](Self::announce).
    #[inline]
    pub(crate) fn accessed(&mut self) {
        self.demand.access();
    }

    /// Prefetches the entries of announced keys while they are in demand. Entries in namespaces of type `N` are left
    /// out: the key alone does not determine their slot.
    pub(crate) fn announce<N: StateKey>(&mut self, hashes: &[KeyHash]) {
        if N::WIDTH == Some(0) && self.demand.announce(hashes.len()) {
            hashes.iter().for_each(|hash| self.prefetch(Address::new(*hash, &())));
        }
    }

    /// Prefetches the slots where a search for `at` starts. The call does not wait for them, so a batch of
    /// keys waits about once.
    #[inline]
    pub(crate) fn prefetch(&self, at: Address) {
        if let Some(shard) = self.directory.shard_of(at.hash) {
            self.slots[shard].prefetch(at);
        }
    }

    /// Returns the entry for a change. `save` writes its old value for a cut that still needs it; for a
    /// payload that changes in parts, `save` does nothing, and the caller saves the parts through
    /// [`Touched::copies`].
    #[inline(always)]
    pub(crate) fn modify(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        save: impl FnMut(&P, EpochCut, &mut Vec<u8>),
    ) -> Option<Touched<'_, P>> {
        let index = self.directory.shard_of(at.hash)?;
        let (shard, slots) = (&mut self.shards[index], &mut self.slots[index]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        shard.touch(slots, slots.position(at, is)?, save, &mut self.changes)
    }

    /// As [`modify`](Self::modify), for the entry at a position.
    #[inline]
    pub(crate) fn modify_at(
        &mut self,
        position: SlotPosition,
        save: impl FnMut(&P, EpochCut, &mut Vec<u8>),
    ) -> Option<Touched<'_, P>> {
        let (shard, slots) = (&mut self.shards[position.shard], &mut self.slots[position.shard]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        shard.touch(slots, position.slot, save, &mut self.changes)
    }

    /// Adds an entry that [`modify`](Self::modify) did not find.
    pub(crate) fn insert(&mut self, at: Address, payload: P) -> Result<Touched<'_, P>> {
        let index = self.reserve(at)?;
        let (shard, slots) = (&mut self.shards[index], &mut self.slots[index]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        self.len += 1;
        self.changes += 1;
        shard.insert(slots, at, payload).ok_or_else(vanished)
    }

    /// Returns the entry of a restored snapshot; if the table has none, `payload` creates it.
    pub(crate) fn restore(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        payload: impl FnOnce() -> P,
    ) -> Result<&mut P> {
        let index = self.directory.shard_or_foreign(at.hash)?;
        let found = self.slots[index].position(at, is);
        let payload = if let Some(found) = found {
            self.slots[index].entry(found).map(|(_, payload)| payload)
        } else {
            let index = self.reserve(at)?;
            self.len += 1;
            self.shards[index].restore(&mut self.slots[index], at, payload())
        };
        payload.ok_or_else(vanished)
    }

    #[inline]
    pub(crate) fn remove(&mut self, at: Address, is: impl Fn(&P) -> bool) -> Option<Removed<'_, P>> {
        let position = self.position(at, is)?;
        self.remove_at(position)
    }

    /// Removes the entry at a position.
    #[inline]
    pub(crate) fn remove_at(&mut self, position: SlotPosition) -> Option<Removed<'_, P>> {
        let (shard, slots) = (&mut self.shards[position.shard], &mut self.slots[position.shard]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        let removed = shard.remove(slots, position.slot)?;
        self.len -= 1;
        Some(removed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.slots.iter().flat_map(Slots::iter)
    }

    /// Visits the entries of about `budget` slots from `cursor` on, at most once around, and advances
    /// `cursor`. An entry that moves between two calls, because its shard grows, may be visited later or
    /// again.
    pub(crate) fn visit_some(&self, cursor: &mut Cursor, mut budget: usize, mut visit: impl FnMut(&P)) {
        for _ in 0..=self.slots.len() {
            let Some(slots) = self.slots.get(cursor.shard) else {
                *cursor = Cursor::default();
                continue;
            };
            let end = slots.len().min(cursor.slot.saturating_add(budget));
            slots.iter_between(cursor.slot, end).for_each(&mut visit);
            budget = budget.saturating_sub(end.saturating_sub(cursor.slot));
            if end < slots.len() {
                cursor.slot = end;
                return;
            }
            *cursor = Cursor { shard: cursor.shard + 1, slot: 0 };
        }
    }

    /// Returns the entries of all shards with key groups in `range`, which include some of other key groups.
    pub(crate) fn iter_near(&self, range: KeyGroupRange) -> impl Iterator<Item = &P> {
        let shards = self.directory.shards_near(range);
        shards.into_iter().flat_map(|shard| self.slots[shard as usize].iter())
    }

    /// Ends the epoch: the current entries belong to the cut.
    pub(crate) fn cut(&mut self, full: bool) {
        self.cuts.push_back(EpochCut { epoch: self.epoch, full });
        self.epoch += 1;
        self.changes = 0;
    }

    /// Forgets all cuts that are not drained, and with them the changes since the last snapshot: the next cut
    /// must be a full one.
    pub(crate) fn abandon(&mut self) {
        self.shards.iter_mut().for_each(Shard::abandon);
        self.cuts.clear();
        self.next_slice = 0;
    }

    /// Moves about `budget` entries of the oldest cut to `out`, each by a call of `emit(payload, its epoch,
    /// the cut, out)`; returns whether the cut is drained.
    pub(crate) fn drain(
        &mut self,
        budget: &mut usize,
        out: &mut Records,
        mut emit: impl FnMut(&mut P, u32, EpochCut, &mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let Some(&cut) = self.cuts.front() else { return Ok(true) };
        while let Some((index, slices)) = self.directory.shard_at(self.next_slice) {
            if *budget == 0 {
                return Ok(false);
            }
            let (shard, slots) = (&mut self.shards[index], &mut self.slots[index]);
            if shard.epoch <= cut.epoch {
                shard.roll(self.epoch, &self.cuts);
            }
            let buffer = out.buffer(self.directory.key_group_at(self.next_slice));
            if !shard.drain(slots, cut, budget, buffer, &mut emit)? {
                return Ok(false);
            }
            *budget = budget.saturating_sub(1);
            self.next_slice += slices;
        }
        self.next_slice = 0;
        self.cuts.pop_front();
        Ok(true)
    }
}

fn vanished() -> Error {
    Error::new(ErrorKind::Internal, "an entry of the state table vanished")
}

impl<P> std::fmt::Debug for Table<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("entries", &self.len)
            .field("shards", &self.shards.len())
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
