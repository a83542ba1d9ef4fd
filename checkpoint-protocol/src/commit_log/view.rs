//! The meaning of a log as a whole: entries folded, one after the other, into the list of completed
//! checkpoints.

use serde::{Deserialize, Serialize};
use strandline_state_api::CheckpointId;

use super::{EntryKind, LogEntry, ManifestRef, Term, Token};

/// A completed checkpoint, as its log entry describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompletedEntry {
    /// The slot of the entry. Pass it to [`LogClient::commit`](super::LogClient::commit) as the floor when
    /// this is the oldest checkpoint to retain.
    pub slot: u64,
    /// The term of the coordinator that completed it.
    pub term: Term,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its manifest.
    pub manifest: ManifestRef,
}

/// What has been read of a log so far. Feed it the entries in the order of their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The first slot that was read.
    start: u64,
    next: u64,
    floor: u64,
    /// The highest floor that any entry named, whether or not the entry counts.
    named_floor: u64,
    term: Option<Term>,
    last: Option<CheckpointId>,
    /// The entry applied last, whether or not it counts: its slot and token.
    tip: Option<(u64, Token)>,
    completed: Vec<CompletedEntry>,
}

/// What an entry turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// A coordinator took over.
    Term(Term),
    /// A checkpoint was completed.
    Completed(CheckpointId),
    /// It counts for nothing.
    Void(VoidReason),
}

/// Why an entry counts for nothing. None of these is found in a log whose writers all keep to the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoidReason {
    /// A higher term stands before it: its writer had been fenced. For an entry that claims a term, also an
    /// equal one.
    Fenced {
        /// The highest term before it.
        by: Term,
    },
    /// A checkpoint with this id or a higher one was completed before.
    NotNewer {
        /// The last one that was.
        last: CheckpointId,
    },
    /// It lies below the beginning of the log, or was read before: entries are applied in the order of their
    /// slots.
    OutOfOrder,
}

impl LogView {
    /// A log of which nothing has been read; the next entry is that of slot `start`, the floor of its last
    /// entry (0 for an empty log).
    pub fn starting_at(start: u64) -> Self {
        Self { start, next: start, floor: start, named_floor: start, ..Self::default() }
    }

    /// Takes in the next entry.
    pub fn apply(&mut self, entry: &LogEntry) -> Applied {
        if entry.slot < self.next {
            return Applied::Void(VoidReason::OutOfOrder);
        }
        self.next = entry.slot + 1;
        self.tip = Some((entry.slot, entry.token));
        self.named_floor = self.named_floor.max(entry.floor.min(entry.slot));
        if let Some(by) = self.term
            && entry.term() < by
        {
            return Applied::Void(VoidReason::Fenced { by });
        }
        match &entry.kind {
            EntryKind::Term { term, .. } => {
                if self.term == Some(*term) {
                    return Applied::Void(VoidReason::Fenced { by: *term });
                }
                self.advance(entry);
                Applied::Term(*term)
            }
            EntryKind::Checkpoint { term, checkpoint, manifest } => {
                if let Some(last) = self.last
                    && *checkpoint <= last
                {
                    return Applied::Void(VoidReason::NotNewer { last });
                }
                self.advance(entry);
                self.last = Some(*checkpoint);
                let (slot, term, manifest) = (entry.slot, *term, manifest.clone());
                self.completed.push(CompletedEntry { slot, term, checkpoint: *checkpoint, manifest });
                Applied::Completed(*checkpoint)
            }
        }
    }

    fn advance(&mut self, entry: &LogEntry) {
        self.term = Some(entry.term());
        self.raise_floor(entry.floor.min(entry.slot));
    }

    fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.completed.retain(|entry| entry.slot >= floor);
        }
    }

    /// Where to begin again, if the floor rose above the first slot while this was read. Some of what was
    /// read below the new floor may then have been ghosts, in slots that had just been deleted; and a ghost
    /// with a high term makes what follows it look void.
    pub(super) fn restart(&self) -> Option<u64> {
        (self.named_floor > self.start).then_some(self.named_floor)
    }

    /// The slot and the token of the entry before the next one.
    pub(super) fn tip(&self) -> Option<(u64, Token)> {
        self.tip
    }

    /// The slot of the next entry.
    pub fn next_slot(&self) -> u64 {
        self.next
    }

    /// The slot at which the log begins now.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The highest term seen.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// The last completed checkpoint seen, also when it lies below the floor by now.
    pub fn last_completed(&self) -> Option<CheckpointId> {
        self.last
    }

    /// The completed checkpoints from the floor on, oldest first.
    pub fn completed(&self) -> &[CompletedEntry] {
        &self.completed
    }
}

/// Folds a whole log, in any order, into its completed checkpoints, oldest first.
///
/// Entries below the floor of the highest slot are passed over: they wait for deletion, or were left by a
/// coordinator that came too late.
pub fn completed(entries: &[LogEntry]) -> Vec<CompletedEntry> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.slot);
    let mut view = LogView::starting_at(entries.last().map_or(0, |last| last.floor.min(last.slot)));
    for entry in entries {
        view.apply(entry);
    }
    view.completed
}
