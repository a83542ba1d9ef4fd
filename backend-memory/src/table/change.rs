//! The changes of entries, and the cuts that copy them on write.

/// The end of an epoch at a barrier, until its entries are drained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochCut {
    pub(crate) epoch: u32,
    /// Whether the cut takes all entries, not only those that changed in its epoch.
    pub(crate) full: bool,
}

impl EpochCut {
    /// Returns whether the cut takes an entry whose last change was in `epoch`.
    #[inline]
    pub(crate) fn wants(self, epoch: u32) -> bool {
        epoch == self.epoch || (self.full && epoch < self.epoch)
    }
}

/// The changes of one cut in a shard, until they are drained.
pub(super) struct Frozen {
    pub(super) cut: EpochCut,
    /// The slots that changed in the epoch. Some may be empty or hold another entry by now.
    pub(super) changed: Vec<u32>,
    /// Tombstones, and encoded entries that changed or were removed since.
    pub(super) records: Vec<u8>,
}

/// Saves the old value of an entry that changes, for the cuts that are not drained.
pub(crate) struct CopyOnWrite<'a> {
    pub(super) frozen: &'a mut [Frozen],
    /// The current epoch.
    pub(crate) epoch: u32,
}

impl CopyOnWrite<'_> {
    /// Calls `save` with the records of every cut that takes an entry whose last change was in `epoch`.
    #[inline]
    pub(crate) fn save(&mut self, epoch: u32, mut save: impl FnMut(EpochCut, &mut Vec<u8>)) {
        for frozen in &mut *self.frozen {
            if frozen.cut.wants(epoch) {
                save(frozen.cut, &mut frozen.records);
            }
        }
    }
}

/// An entry for a change. The table has noted that it changes in this epoch.
pub(crate) struct Touched<'a, P> {
    pub(crate) payload: &'a mut P,
    /// The epoch of its last change before this one, without the mark of birth.
    pub(crate) before: u32,
    /// Saves old values. A payload that changes as a whole is already saved.
    pub(crate) copies: CopyOnWrite<'a>,
    /// The tombstones of this epoch.
    pub(crate) tombstones: &'a mut Vec<u8>,
}

/// A removed entry.
pub(crate) struct Removed<'a, P> {
    pub(crate) payload: P,
    /// The epoch of its last change.
    pub(crate) before: u32,
    /// Whether older snapshots may hold it, so that it needs a tombstone.
    pub(crate) known: bool,
    /// Saves the old value.
    pub(crate) copies: CopyOnWrite<'a>,
    /// The tombstones of this epoch.
    pub(crate) tombstones: &'a mut Vec<u8>,
}
