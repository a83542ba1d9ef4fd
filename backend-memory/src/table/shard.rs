//! The bookkeeping of a few thousand slots: the list of changes, and the changes of cuts that are not
//! drained.

use std::collections::VecDeque;

use strandline_state_api::Result;

use super::change::{CopyOnWrite, EpochCut, Frozen, Removed, Touched};
use super::directory::Middle;
use super::slots::{MIN_SLOTS, Slots, Taken};
use super::{Address, BORN, Payload};

/// The number of slots from which on a shard splits. It is so small that a split takes some ten microseconds.
const MAX_SLOTS: usize = 4096;

// One cache line holds the fields that a change needs. The table holds the slots elsewhere, side by side with
// those of the other shards: a read needs nothing else, and so few bytes for each shard stay in the cache.
#[repr(C, align(64))]
pub(super) struct Shard {
    /// The epoch of `changed` and `tombstones`.
    pub(super) epoch: u32,
    /// The number of slots that are not empty: full or deleted.
    used: u32,
    live: u32,
    changed: Vec<u32>,
    tombstones: Vec<u8>,
    frozen: Vec<Frozen>,
}

/// How a crowded shard makes room.
pub(super) enum Growth {
    /// The shard has room.
    None,
    /// The shard moves to this many slots.
    Resize(usize),
    /// The shard splits; if that does not help, it moves to this many slots.
    Split(usize),
}

impl Shard {
    pub(super) fn new(epoch: u32) -> Self {
        Self { epoch, used: 0, live: 0, changed: Vec::new(), tombstones: Vec::new(), frozen: Vec::new() }
    }

    /// Returns the slots of a new shard.
    pub(super) fn first_slots<P: Payload>() -> Slots<P> {
        Slots::new(MIN_SLOTS)
    }

    /// Returns how the shard has to grow before it takes one more entry, so that probes stay short.
    pub(super) fn growth(&self, slots: usize) -> Growth {
        let (used, live) = (self.used as usize, self.live as usize);
        if (used + 1) * 3 <= slots * 2 {
            Growth::None
        } else if live * 3 < slots {
            // Deleted slots take up the room.
            Growth::Resize(slots)
        } else if slots < MAX_SLOTS {
            Growth::Resize(slots * 2)
        } else {
            Growth::Split(slots * 2)
        }
    }

    /// Brings the shard to the current epoch: changes of an older one are frozen for the cut that ended it.
    #[cold]
    pub(super) fn roll(&mut self, epoch: u32, cuts: &VecDeque<EpochCut>) {
        for &cut in cuts.iter().filter(|cut| cut.epoch >= self.epoch) {
            let mut frozen = Frozen { cut, changed: Vec::new(), records: Vec::new() };
            if cut.epoch == self.epoch {
                frozen.changed = std::mem::take(&mut self.changed);
                frozen.records = std::mem::take(&mut self.tombstones);
            }
            if cut.full || !frozen.changed.is_empty() || !frozen.records.is_empty() {
                self.frozen.push(frozen);
            }
        }
        self.epoch = epoch;
    }

    /// Forgets the changes of all cuts.
    pub(super) fn abandon(&mut self) {
        self.frozen.clear();
    }

    #[inline(always)]
    pub(super) fn touch<'a, P: Payload>(
        &'a mut self,
        slots: &'a mut Slots<P>,
        index: usize,
        save: impl FnMut(&P, EpochCut, &mut Vec<u8>),
        changes: &mut usize,
    ) -> Option<Touched<'a, P>> {
        let (epoch, payload) = slots.entry(index)?;
        let before = *epoch & !BORN;
        if before != self.epoch {
            if !self.frozen.is_empty() {
                copy_before_write(&mut self.frozen, before, payload, save);
            }
            *epoch = self.epoch;
            self.changed.push(index as u32);
            *changes += 1;
        }
        let copies = CopyOnWrite { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Touched { payload, before, copies, tombstones: &mut self.tombstones })
    }

    /// Adds an entry that the shard does not have and returns its slot; the caller has followed
    /// [`growth`](Self::growth).
    fn put<P: Payload>(&mut self, slots: &mut Slots<P>, at: Address, epoch: u32, payload: P) -> usize {
        let (index, was_empty) = slots.put(at, epoch, payload);
        self.used += u32::from(was_empty);
        self.live += 1;
        index
    }

    /// Adds an entry of a restored snapshot that the shard does not have.
    pub(super) fn restore<'a, P: Payload>(
        &mut self,
        slots: &'a mut Slots<P>,
        at: Address,
        payload: P,
    ) -> Option<&'a mut P> {
        let index = self.put(slots, at, 0, payload);
        slots.entry(index).map(|(_, payload)| payload)
    }

    /// Adds an entry of this epoch that the shard does not have.
    pub(super) fn insert<'a, P: Payload>(
        &'a mut self,
        slots: &'a mut Slots<P>,
        at: Address,
        payload: P,
    ) -> Option<Touched<'a, P>> {
        let index = self.put(slots, at, self.epoch | BORN, payload);
        self.changed.push(index as u32);
        let (_, payload) = slots.entry(index)?;
        let copies = CopyOnWrite { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Touched { payload, before: self.epoch, copies, tombstones: &mut self.tombstones })
    }

    /// Removes the entry of a slot.
    #[inline]
    pub(super) fn remove<P: Payload>(
        &mut self,
        slots: &mut Slots<P>,
        index: usize,
    ) -> Option<Removed<'_, P>> {
        let Taken { epoch, payload, emptied } = slots.take(index)?;
        self.live -= 1;
        self.used -= emptied;
        let known = epoch != (self.epoch | BORN);
        let copies = CopyOnWrite { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Removed { payload, before: epoch & !BORN, known, copies, tombstones: &mut self.tombstones })
    }

    /// Moves the shard's entries of `cut`; returns whether all are moved before the budget is used up.
    pub(super) fn drain<P: Payload>(
        &mut self,
        slots: &mut Slots<P>,
        cut: EpochCut,
        budget: &mut usize,
        out: &mut Vec<u8>,
        emit: &mut impl FnMut(&mut P, u32, EpochCut, &mut Vec<u8>) -> Result<()>,
    ) -> Result<bool> {
        let Some(frozen) = self.frozen.first_mut().filter(|frozen| frozen.cut.epoch == cut.epoch) else {
            return Ok(true);
        };
        let mut result = Ok(true);
        if cut.full {
            // In one go: entries move when the shard grows, so a position to continue from would not last.
            let all = slots.iter_mut().try_for_each(|(epoch, payload)| emit(payload, epoch, cut, out));
            result = all.map(|()| true);
            *budget = budget.saturating_sub(self.live as usize);
        } else {
            while let Some(index) = frozen.changed.pop() {
                if let Some((epoch, payload)) = slots.entry(index as usize)
                    && let Err(error) = emit(payload, *epoch & !BORN, cut, out)
                {
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
            out.append(&mut frozen.records);
            self.frozen.remove(0);
        }
        result
    }

    /// Moves all entries into this many slots.
    pub(super) fn resize<P: Payload>(&mut self, slots: &mut Slots<P>, count: usize) {
        let mut grown = (self.heir(), Slots::new(count));
        grown.0.take_records(self);
        Self::move_to(slots, None, &mut [&mut grown]);
        (*self, *slots) = grown;
    }

    /// Keeps the entries of the lower half, and returns a shard with the others.
    pub(super) fn split_off<P: Payload>(&mut self, slots: &mut Slots<P>, middle: Middle) -> (Self, Slots<P>) {
        let mut low = (self.heir(), Slots::new(slots.len()));
        let mut high = (self.heir(), Slots::new(slots.len()));
        // A record is complete in itself, so either shard may hold it.
        low.0.take_records(self);
        Self::move_to(slots, Some(middle), &mut [&mut low, &mut high]);
        (*self, *slots) = low;
        high
    }

    /// Returns a shard without entries that has the cuts of this one.
    fn heir(&self) -> Self {
        let mut heir = Self::new(self.epoch);
        let cuts = self.frozen.iter().map(|frozen| frozen.cut);
        heir.frozen = cuts.map(|cut| Frozen { cut, changed: Vec::new(), records: Vec::new() }).collect();
        heir
    }

    /// Takes over the records of the shard whose heir this is.
    fn take_records(&mut self, from: &mut Self) {
        self.tombstones = std::mem::take(&mut from.tombstones);
        for (frozen, from) in self.frozen.iter_mut().zip(&mut from.frozen) {
            frozen.records = std::mem::take(&mut from.records);
        }
    }

    /// Moves all entries, with their changes for each cut, to the first target, those of the upper half to the second
    /// one.
    fn move_to<P: Payload>(
        slots: &mut Slots<P>,
        middle: Option<Middle>,
        targets: &mut [&mut (Self, Slots<P>)],
    ) {
        for (epoch, payload) in std::mem::replace(slots, Slots::new(0)).into_entries() {
            let at = payload.address();
            let upper = middle.is_some_and(|middle| middle.has_upper(at.hash));
            let (target, slots) = &mut *targets[usize::from(upper)];
            let index = target.put(slots, at, epoch, payload);
            let Some((_, payload)) = slots.entry(index) else { continue };
            let epoch = epoch & !BORN;
            for frozen in &mut target.frozen {
                if payload.changed_in(epoch, frozen.cut.epoch) {
                    frozen.changed.push(index as u32);
                }
            }
            if payload.changed_in(epoch, target.epoch) {
                target.changed.push(index as u32);
            }
        }
    }
}

/// Saves a payload of epoch `before` for the cuts that need it. A function of its own, so that a change,
/// which seldom meets an undrained cut, stays small enough for its caller.
#[inline(never)]
fn copy_before_write<P>(
    frozen: &mut [Frozen],
    before: u32,
    payload: &P,
    mut save: impl FnMut(&P, EpochCut, &mut Vec<u8>),
) {
    for frozen in frozen.iter_mut().filter(|frozen| frozen.cut.wants(before)) {
        save(payload, frozen.cut, &mut frozen.records);
    }
}
