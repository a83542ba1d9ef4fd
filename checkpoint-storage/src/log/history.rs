//! The log as a reader finds it.

use std::collections::{BTreeMap, BTreeSet};

use strandline_checkpoint_protocol::{CompletedEntry, LogView, Term};
use strandline_state_api::{CheckpointId, Error, Result};

use super::read::{Slot, Tail, changes_too_fast, read_slot, tail};
use super::record::{CompletedCheckpoint, ListRef, chain};
use super::savepoints::{ReadLists, Removed};
use crate::Storage;
use crate::name::slot_path;

/// A slot of the log that cannot be read; what it decided is unknown.
#[derive(Debug)]
pub struct UnreadableSlot {
    /// The slot.
    pub slot: u64,
    /// What is wrong, with the file.
    pub error: Error,
}

/// The contents of the commit log at one time. Reading it claims nothing.
#[derive(Debug, Default)]
pub struct History {
    /// The checkpoints that exist and are retained, oldest first. Savepoints stay whatever was given up
    /// since: [`is_on_branch`](Self::is_on_branch) shows to which of them a recovery may fall back.
    pub completed: Vec<CompletedCheckpoint>,
    /// Checkpoints that are in the log still and not retained: the job went on from one before them.
    pub given_up: Vec<CompletedCheckpoint>,
    /// Savepoints that somebody removed, and that are named still.
    pub removed: Vec<CompletedCheckpoint>,
    /// The highest term that is known to be claimed, 0 if none.
    pub term: Term,
    /// Slots that must be there and readable, and are not. Any of them may hold a checkpoint or the claim of
    /// a term.
    pub unreadable: Vec<UnreadableSlot>,
    /// Lists of savepoints that cannot be read: there are savepoints of which nothing is known.
    pub unreadable_lists: Vec<Error>,
    /// The highest slot that is there.
    pub(crate) top: Option<u64>,
    pub(crate) last_checkpoint: Option<CheckpointId>,
    /// The oldest savepoint that is under way in the highest term.
    pub(crate) open_savepoint: Option<CheckpointId>,
    /// The lists of savepoints that the log names, and those that these name.
    pub(crate) lists: BTreeSet<ListRef>,
    /// Slots that are there, do not count, and may be deleted, in ascending order.
    pub(crate) dead: Vec<u64>,
    /// Files in the directory of the log that are no slots.
    pub(crate) other: Vec<String>,
}

impl History {
    /// The newest checkpoint, of any kind.
    pub fn latest(&self) -> Option<&CompletedCheckpoint> {
        self.completed.last()
    }

    /// The checkpoint with this number.
    pub fn find(&self, checkpoint: CheckpointId) -> Option<&CompletedCheckpoint> {
        self.completed.iter().rev().find(|completed| completed.checkpoint == checkpoint)
    }

    /// Whether the newest checkpoint grew from this one, or is it.
    pub fn is_on_branch(&self, completed: &CompletedCheckpoint) -> bool {
        let is_past = |latest: &CompletedCheckpoint| {
            latest.identity() == completed.identity() || !latest.branch.gave_up(completed.checkpoint)
        };
        self.latest().is_some_and(is_past)
    }

    /// The retained checkpoint that this one grew from, the newest of several.
    pub fn parent(&self, completed: &CompletedCheckpoint) -> Option<&CompletedCheckpoint> {
        let before = self.completed.iter().filter(|before| before.checkpoint < completed.checkpoint);
        before.rev().find(|before| !completed.branch.gave_up(before.checkpoint))
    }

    /// A number above that of every checkpoint in the log, also of those in unreadable slots.
    pub fn next_checkpoint(&self) -> CheckpointId {
        let last = self.last_checkpoint.map_or(0, |last| last.0);
        CheckpointId(last + self.unreadable.len() as u64 + 1)
    }

    /// Whether a part cannot be read, so that it is unknown what is needed.
    pub(crate) fn is_torn(&self) -> bool {
        !self.unreadable.is_empty() || !self.unreadable_lists.is_empty()
    }

    /// Reads the log. `removed` are the marks of removed savepoints where they were read before.
    pub(crate) async fn load(storage: &Storage, removed: Option<&Removed>) -> Result<Self> {
        let mut seen = None;
        for _ in 0..storage.options().log_reads.max(1) {
            let tail = match tail(storage).await? {
                Ok(tail) => tail,
                Err(other) => return Ok(Self { other, ..Self::default() }),
            };
            let (top, floor) = (tail.top, tail.floor);
            let slots = read_down(storage, &tail).await?;
            let missing = slots.values().any(|slot| matches!(slot, Slot::Missing));
            let (mut history, list) = Self::fold(tail, slots);
            let mut listed = ReadLists::default();
            if let Some(list) = list {
                listed.add(storage, &list).await?;
            }
            // Missing, and nobody has written since: lost. Else it may have been cut while we read.
            if (missing || !listed.unreadable.is_empty()) && seen != Some((top, floor)) {
                seen = Some((top, floor));
                continue;
            }
            history.add_listed(storage, listed, removed).await?;
            return Ok(history);
        }
        Err(changes_too_fast())
    }

    /// Folds the slots; returns the list of savepoints that counts, too: that which the newest names.
    fn fold(tail: Tail, mut slots: BTreeMap<u64, Slot>) -> (Self, Option<ListRef>) {
        let Tail { top, floor, content, slots: listed, other, .. } = tail;
        slots.insert(top, content);
        let mut history = Self { top: Some(top), other, ..Self::default() };
        // The two highest stay: whether the highest counts is seen by the one before it.
        history.dead = listed.range(..floor.min(top.saturating_sub(1))).copied().collect();
        let expected = remembered(&slots);
        let (mut view, mut carried) = (LogView::starting_at(floor), Vec::new());
        let (mut list, mut alone) = (None, BTreeSet::new());
        for (slot, content) in slots {
            let error = match content {
                Slot::Readable(file, record) => {
                    if expected.get(&slot).is_none_or(|&remembered| remembered == chain(&file)) {
                        view.apply(&record.entry);
                        alone.extend(record.stands_alone.then_some(slot));
                        history.lists.extend(record.savepoints.clone());
                        list = record.savepoints.or(list);
                        carried = record.carried;
                        continue;
                    }
                    replaced(slot)
                }
                Slot::Unreadable(_, error) => error,
                Slot::Missing => gone(slot),
            };
            history.unreadable.push(UnreadableSlot { slot, error });
        }
        history.term = view.term().unwrap_or_default();
        history.last_checkpoint = view.last_completed();
        history.open_savepoint = view.open_savepoint();
        let of_entry = |entry: &CompletedEntry| CompletedCheckpoint::new(entry, alone.contains(&entry.slot));
        history.completed = carried;
        history.completed.extend(view.completed().iter().map(of_entry));
        history.given_up = view.given_up().iter().map(of_entry).collect();
        (history, list)
    }

    /// Adds the savepoints of the list, and takes out those that were removed.
    async fn add_listed(
        &mut self,
        storage: &Storage,
        listed: ReadLists,
        removed: Option<&Removed>,
    ) -> Result<()> {
        self.lists.extend(listed.read);
        self.unreadable_lists = listed.unreadable.into_iter().map(|(_, error)| error).collect();
        let mut completed = listed.savepoints;
        for known in self.completed.drain(..) {
            completed.entry(known.checkpoint).or_insert(known);
        }
        let has_savepoints = completed.values().any(CompletedCheckpoint::is_savepoint);
        let read = match removed {
            None if has_savepoints => storage.removed().await?,
            _ => Removed::default(),
        };
        let removed = removed.unwrap_or(&read);
        let is_removed = |known: &CompletedCheckpoint| removed.contains(&known.identity());
        (self.removed, self.completed) = completed.into_values().partition(is_removed);
        Ok(())
    }
}

/// The slots from the floor to below the top.
async fn read_down(storage: &Storage, tail: &Tail) -> Result<BTreeMap<u64, Slot>> {
    let mut slots = BTreeMap::new();
    for slot in tail.floor..tail.top {
        let content =
            if tail.slots.contains(&slot) { read_slot(storage, slot).await? } else { Slot::Missing };
        slots.insert(slot, content);
    }
    Ok(slots)
}

/// For each slot, the checksum that the slot after it remembers.
fn remembered(slots: &BTreeMap<u64, Slot>) -> BTreeMap<u64, u64> {
    let of = |(&slot, content): (&u64, &Slot)| match content {
        Slot::Readable(_, record) => Some((slot.checked_sub(1)?, record.previous?)),
        Slot::Unreadable(..) | Slot::Missing => None,
    };
    slots.iter().filter_map(of).collect()
}

fn replaced(slot: u64) -> Error {
    Error::corrupt("the log entry is not the one that the next entry was written after")
        .with("slot", slot)
        .with("file", slot_path(slot))
}

fn gone(slot: u64) -> Error {
    Error::corrupt("a log entry is missing that was not cut off")
        .with("slot", slot)
        .with("file", slot_path(slot))
}
