//! The slots of a shard: linear probing over whole entries.
//!
//! A search mostly reads one cache line, where tables with separate control bytes read two.

use prefetch_index::prefetch_index;

use super::{Address, BORN, Payload};

pub(super) const MIN_SLOTS: usize = 8;

// One enum and no nested struct, so that tag and epoch fit into the padding of the discriminant: 24 bytes for
// u64 to u64.
enum Slot<P> {
    Empty,
    /// A removed entry: a probe continues behind it.
    Deleted,
    Full {
        tag: u16,
        /// The epoch of the last change; with [`BORN`] if the entry was created in it.
        epoch: u32,
        payload: P,
    },
}

/// The slots of a shard: a power of two, never all in use.
pub(super) struct Slots<P>(Box<[Slot<P>]>);

/// A removed entry.
pub(super) struct Taken<P> {
    pub(super) epoch: u32,
    pub(super) payload: P,
    /// The number of slots that became empty.
    pub(super) emptied: u32,
}

impl<P: Payload> Slots<P> {
    /// The number of slots in a cache line, at least one.
    const LINE: usize = if size_of::<Slot<P>>() < 64 { 64 / size_of::<Slot<P>>() } else { 1 };

    pub(super) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| Slot::Empty).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the slot where a search for `at` starts.
    #[inline]
    fn start(&self, at: Address) -> usize {
        at.local as usize & (self.0.len() - 1)
    }

    #[inline]
    fn after(&self, index: usize) -> usize {
        (index + 1) & (self.0.len() - 1)
    }

    #[inline]
    pub(super) fn find(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<&P> {
        let (mut index, tag) = (self.start(at), at.tag());
        loop {
            match &self.0[index] {
                Slot::Full { tag: found, payload, .. } if *found == tag && is(payload) => {
                    return Some(payload);
                }
                Slot::Empty => return None,
                _ => index = self.after(index),
            }
        }
    }

    #[inline]
    pub(super) fn position(&self, at: Address, is: impl Fn(&P) -> bool) -> Option<usize> {
        let (mut index, tag) = (self.start(at), at.tag());
        loop {
            match &self.0[index] {
                Slot::Full { tag: found, payload, .. } if *found == tag && is(payload) => return Some(index),
                Slot::Empty => return None,
                _ => index = self.after(index),
            }
        }
    }

    /// Returns the payload of the entry in a slot.
    #[inline]
    pub(super) fn at(&self, index: usize) -> Option<&P> {
        match self.0.get(index)? {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        }
    }

    /// Returns the epoch and the payload of the entry in a slot.
    #[inline]
    pub(super) fn entry(&mut self, index: usize) -> Option<(&mut u32, &mut P)> {
        match self.0.get_mut(index)? {
            Slot::Full { epoch, payload, .. } => Some((epoch, payload)),
            _ => None,
        }
    }

    /// Prefetches the two cache lines where a search for `at` starts; most searches end in them.
    #[inline]
    pub(super) fn prefetch(&self, at: Address) {
        let start = self.start(at);
        for index in [start, start + Self::LINE] {
            if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
                // The instruction does not wait.
                prefetch_index(&self.0, index);
            } else {
                // Safe and stable Rust has no such instruction; reads without a branch on them overlap, too.
                std::hint::black_box(self.0.get(index).is_some_and(|slot| matches!(slot, Slot::Empty)));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &P> {
        self.iter_between(0, self.0.len())
    }

    /// Returns the entries of the slots from `start` to before `end`.
    pub(super) fn iter_between(&self, start: usize, end: usize) -> impl Iterator<Item = &P> {
        self.0.get(start..end).unwrap_or_default().iter().filter_map(|slot| match slot {
            Slot::Full { payload, .. } => Some(payload),
            _ => None,
        })
    }

    /// Returns the entries with their epochs, without the mark of birth.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut P)> {
        self.0.iter_mut().filter_map(|slot| match slot {
            Slot::Full { epoch, payload, .. } => Some((*epoch & !BORN, payload)),
            _ => None,
        })
    }

    /// Adds an entry that the slots do not have; returns its slot, and whether that slot was empty.
    pub(super) fn put(&mut self, at: Address, epoch: u32, payload: P) -> (usize, bool) {
        let mut index = self.start(at);
        while matches!(self.0[index], Slot::Full { .. }) {
            index = self.after(index);
        }
        let was_empty = matches!(self.0[index], Slot::Empty);
        self.0[index] = Slot::Full { tag: at.tag(), epoch, payload };
        (index, was_empty)
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Taken<P>> {
        // If the next slot is empty, no probe continues here: this slot, and deleted ones before it, become
        // empty.
        let last = matches!(self.0[self.after(index)], Slot::Empty);
        let slot = std::mem::replace(&mut self.0[index], if last { Slot::Empty } else { Slot::Deleted });
        let Slot::Full { epoch, payload, .. } = slot else { return None };
        let mut emptied = u32::from(last);
        if last {
            let mask = self.0.len() - 1;
            let mut before = index.wrapping_sub(1) & mask;
            while matches!(self.0[before], Slot::Deleted) {
                self.0[before] = Slot::Empty;
                emptied += 1;
                before = before.wrapping_sub(1) & mask;
            }
        }
        Some(Taken { epoch, payload, emptied })
    }

    /// Returns all entries with their epochs.
    pub(super) fn into_entries(self) -> impl Iterator<Item = (u32, P)> {
        self.0.into_iter().filter_map(|slot| match slot {
            Slot::Full { epoch, payload, .. } => Some((epoch, payload)),
            _ => None,
        })
    }
}
