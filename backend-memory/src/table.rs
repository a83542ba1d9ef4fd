//! The state table: a hash table in small shards that knows what changed since when.
//!
//! *Shards.* The upper bits of the key hash choose a small hash table through a directory, the lower bits the slot in it.
//! A full shard splits in two; so the table grows in steps of a few thousand entries, never all at once, and a shard holds
//! consecutive key groups.
//!
//! *Epochs.* A snapshot ends an epoch. Each entry carries the epoch of its last change; the first change of an entry in an
//! epoch also puts its slot on the shard's list of changes. A snapshot's cut is thus one increment. Its entries are drained
//! from the lists later, shard by shard, in bounded steps; an entry that changes before it was drained first saves its old
//! value as an encoded record. Nothing is copied that did not change, and nothing stops.

use std::collections::VecDeque;

use strandline_state_api::{Error, KeyGroupRange, KeyHash, Result, StateKey};

mod grow;
mod shard;
mod slots;

use shard::{Frozen, Shard};
use slots::Slots;

/// Marks the epoch of an entry that no snapshot before this epoch can know: its removal leaves no tombstone.
const BORN: u32 = 1 << 31;

/// Entries of one kind, addressed by key and namespace.
pub(crate) trait Payload: Send + 'static {
    /// Where it lives; computed anew when a shard grows.
    fn address(&self) -> Address;

    /// Whether the cut of `epoch` has to visit it, given the epoch in its slot.
    fn changed_in(&self, slot_epoch: u32, epoch: u32) -> bool {
        slot_epoch == epoch
    }
}

/// The hash of the key, which chooses the shard, and the hash within the shard, which depends on the namespace too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) hash: KeyHash,
    pub(crate) local: u64,
}

impl Address {
    #[inline]
    pub(crate) fn new<N: StateKey>(hash: KeyHash, namespace: &N) -> Self {
        // The slot is read from the lowest and the tag from the highest bits; the highest of the key hash are alike in a
        // shard, so its halves change places.
        let own = hash.0.rotate_left(32);
        let local = if N::WIDTH == Some(0) { own } else { own ^ namespace.key_hash().0 };
        Self { hash, local }
    }

    #[inline]
    fn tag(self) -> u16 {
        (self.local >> 48) as u16
    }
}

/// A place in a table, for walks in steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    shard: usize,
    slot: usize,
}

/// A cut that is not drained yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) epoch: u32,
    /// Whether it takes all entries, not only those of its epoch.
    pub(crate) full: bool,
}

impl Cut {
    /// Whether it has to know something that was last changed in `epoch`.
    #[inline]
    pub(crate) fn wants(self, epoch: u32) -> bool {
        epoch == self.epoch || (self.full && epoch < self.epoch)
    }
}

/// What an entry that is about to change owes to cuts that are not drained yet.
pub(crate) struct Debts<'a> {
    frozen: &'a mut [Frozen],
    pub(crate) epoch: u32,
}

impl Debts<'_> {
    /// Calls `save` with the records of every cut that has to keep the old value of something last changed in `epoch`.
    #[inline]
    pub(crate) fn save(&mut self, epoch: u32, mut save: impl FnMut(Cut, &mut Vec<u8>)) {
        for frozen in &mut *self.frozen {
            if frozen.cut.wants(epoch) {
                save(frozen.cut, &mut frozen.records);
            }
        }
    }
}

/// An entry that may be changed. Its first change in this epoch has been noted.
pub(crate) struct Touched<'a, P> {
    pub(crate) payload: &'a mut P,
    /// The epoch of its last change before this one, without the mark of birth.
    pub(crate) before: u32,
    /// Old values that are owed; already paid for payloads that change as a whole.
    pub(crate) debts: Debts<'a>,
    /// Records of this epoch that are no entries: tombstones.
    pub(crate) removed: &'a mut Vec<u8>,
}

/// An entry that was taken out.
pub(crate) struct Removed<'a, P> {
    pub(crate) payload: P,
    /// The epoch of its last change.
    pub(crate) before: u32,
    /// Whether older snapshots may hold it, so that a tombstone is needed.
    pub(crate) known: bool,
    pub(crate) debts: Debts<'a>,
    pub(crate) removed: &'a mut Vec<u8>,
}

/// See the [module](self).
pub(crate) struct Table<P> {
    /// The slots of each shard.
    slots: Vec<Slots<P>>,
    /// What else belongs to each shard.
    shards: Vec<Shard>,
    /// Shard of each slice of the hash range, in order of the hash; a shard has one or more neighbouring slices.
    directory: Vec<u32>,
    /// The lowest hash of the key groups of this table.
    base: u64,
    /// A slice holds `1 << shift` hashes.
    shift: u32,
    epoch: u32,
    /// Cuts before `epoch` that are not drained, oldest first.
    cuts: VecDeque<Cut>,
    /// Where the drain of the oldest cut stands.
    next_shard: usize,
    len: usize,
    /// First changes in this epoch.
    changes: usize,
}

impl<P: Payload> Table<P> {
    pub(crate) fn new(range: KeyGroupRange, epoch: u32) -> Self {
        let base = u64::from(range.start()) << 49;
        let width = u128::from(range.len()) << 49;
        let shift = (128 - width.leading_zeros()).clamp(1, 64) - 1;
        let slices = width.div_ceil(1 << shift).max(1) as usize;
        Self {
            slots: vec![Shard::first_slots()],
            shards: vec![Shard::new(epoch)],
            directory: vec![0; slices],
            base,
            shift,
            epoch,
            cuts: VecDeque::new(),
            next_shard: 0,
            len: 0,
            changes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// First changes since the last cut.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    #[inline]
    fn shard_of(&self, hash: KeyHash) -> Option<usize> {
        let slice = hash.0.wrapping_sub(self.base) >> self.shift;
        self.directory.get(slice as usize).map(|shard| *shard as usize)
    }

    fn shard_or_foreign(&self, hash: KeyHash) -> Result<usize> {
        self.shard_of(hash).ok_or_else(|| {
            Error::invalid("the key does not belong to the key groups of this subtask")
                .with("key group", strandline_state_api::KeyGroup::of(hash))
        })
    }

    #[inline]
    pub(crate) fn get(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<&P> {
        self.slots[self.shard_of(at.hash)?].find(at, is)
    }

    /// Where an entry is, until the table changes.
    #[inline]
    pub(crate) fn place(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<(usize, usize)> {
        let shard = self.shard_of(at.hash)?;
        Some((shard, self.slots[shard].position(at, is)?))
    }

    /// The entry at a place.
    #[inline]
    pub(crate) fn at(&self, (shard, slot): (usize, usize)) -> Option<&P> {
        self.slots[shard].at(slot)
    }

    /// Asks for the memory where a search for `at` starts. Nothing waits for it here, so a batch of keys waits about once.
    #[inline]
    pub(crate) fn prefetch(&self, at: Address) {
        if let Some(shard) = self.shard_of(at.hash) {
            self.slots[shard].prefetch(at);
        }
    }

    /// Gives the entry for a change. `save` writes its old value for a cut that still owes it; payloads that change in
    /// parts do nothing there and pay later from [`Touched::debts`].
    #[inline]
    pub(crate) fn modify(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        save: impl FnMut(&P, Cut, &mut Vec<u8>),
    ) -> Option<Touched<'_, P>> {
        let index = self.shard_of(at.hash)?;
        let (shard, slots) = (&mut self.shards[index], &mut self.slots[index]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        shard.touch(slots, at, is, save, &mut self.changes)
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

    /// Adds an entry that is part of a restored snapshot, or gives the one that is there.
    pub(crate) fn restore(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        payload: impl FnOnce() -> P,
    ) -> Result<&mut P> {
        let index = self.shard_or_foreign(at.hash)?;
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
        let index = self.shard_of(at.hash)?;
        let (shard, slots) = (&mut self.shards[index], &mut self.slots[index]);
        if shard.epoch != self.epoch {
            shard.roll(self.epoch, &self.cuts);
        }
        let removed = shard.remove(slots, at, is)?;
        self.len -= 1;
        Some(removed)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.slots.iter().flat_map(Slots::iter)
    }

    /// Visits entries from where `cursor` stands, for about `budget` slots or once around, and moves it on. Entries that move
    /// meanwhile, because their shard grows, may be visited later or again.
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

    /// The entries of all shards with key groups in `range`, so those of some others too.
    pub(crate) fn iter_near(&self, range: KeyGroupRange) -> impl Iterator<Item = &P> {
        let first = (u64::from(range.start()) << 49).saturating_sub(self.base) >> self.shift;
        let behind = u64::try_from((u128::from(range.end()) << 49).saturating_sub(u128::from(self.base)))
            .unwrap_or(u64::MAX);
        let end = if range.is_empty() { 0 } else { (behind.saturating_sub(1) >> self.shift) as usize + 1 };
        let end = end.min(self.directory.len());
        let mut shards = self.directory.get(first as usize..end).unwrap_or_default().to_vec();
        // The slices of a shard are neighbours.
        shards.dedup();
        shards.into_iter().flat_map(|shard| self.slots[shard as usize].iter())
    }

    /// Ends the epoch: what is in the table now belongs to the cut.
    pub(crate) fn cut(&mut self, full: bool) {
        self.cuts.push_back(Cut { epoch: self.epoch, full });
        self.epoch += 1;
        self.changes = 0;
    }

    /// Forgets all cuts that are not drained. Only a full cut can follow: what changed is not known any more.
    pub(crate) fn abandon(&mut self) {
        self.shards.iter_mut().for_each(Shard::abandon);
        self.cuts.clear();
        self.next_shard = 0;
    }

    /// Moves entries of the oldest cut to `out` by calls of `emit(payload, its epoch, the cut, out, budget)`, until about
    /// `budget` are moved. True when the cut is drained.
    pub(crate) fn drain(
        &mut self,
        budget: &mut usize,
        out: &mut Vec<Vec<u8>>,
        mut emit: impl FnMut(&mut P, u32, Cut, &mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let Some(&cut) = self.cuts.front() else { return Ok(true) };
        while let (Some(shard), Some(slots)) =
            (self.shards.get_mut(self.next_shard), self.slots.get_mut(self.next_shard))
        {
            if *budget == 0 {
                return Ok(false);
            }
            if shard.epoch <= cut.epoch {
                shard.roll(self.epoch, &self.cuts);
            }
            if !shard.drain(slots, cut, budget, out, &mut emit)? {
                return Ok(false);
            }
            *budget = budget.saturating_sub(1);
            self.next_shard += 1;
        }
        self.next_shard = 0;
        self.cuts.pop_front();
        Ok(true)
    }
}

fn vanished() -> Error {
    Error::new(strandline_state_api::ErrorKind::Internal, "an entry of the state table vanished")
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
