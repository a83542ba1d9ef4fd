//! A few thousand slots: probing, the list of changes, and what is frozen for cuts that are not drained.
//!
//! Linear probing over whole entries: a search mostly reads one cache line, where tables with separate control bytes read two.

use std::collections::VecDeque;

use strandline_state_api::Result;

use super::{Address, BORN, Cut, Debts, Payload, Removed, Touched};

/// Slots of a shard that may still split. Small enough that a split takes some ten microseconds.
const MAX_SLOTS: usize = 4096;
const MIN_SLOTS: usize = 8;
/// A buffer of records is handed over when it reaches this size, so that none is ever grown by copying megabytes.
const CHUNK: usize = 1 << 20;

// One enum and no nested struct, so that tag and epoch stand in the padding of the discriminant: 24 bytes for u64 to u64.
enum Slot<P> {
    Empty,
    /// Was full once: probing goes on behind it.
    Deleted,
    Full {
        tag: u16,
        /// Of the last change; with [`BORN`] when the entry came into being then.
        epoch: u32,
        payload: P,
    },
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
    slots: Box<[Slot<P>]>,
    /// The epoch of `changed` and `removed`.
    pub(super) epoch: u32,
    /// Slots that are not empty: full or deleted.
    used: u32,
    live: u32,
    changed: Vec<u32>,
    removed: Vec<u8>,
    frozen: Vec<Frozen>,
}

/// How a crowded shard gets room.
pub(super) enum Growth {
    /// There is room.
    None,
    /// By this many slots.
    Resize(usize),
    /// By a split, if that helps, else by this many slots.
    Split(usize),
}

impl<P: Payload> Shard<P> {
    pub(super) fn new(epoch: u32) -> Self {
        Self::with_slots(MIN_SLOTS, epoch)
    }

    fn with_slots(slots: usize, epoch: u32) -> Self {
        let slots = (0..slots).map(|_| Slot::Empty).collect();
        Self { slots, epoch, used: 0, live: 0, changed: Vec::new(), removed: Vec::new(), frozen: Vec::new() }
    }

    /// What is needed before one more entry, so that probes stay short.
    pub(super) fn growth(&self) -> Growth {
        let (slots, used, live) = (self.slots.len(), self.used as usize, self.live as usize);
        if (used + 1) * 3 <= slots * 2 {
            Growth::None
        } else if live * 3 < slots {
            // Deleted slots take the room.
            Growth::Resize(slots)
        } else if slots < MAX_SLOTS {
            Growth::Resize(slots * 2)
        } else {
            Growth::Split(slots * 2)
        }
    }

    #[inline]
    fn position(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<usize> {
        let (mask, tag) = (self.slots.len() - 1, at.tag());
        let mut index = at.local as usize & mask;
        loop {
            match &self.slots[index] {
                Slot::Full { tag: found, payload, .. } if *found == tag && is(payload) => return Some(index),
                Slot::Empty => return None,
                _ => index = (index + 1) & mask,
            }
        }
    }

    #[inline]
    pub(super) fn find(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<&P> {
        match &self.slots[self.position(at, is)?] {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        }
    }

    pub(super) fn find_mut(&mut self, at: Address, is: impl Fn(&P) -> bool) -> Option<&mut P> {
        let index = self.position(at, is)?;
        match &mut self.slots[index] {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        }
    }

    /// A bit of the slot where a search for `at` starts. Without a branch on it, so that reads of many slots overlap.
    #[inline]
    pub(super) fn peek(&self, at: Address) -> u32 {
        u32::from(matches!(self.slots[at.local as usize & (self.slots.len() - 1)], Slot::Empty))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &P> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        })
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

    /// Forgets what it holds for cuts.
    pub(super) fn abandon(&mut self) {
        self.frozen.clear();
    }

    #[inline]
    pub(super) fn touch(
        &mut self,
        at: Address,
        is: impl Fn(&P) -> bool,
        mut save: impl FnMut(&P, Cut, &mut Vec<u8>),
        changes: &mut usize,
    ) -> Option<Touched<'_, P>> {
        let index = self.position(at, is)?;
        let Slot::Full { epoch, payload, .. } = &mut self.slots[index] else { return None };
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

    /// Adds an entry that is known not to be there, and says where; [`growth`](Self::growth) was heeded.
    fn put(&mut self, at: Address, epoch: u32, payload: P) -> usize {
        let mask = self.slots.len() - 1;
        let mut index = at.local as usize & mask;
        while matches!(self.slots[index], Slot::Full { .. }) {
            index = (index + 1) & mask;
        }
        if matches!(self.slots[index], Slot::Empty) {
            self.used += 1;
        }
        self.live += 1;
        self.slots[index] = Slot::Full { tag: at.tag(), epoch, payload };
        index
    }

    /// Adds an entry of a restored snapshot that is known not to be there.
    pub(super) fn restore(&mut self, at: Address, payload: P) -> Option<&mut P> {
        let index = self.put(at, 0, payload);
        match &mut self.slots[index] {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        }
    }

    /// Adds an entry of this epoch that is known not to be there.
    pub(super) fn insert(&mut self, at: Address, payload: P) -> Option<Touched<'_, P>> {
        let index = self.put(at, self.epoch | BORN, payload);
        self.changed.push(index as u32);
        let Slot::Full { payload, .. } = &mut self.slots[index] else { return None };
        let debts = Debts { frozen: &mut self.frozen, epoch: self.epoch };
        Some(Touched { payload, before: self.epoch, debts, removed: &mut self.removed })
    }

    pub(super) fn remove(&mut self, at: Address, is: impl Fn(&P) -> bool) -> Option<Removed<'_, P>> {
        let index = self.position(at, is)?;
        let mask = self.slots.len() - 1;
        // With nothing behind it, no probe has to go on: the slot, and deleted ones before it, can be empty again.
        let last = matches!(self.slots[(index + 1) & mask], Slot::Empty);
        let slot = std::mem::replace(&mut self.slots[index], if last { Slot::Empty } else { Slot::Deleted });
        let Slot::Full { epoch, payload, .. } = slot else { return None };
        self.live -= 1;
        if last {
            self.used -= 1;
            let mut before = index.wrapping_sub(1) & mask;
            while matches!(self.slots[before], Slot::Deleted) {
                self.slots[before] = Slot::Empty;
                self.used -= 1;
                before = before.wrapping_sub(1) & mask;
            }
        }
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
        let mut visit = |slot: &mut Slot<P>| match slot {
            Slot::Full { epoch, payload, .. } => emit(payload, *epoch & !BORN, cut, &mut buffer),
            _ => Ok(()),
        };
        let mut result = Ok(true);
        if cut.full {
            // In one go: entries move when the shard grows, so a place to go on from would not last.
            result = self.slots.iter_mut().try_for_each(visit).map(|()| true);
            *budget = budget.saturating_sub(self.live as usize);
        } else {
            while let Some(index) = frozen.changed.pop() {
                if let Err(error) = visit(&mut self.slots[index as usize]) {
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

    /// Moves everything into this many slots.
    pub(super) fn resize(&mut self, slots: usize) {
        let mut grown = Self::with_slots(slots, self.epoch);
        self.move_to(|_| 0, &mut [&mut grown]);
        *self = grown;
    }

    /// Keeps the entries that are not `upper`, and gives a shard with the others.
    pub(super) fn split_off(&mut self, upper: impl Fn(Address) -> bool) -> Self {
        let mut low = Self::with_slots(self.slots.len(), self.epoch);
        let mut high = Self::with_slots(self.slots.len(), self.epoch);
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
        for slot in std::mem::take(&mut self.slots) {
            let Slot::Full { epoch, payload, .. } = slot else { continue };
            let at = payload.address();
            let target = &mut *targets[choose(at)];
            let index = target.put(at, epoch, payload);
            let Slot::Full { payload, .. } = &target.slots[index] else { continue };
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
