//! The meaning of a log as a whole: entries folded, one after the other, into the list of completed
//! checkpoints.

use serde::{Deserialize, Serialize};
use strandline_state_api::CheckpointId;

use super::{Branch, EntryKind, LogEntry, ManifestRef, Restated, Term, Token};
use crate::CheckpointKind;

/// A completed checkpoint, as its log entry describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompletedEntry {
    /// The slot of the entry. Pass it to [`LogClient::commit`](super::LogClient::commit) as `oldest` when
    /// this is the oldest checkpoint to retain.
    pub slot: u64,
    /// The term of the coordinator that completed it.
    pub term: Term,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// Its manifest.
    pub manifest: ManifestRef,
    /// What it did not grow from.
    #[serde(default, skip_serializing_if = "Branch::is_whole")]
    pub branch: Branch,
}

impl CompletedEntry {
    fn is_savepoint(&self) -> bool {
        self.kind == CheckpointKind::Savepoint
    }
}

/// What has been read of a log so far. Feed it the entries in the order of their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogView {
    /// The first slot that was read.
    start: u64,
    next: u64,
    floor: u64,
    oldest: u64,
    /// The highest floor that any entry named, whether or not the entry counts.
    named_floor: u64,
    term: Option<Term>,
    last: Option<CheckpointId>,
    /// The entry applied last, whether or not it counts: its slot and token.
    tip: Option<(u64, Token)>,
    /// The slot of the last claim that restates the log before it.
    restated: Option<u64>,
    /// Whether an entry could not be read.
    is_torn: bool,
    open_savepoint: Option<CheckpointId>,
    completed: Vec<CompletedEntry>,
    given_up: Vec<CompletedEntry>,
}

/// What an entry turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// A coordinator took over.
    Term(Term),
    /// A checkpoint was completed.
    Completed(CheckpointId),
    /// It cannot be read, and counts for the claim of a term.
    Unreadable(Term),
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
    /// A checkpoint with this id or a higher one was completed before; of a late savepoint, one with this id.
    NotNewer {
        /// The last one that was.
        last: CheckpointId,
    },
    /// It lies below the beginning of the log, or was read before: entries are applied in the order of their
    /// slots.
    OutOfOrder,
    /// Its slot, term or checkpoint is the highest number there is: none could follow.
    OutOfRange,
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
        self.next = entry.slot.saturating_add(1);
        self.tip = Some((entry.slot, entry.token));
        self.named_floor = self.named_floor.max(entry.floor.min(entry.slot));
        if entry.is_out_of_range() {
            return Applied::Void(VoidReason::OutOfRange);
        }
        if let Some(by) = self.term
            && entry.term() < by
        {
            return Applied::Void(VoidReason::Fenced { by });
        }
        match &entry.kind {
            EntryKind::Term { term, restated, .. } => {
                if self.term == Some(*term) {
                    return Applied::Void(VoidReason::Fenced { by: *term });
                }
                if let Some(restated) = restated {
                    self.restate(entry.slot, restated);
                }
                self.open_savepoint = None;
                self.advance(entry);
                Applied::Term(*term)
            }
            EntryKind::Checkpoint { checkpoint, late, .. } => {
                let repeats = self.completed.iter().any(|known| known.checkpoint == *checkpoint);
                if let Some(last) = self.last.filter(|last| repeats || (!late && checkpoint <= last)) {
                    return Applied::Void(VoidReason::NotNewer { last });
                }
                self.complete(entry);
                self.advance(entry);
                Applied::Completed(*checkpoint)
            }
            EntryKind::Unreadable { term } => {
                self.is_torn = true;
                self.advance(entry);
                Applied::Unreadable(*term)
            }
        }
    }

    /// Takes in what a claim found, which is known already unless the log was read from that claim on.
    fn restate(&mut self, slot: u64, restated: &Restated) {
        self.restated = Some(slot);
        self.last = self.last.max(restated.last);
        let is_new = |entry: &&CompletedEntry| self.completed.iter().all(|known| known.slot != entry.slot);
        let new: Vec<_> = restated.completed.iter().filter(is_new).cloned().collect();
        self.completed.extend(new);
        self.completed.sort_by_key(|known| known.slot);
    }

    fn complete(&mut self, entry: &LogEntry) {
        let EntryKind::Checkpoint { term, checkpoint, manifest, kind, branch, open_savepoint, .. } =
            &entry.kind
        else {
            return;
        };
        self.last = self.last.max(Some(*checkpoint));
        self.open_savepoint = *open_savepoint;
        let (kept, given_up): (Vec<_>, Vec<_>) = std::mem::take(&mut self.completed)
            .into_iter()
            .partition(|known| known.is_savepoint() || !branch.gave_up(known.checkpoint));
        self.completed = kept;
        self.given_up.extend(given_up);
        self.completed.push(CompletedEntry {
            slot: entry.slot,
            term: *term,
            checkpoint: *checkpoint,
            kind: *kind,
            manifest: manifest.clone(),
            branch: branch.clone(),
        });
    }

    /// An entry counts: lets go of what lies below its floor.
    fn advance(&mut self, entry: &LogEntry) {
        self.term = Some(entry.term());
        self.floor = self.floor.max(entry.floor.min(entry.slot));
        self.oldest = self.oldest.max(entry.oldest.min(entry.slot));
        let newest = self.newest().map(|newest| newest.slot);
        let (floor, oldest) = (self.floor, self.oldest);
        self.completed.retain(|known| {
            let is_there = known.slot >= floor || !known.is_savepoint() || Some(known.slot) == newest;
            known.slot >= oldest && is_there
        });
        self.given_up.retain(|known| known.slot >= floor);
    }

    /// What a claim of the next term restates, and where the log may begin then. Everything before the last
    /// claim that restated is in that one, so two slots hold it.
    pub(super) fn restatement(&self) -> (Option<Restated>, u64) {
        let floor = self.restated.map_or(self.floor, |restated| restated.max(self.floor));
        let newest = self.newest().map(|newest| newest.slot);
        let is_there = |known: &&CompletedEntry| {
            known.slot >= floor || !known.is_savepoint() || Some(known.slot) == newest
        };
        let completed: Vec<_> = self.completed.iter().filter(is_there).cloned().collect();
        let fits = !self.is_torn && completed.len() <= Self::MOST_RESTATED;
        (fits.then_some(Restated { last: self.last, completed }), floor)
    }

    /// An entry restates no more checkpoints, so that it stays small.
    const MOST_RESTATED: usize = 256;

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

    /// The slot of the oldest checkpoint that may be retained.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The highest term seen.
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// The completed checkpoint with the highest number seen, also when it is not retained.
    pub fn last_completed(&self) -> Option<CheckpointId> {
        self.last
    }

    /// The oldest savepoint that was under way when the last checkpoint of the highest term completed, and
    /// may follow.
    pub fn open_savepoint(&self) -> Option<CheckpointId> {
        self.open_savepoint
    }

    /// The retained checkpoints in the order of their slots. Savepoints are among them while the log has
    /// their slots; whoever drives the log keeps them elsewhere before that.
    pub fn completed(&self) -> &[CompletedEntry] {
        &self.completed
    }

    /// The checkpoints from the floor on that later ones gave up, and that are not retained any more.
    pub fn given_up(&self) -> &[CompletedEntry] {
        &self.given_up
    }

    /// The retained checkpoint with the highest number: what a job resumes from.
    pub fn newest(&self) -> Option<&CompletedEntry> {
        self.completed.iter().max_by_key(|known| known.checkpoint)
    }

    /// The checkpoints that the newest one grew from, itself the first, the newest first: what a job may fall
    /// back to.
    pub fn branch(&self) -> Vec<&CompletedEntry> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let on_branch = |known: &&CompletedEntry| !newest.branch.gave_up(known.checkpoint);
        let mut branch: Vec<_> = self.completed.iter().filter(on_branch).collect();
        branch.sort_by_key(|known| std::cmp::Reverse(known.checkpoint));
        branch
    }
}

/// Folds a whole log, in any order, into its retained checkpoints, in the order of their slots.
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
