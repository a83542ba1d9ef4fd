//! Walks over a range of addresses, which merge the changes in the table into the entries of the database.

use std::cmp::Ordering;
use std::sync::Arc;

use strandline_state_api::{KeyGroup, KeyGroupRange, Result};

use super::overlay::Known;
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
        self.settle()?;
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
        self.settle()?;
        let (from, to) = bounds(range);
        let mut changed = self.overlay.dirty_between(&from, Some(&to), order);
        changed.retain(|id| prefix(self.overlay.entry(*id).0).is_ok_and(|(_, of)| of == state));
        let mut entries = self.database.iterate(&from, Some(&to));
        entries.first()?;
        let mut target = Vec::new();
        self.merge(&changed, entries, |entries| to_state(entries, state, &mut target), visit)
    }

    /// Removes those of the next `budget` entries of a state that `goes` accepts, from `from` or the
    /// beginning. Returns how many, and where the next call starts, if not at the beginning. Leaves entries
    /// that the table has changed to a later call.
    pub(crate) fn remove_some(
        &mut self,
        state: u16,
        from: Option<&[u8]>,
        order: Order,
        mut budget: usize,
        mut goes: impl FnMut(&[u8]) -> bool,
    ) -> Result<(u64, Option<Vec<u8>>)> {
        let (first, to) = bounds(KeyGroupRange::ALL);
        let (mut gone, mut next, mut target) = (Vec::new(), None, Vec::new());
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
            if goes(value)
                && self.overlay.find(address, order).is_none_or(|id| self.overlay.dirty_since(id).is_none())
            {
                gone.push(address.to_vec());
            }
            entries.step()?;
            to_state(&mut entries, state, &mut target)?;
        }
        drop(entries);
        for address in &gone {
            self.delete(address, order)?;
        }
        Ok((gone.len() as u64, next))
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
        let mut changed = changed.iter().map(|id| self.overlay.entry(*id)).peekable();
        align(&mut entries)?;
        loop {
            let stored = entries.entry();
            let Some(order) = compare(changed.peek().map(|(at, _)| *at), stored.map(|(at, _)| at)) else {
                return Ok(());
            };
            let more = if order == Ordering::Greater {
                stored.map_or(Ok(true), |(at, value)| visit(at, value))?
            } else {
                match changed.next() {
                    Some((at, Known::Put(value))) => visit(at, value)?,
                    Some((at, Known::Append(more))) => {
                        let base = stored.filter(|(stored, _)| *stored == at).map(|(_, value)| value);
                        visit(at, &[base.unwrap_or_default(), more].concat())?
                    }
                    Some((_, Known::Gone)) | None => true,
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
