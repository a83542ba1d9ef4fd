//! The snapshots of one backend in their order: what is stored, and the changes that are not.
//!
//! A snapshot builds on the newest one before it whose commit succeeded, and stores all changes since. So one
//! whose commit failed, hangs or was dropped costs its successors nothing but the bytes, and commits may end
//! in any order. What joins them is one rule, which keeps files that a sweep may delete out of use: a
//! snapshot names an older file only if each snapshot between, whose commit succeeded, names it, too.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_state_api::snapshot::{SegmentName, SnapshotPart};

use crate::changes::Changes;
use crate::merge::merge;

/// Bytes of changes of aborted snapshots that are not worth a merge.
const SMALL: usize = 64 << 10;

/// A snapshot whose commit succeeded.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredSnapshot {
    /// A base, then deltas, oldest first.
    pub(crate) parts: Vec<SnapshotPart>,
    /// How many parts, from the first, are the base.
    pub(crate) base: usize,
    /// Whether the base is what was restored: the chains of any number of subtasks.
    pub(crate) restored: bool,
    /// The segments that were stored for this snapshot.
    pub(crate) own: HashSet<SegmentName>,
}

impl StoredSnapshot {
    /// Returns whether it names deltas.
    pub(crate) fn has_deltas(&self) -> bool {
        self.parts.len() > self.base
    }

    /// Returns whether it is a base that was stored for this snapshot alone.
    pub(crate) fn stands_alone(&self) -> bool {
        !self.has_deltas() && self.parts.iter().all(|part| self.own.contains(&part.segment.name))
    }

    /// Returns whether it names nothing that `older`, which may complete first, does not name.
    fn may_follow(&self, older: &Self) -> bool {
        let names: HashSet<_> = older.parts.iter().map(|part| &part.segment.name).collect();
        let mut named = self.parts.iter().map(|part| &part.segment.name);
        named.all(|name| self.own.contains(name) || names.contains(name))
    }
}

/// What a commit has to store.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The snapshot to build on.
    pub(crate) on: StoredSnapshot,
    /// Its number.
    pub(crate) since: u64,
    /// All changes since, oldest first; from the last ones on that hold all entries, if there are some.
    pub(crate) changes: Vec<Arc<Changes>>,
    /// Whether a snapshot that needs no older file may complete before this one, which thus needs none
    /// either.
    pub(crate) stands_alone: bool,
}

/// How much is held in memory until it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) bytes: usize,
    /// The number of records of aborted snapshots, unless they hold all entries.
    pub(crate) aborted_records: usize,
}

/// See the [module](self). The processing thread hands over; commits work elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Held for a moment only, so that the processing thread does not wait for a merge.
    inbox: Mutex<Inbox>,
    order: Mutex<Order>,
    /// Whether a commit left a long chain as it was, for the next cut to replace it by a base.
    base_wanted: AtomicBool,
}

#[derive(Debug, Default)]
struct Inbox {
    last: u64,
    arrived: Vec<(u64, bool, Arc<Changes>)>,
    held: Held,
}

#[derive(Debug, Default)]
struct Order {
    /// The number of each snapshot, and the changes up to it since the one before, until they are stored.
    changes: BTreeMap<u64, Arc<Changes>>,
    /// The snapshots that wait for their commit or are in it, and whether each needs no older file.
    live: BTreeMap<u64, bool>,
    stored: BTreeMap<u64, StoredSnapshot>,
}

/// A place in the order of snapshots; a drop without success aborts the snapshot.
#[derive(Debug)]
pub(crate) struct Ticket {
    chain: Arc<Chain>,
    number: u64,
}

impl Chain {
    /// Creates the chain of a backend that was restored from `parts`.
    pub(crate) fn of_restored(parts: Vec<SnapshotPart>) -> Self {
        // The restored files count as the base, so that a restore alone is no reason to fold.
        let (base, restored) = (parts.len(), !parts.is_empty());
        let first = StoredSnapshot { parts, base, restored, own: HashSet::new() };
        let order = Order { stored: BTreeMap::from([(0, first)]), ..Order::default() };
        Self { order: Mutex::new(order), ..Self::default() }
    }

    /// Takes the changes of the next snapshot.
    pub(crate) fn hand_over(self: &Arc<Self>, changes: Changes, stands_alone: bool) -> Ticket {
        let mut inbox = self.inbox();
        inbox.last += 1;
        inbox.held.bytes += changes.bytes();
        let number = inbox.last;
        inbox.arrived.push((number, stands_alone, Arc::new(changes)));
        Ticket { chain: Arc::clone(self), number }
    }

    /// Returns how much is held.
    pub(crate) fn held(&self) -> Held {
        self.inbox().held
    }

    /// Returns whether a commit has [asked for a base](Ticket::ask_for_base).
    pub(crate) fn is_base_wanted(&self) -> bool {
        self.base_wanted.load(Ordering::Relaxed)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the order, with all that was handed over.
    fn with<R>(&self, work: impl FnOnce(&mut Order) -> R) -> R {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, stands_alone, changes) in self.inbox().arrived.drain(..) {
            order.live.insert(number, stands_alone);
            order.changes.insert(number, changes);
        }
        let result = work(&mut order);
        let mut inbox = self.inbox();
        let arrived: usize = inbox.arrived.iter().map(|(.., changes)| changes.bytes()).sum();
        inbox.held = Held { bytes: arrived + order.bytes(), aborted_records: order.aborted_records() };
        result
    }
}

impl Ticket {
    /// Returns what the commit of this snapshot has to store.
    pub(crate) fn plan(&self) -> Plan {
        self.chain.with(|order| {
            order.merge_aborted(0);
            let on = order.stored.range(..self.number).next_back();
            let (since, on) = on.map_or((0, StoredSnapshot::default()), |(at, on)| (*at, on.clone()));
            let changes = order.changes.range(since + 1..=self.number);
            let mut changes: Vec<_> = changes.map(|(_, changes)| Arc::clone(changes)).collect();
            // Those that hold all entries hold what came before them.
            let all = changes.iter().rposition(|changes| changes.full).unwrap_or(0);
            changes.drain(..all);
            let stands_alone = order.live.range(..=self.number).any(|(_, stands_alone)| *stands_alone);
            Plan { on, since, changes, stands_alone }
        })
    }

    /// Returns whether a snapshot was stored that the plan would build on now.
    pub(crate) fn is_outdated(&self, plan: &Plan) -> bool {
        self.chain.with(|order| {
            let on = order.stored.range(..self.number).next_back();
            on.is_some_and(|(at, _)| *at != plan.since)
        })
    }

    /// Asks for a base at the next cut.
    pub(crate) fn ask_for_base(&self) {
        self.chain.base_wanted.store(true, Ordering::Relaxed);
    }

    /// Takes in the stored snapshot, unless others that were stored meanwhile do not go with it.
    pub(crate) fn publish(&self, stored: &StoredSnapshot) -> bool {
        self.chain.with(|order| {
            let before = order.stored.range(..self.number).next_back();
            let after = order.stored.range(self.number..).next();
            let fits = before.is_none_or(|(_, older)| stored.may_follow(older))
                && after.is_none_or(|(_, newer)| newer.may_follow(stored));
            if fits {
                order.live.remove(&self.number);
                order.stored.insert(self.number, stored.clone());
                order.forget();
            }
            fits
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.chain.with(|order| {
            if order.live.remove(&self.number).is_some() {
                order.forget();
                order.merge_aborted(SMALL);
            }
        });
    }
}

impl Order {
    /// Forgets what no snapshot can need any more.
    fn forget(&mut self) {
        let newest = self.stored.keys().next_back().copied().unwrap_or(0);
        let mut neighbours = HashSet::from([newest]);
        let mut needed: Vec<(u64, u64)> = vec![(newest, u64::MAX)];
        for live in self.live.keys() {
            let before = self.stored.range(..live).next_back().map(|(at, _)| *at);
            neighbours.extend(before);
            neighbours.extend(self.stored.range(live..).next().map(|(at, _)| *at));
            needed.push((before.unwrap_or(0), *live));
        }
        self.stored.retain(|at, _| neighbours.contains(at));
        self.changes.retain(|at, _| needed.iter().any(|(after, up_to)| after < at && at <= up_to));
    }

    /// Merges the changes of aborted snapshots into those that follow, where they have more bytes than
    /// `small` and than twice the largest of them: so each byte is merged a few times at most.
    fn merge_aborted(&mut self, small: usize) {
        let mut runs: Vec<Vec<u64>> = vec![Vec::new()];
        for at in self.changes.keys() {
            if let Some(run) = runs.last_mut() {
                run.push(*at);
            }
            if self.live.contains_key(at) {
                runs.push(Vec::new());
            }
        }
        for run in runs.iter().filter(|run| run.len() > 1) {
            let bytes = || run.iter().filter_map(|at| self.changes.get(at)).map(|changes| changes.bytes());
            if small > 0 && bytes().sum::<usize>() <= small + 2 * bytes().max().unwrap_or(0) {
                continue;
            }
            let mut merged: Option<Arc<Changes>> = None;
            for changes in run.iter().filter_map(|at| self.changes.remove(at)) {
                merged = Some(match merged {
                    Some(older) => Arc::new(merge(&older, &changes)),
                    None => changes,
                });
            }
            if let (Some(at), Some(merged)) = (run.last(), merged) {
                self.changes.insert(*at, merged);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.changes.values().map(|changes| changes.bytes()).sum()
    }

    fn aborted_records(&self) -> usize {
        let newest = self.stored.keys().next_back().copied().unwrap_or(0);
        let unstored = self.changes.range(newest + 1..);
        let aborted = unstored.filter(|(at, _)| !self.live.contains_key(at));
        if aborted.clone().any(|(_, changes)| changes.full) {
            return 0;
        }
        aborted.map(|(_, changes)| changes.records()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_holds_all_entries_stores_no_changes_before_it() {
        let chain = Arc::new(Chain::default());
        let full = [true, false, true, false];
        let tickets = full.map(|full| chain.hand_over(Changes::new(Vec::new(), full, 1), false));
        let stored = tickets.each_ref().map(|ticket| ticket.plan().changes.len());
        assert_eq!(stored, [1, 2, 1, 2]);
    }
}
