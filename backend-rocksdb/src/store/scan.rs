//! Walks over a range of addresses, which merge the changes in the table into the entries of the database.

use std::cmp::Ordering;
use std::sync::Arc;

use strandline_snapshot_format::{Kept, list};
use strandline_state_api::{KeyGroup, KeyGroupRange, Result};

use super::overlay::{Known, Overlay};
use super::{Order, Store};
use crate::database::Entries;
use crate::layout::{bounds, prefix, start};

impl Store {
    /// Visits the entries from `from` to before `to` in order, as long as `visit` returns true.
    pub(crate) fn scan(
        &mut self,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.settle_for_scan(order)?;
        let changed = self.overlay.dirty_between(from, to, order);
        let mut entries = self.database.iterate(from, to);
        entries.first()?;
        self.merge(&changed, entries, |_| Ok(()), visit)
    }

    /// Visits all entries of a state in `range` in order, as long as `visit` returns true.
    pub(crate) fn scan_state(
        &mut self,
        state: u16,
        range: KeyGroupRange,
        order: Order,
        visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        self.settle_for_scan(order)?;
        let (from, to) = bounds(range);
        let mut changed = self.overlay.dirty_between(&from, Some(&to), order);
        changed.retain(|id| prefix(self.overlay.entry(*id).0).is_ok_and(|(_, of)| of == state));
        let mut entries = self.database.iterate(&from, Some(&to));
        entries.first()?;
        let mut target = Vec::new();
        self.merge(&changed, entries, |entries| to_state(entries, state, &mut target), visit)
    }

    /// Removes what `unexpired` does not keep of the next `budget` entries of a state, from `from` or the
    /// beginning. Returns how many entries and elements of lists, and where the next call starts, if not at
    /// the beginning. Leaves entries that the table has changed to a later call.
    pub(crate) fn clean_some(
        &mut self,
        state: u16,
        from: Option<&[u8]>,
        order: Order,
        mut budget: usize,
        mut unexpired: impl FnMut(&[u8], &mut Vec<u8>) -> Kept,
    ) -> Result<(u64, Option<Vec<u8>>)> {
        self.settle()?;
        let (first, to) = bounds(KeyGroupRange::ALL);
        let (mut worn, mut next, mut target, mut part) = (Vec::new(), None, Vec::new(), Vec::new());
        let dirty = |overlay: &mut Overlay, address: &[u8]| {
            overlay.find(address).is_some_and(|id| overlay.dirty_since(id).is_some())
        };
        let database = Arc::clone(&self.database);
        let mut entries = database.iterate(from.unwrap_or(&first), Some(&to));
        entries.first()?;
        to_state(&mut entries, state, &mut target)?;
        while let Some((address, value)) = entries.entry() {
            if budget == 0 {
                next = Some(address.to_vec());
                break;
            }
            budget -= 1;
            let kept = unexpired(value, &mut part);
            if kept != Kept::Whole && !dirty(&mut self.overlay, address) {
                worn.push((address.to_vec(), Shortened::new(kept, value, &part)));
            }
            entries.step()?;
            to_state(&mut entries, state, &mut target)?;
        }
        drop(entries);
        let removed = worn.into_iter().map(|(address, shortened)| shortened.apply(self, &address, order));
        Ok((removed.sum::<Result<u64>>()?, next))
    }

    /// Removes what `unexpired` does not keep of one entry; returns how many entries and elements of lists.
    pub(crate) fn clean_one(
        &mut self,
        address: &[u8],
        order: Order,
        unexpired: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Kept,
    ) -> Result<u64> {
        let Some(value) = self.get(address, order)? else { return Ok(0) };
        let mut part = Vec::new();
        match unexpired(value, &mut part) {
            Kept::Whole => Ok(0),
            kept => Shortened::new(kept, value, &part).apply(self, address, order),
        }
    }

    /// Settles cuts. No increment enters the database until the next change, where a walk may meet lists that one has a
    /// part of.
    fn settle_for_scan(&mut self, order: Order) -> Result<()> {
        self.settle()?;
        if order == Order::Hashed
            && let Some(front) = self.open.front().filter(|front| front.ready)
        {
            front.cut.ingest()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Merges both walks. `align` moves the one over the database to the next entry that counts, from the
    /// current one.
    fn merge(
        &self,
        changed: &[u32],
        mut entries: Entries<'_>,
        mut align: impl FnMut(&mut Entries<'_>) -> Result<()>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut changed = changed.iter().map(|id| (*id, self.overlay.entry(*id))).peekable();
        align(&mut entries)?;
        loop {
            let stored = entries.entry();
            let Some(order) = compare(changed.peek().map(|(_, (at, _))| *at), stored.map(|(at, _)| at))
            else {
                return Ok(());
            };
            let more = if order == Ordering::Greater {
                stored.map_or(Ok(true), |(at, value)| visit(at, value))?
            } else {
                match changed.next() {
                    Some((_, (at, Known::Put(value)))) => visit(at, value)?,
                    Some((id, (at, Known::Append(more)))) => {
                        let base = stored.filter(|(stored, _)| *stored == at).map(|(_, value)| value);
                        let more = &more[self.overlay.ingested_bytes(id)..];
                        visit(at, &[base.unwrap_or_default(), more].concat())?
                    }
                    Some((_, (_, Known::Gone))) | None => true,
                }
            };
            if !more {
                return Ok(());
            }
            if order != Ordering::Less {
                entries.step()?;
                align(&mut entries)?;
            }
        }
    }
}

/// What remains of an entry.
struct Shortened {
    /// The remaining elements of a list, if any.
    part: Option<Vec<u8>>,
    /// The number of elements or entries that go.
    removed: u64,
}

impl Shortened {
    fn new(kept: Kept, value: &[u8], part: &[u8]) -> Self {
        if kept == Kept::Nothing {
            return Self { part: None, removed: 1 };
        }
        let removed = list::elements(value).count() - list::elements(part).count();
        Self { part: Some(part.to_vec()), removed: removed as u64 }
    }

    fn apply(self, store: &mut Store, address: &[u8], order: Order) -> Result<u64> {
        match self.part {
            None => store.delete(address, order)?,
            Some(part) => store.put(address, order, &part)?,
        }
        Ok(self.removed)
    }
}

/// Moves to the next entry of a state. The entries of a state stand together within a key group, so one seek
/// skips those of the others.
pub(crate) fn to_state(entries: &mut Entries<'_>, state: u16, target: &mut Vec<u8>) -> Result<()> {
    while let Some((at, _)) = entries.entry() {
        let (group, of) = prefix(at)?;
        if of == state {
            return Ok(());
        }
        let group = if of < state { Some(group) } else { KeyGroup::new(group.index() + 1) };
        match group {
            Some(group) => start(state, group, target),
            // Behind the last group.
            None => *target = vec![0xFF; 2],
        }
        entries.seek(target)?;
    }
    Ok(())
}

/// Which of two walks comes first; none when both are at their end.
fn compare(table: Option<&[u8]>, database: Option<&[u8]>) -> Option<Ordering> {
    match (table, database) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(a), Some(b)) => Some(a.cmp(b)),
    }
}
