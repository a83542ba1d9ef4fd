//! The log as a reader finds it.

use std::collections::BTreeMap;

use strandline_checkpoint_protocol::{LogView, Term};
use strandline_state_api::{CheckpointId, Error, Result};

use super::read::{Slot, Tail, changes_too_fast, read_slot, tail};
use super::record::{CompletedCheckpoint, Record, chain};
use crate::Storage;
use crate::name::slot_path;

/// How often a reader starts again because the log was cut under it.
const ATTEMPTS: usize = 8;

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
    /// The checkpoints that exist and are retained, oldest first.
    pub completed: Vec<CompletedCheckpoint>,
    /// The highest term that is known to be claimed, 0 if none.
    pub term: Term,
    /// Slots that must be there and readable, and are not. Any of them may hold a checkpoint or the claim of
    /// a term.
    pub unreadable: Vec<UnreadableSlot>,
    /// The highest slot that is there.
    pub(crate) top: Option<u64>,
    pub(crate) last_checkpoint: Option<CheckpointId>,
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

    /// A number above that of every checkpoint in the log, also of those in unreadable slots.
    pub fn next_checkpoint(&self) -> CheckpointId {
        let last = self.last_checkpoint.map_or(0, |last| last.0);
        CheckpointId(last + self.unreadable.len() as u64 + 1)
    }

    pub(crate) async fn load(storage: &Storage) -> Result<Self> {
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            let tail = match tail(storage).await? {
                Ok(tail) => tail,
                Err(other) => return Ok(Self { other, ..Self::default() }),
            };
            let (top, floor) = (tail.top, tail.floor);
            let slots = read_down(storage, &tail).await?;
            let missing = slots.values().any(|slot| matches!(slot, Slot::Missing));
            // Missing, and nobody has written since: lost. Else it may have been cut while we read.
            if missing && seen != Some((top, floor)) {
                seen = Some((top, floor));
                continue;
            }
            return Ok(Self::fold(tail, slots));
        }
        Err(changes_too_fast())
    }

    fn fold(tail: Tail, mut slots: BTreeMap<u64, Slot>) -> Self {
        let Tail { top, floor, content, slots: listed, other, .. } = tail;
        slots.insert(top, content);
        let mut history = Self { top: Some(top), other, ..Self::default() };
        // The two highest stay: whether the highest counts is seen by the one before it.
        history.dead = listed.range(..floor.min(top.saturating_sub(1))).copied().collect();
        let expected = remembered(&slots);
        let (mut view, mut newest) = (LogView::starting_at(floor), None);
        let mut kinds = BTreeMap::new();
        for (slot, content) in slots {
            let error = match content {
                Slot::Readable(file, record) => {
                    if expected.get(&slot).is_none_or(|&remembered| remembered == chain(&file)) {
                        view.apply(&record.entry);
                        kinds.extend(record.completed().map(|completed| (slot, completed.kind)));
                        newest = Some(record);
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
        history.completed = newest.map_or_else(Vec::new, |record: Box<Record>| record.carried);
        let in_log = view.completed().iter().filter_map(|entry| {
            let kind = kinds.get(&entry.slot)?;
            Some(CompletedCheckpoint::new(entry, *kind))
        });
        history.completed.extend(in_log);
        history.completed.sort_by_key(|completed| completed.checkpoint);
        history.completed.dedup_by_key(|completed| completed.checkpoint);
        history
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
