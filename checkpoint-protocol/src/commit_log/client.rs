//! The machine that claims a term and commits checkpoints, one question to the store at a time.

mod answers;

use strandline_state_api::CheckpointId;

use super::{Branch, CompletedEntry, EntryKind, LogEntry, LogView, ManifestRef, Term, Token};
use crate::{CheckpointKind, CommitRight};

/// One coordinator's access to the commit log. For one life: a coordinator that is fenced, or crashed, is
/// followed by a new client.
///
/// Every call returns the next [`LogStep`]: a question to put to the store, whose answer is the next call, or
/// the outcome. Questions are asked strictly one after the other, and each must be answered once, so a driver
/// is a loop:
///
/// ```
/// use std::collections::BTreeMap;
/// use strandline_checkpoint_protocol::{Anchor, CreateResult, LogClient, LogEntry, LogOutcome, LogStep, Term, Token};
///
/// fn drive(log: &mut BTreeMap<u64, LogEntry>, client: &mut LogClient, mut step: LogStep) -> LogOutcome {
///     loop {
///         step = match step {
///             LogStep::Tail => client.on_tail(log.values().last()),
///             LogStep::Read(slot) => client.on_read(slot, log.get(&slot)),
///             LogStep::Create(entry) if log.contains_key(&entry.slot) => client.on_create(entry.slot, CreateResult::Exists),
///             LogStep::Create(entry) => {
///                 let slot = entry.slot;
///                 log.insert(slot, entry);
///                 client.on_create(slot, CreateResult::Created)
///             }
///             // Nothing is ever deleted here, so what was there is there.
///             LogStep::Confirm(None) => client.on_confirm(Anchor::Start),
///             LogStep::Confirm(Some(slot)) => client.on_confirm(Anchor::Entry(log[&slot].token)),
///             LogStep::Done(outcome) => return outcome,
///         }
///     }
/// }
///
/// let mut log = BTreeMap::new();
/// let mut client = LogClient::new("host-1");
/// let step = client.claim(Token(0xfeed));
/// let outcome = drive(&mut log, &mut client, step);
/// assert_eq!(outcome, LogOutcome::Claimed { term: Term::FIRST, completed: vec![] });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogClient {
    holder: String,
    view: LogView,
    /// The last entry that was in the log beyond doubt: our own, or its end when it was looked for. `None`
    /// for that of an empty log.
    anchor: Option<(u64, Token)>,
    /// What the checkpoints of this term grow from.
    branch: Branch,
    /// The highest number of a checkpoint before this term.
    before: Option<CheckpointId>,
    phase: Phase,
}

/// What to do next.
#[must_use = "the machine waits for the answer to this step"]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogStep {
    /// Read the entry of the highest slot, and call [`LogClient::on_tail`]. It must see every create that was
    /// answered before. Asked again when the answer is known to be older than that.
    Tail,
    /// Read this slot, and call [`LogClient::on_read`].
    Read(u64),
    /// Create this entry in its slot if the slot is empty, and call [`LogClient::on_create`].
    Create(LogEntry),
    /// Read this slot again, and call [`LogClient::on_confirm`]; `None` stands for what was before slot 0:
    /// ask whether the mark is set that slot 0 may have been deleted.
    Confirm(Option<u64>),
    /// It is over.
    Done(LogOutcome),
}

/// The answer to [`LogStep::Confirm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anchor {
    /// The question was what is before slot 0, and slot 0 was never deleted.
    Start,
    /// The slot holds the entry with this token.
    Entry(Token),
    /// The slot is empty; or the question was what is before slot 0, and slot 0 may have been deleted.
    Gone,
}

/// The answer to a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CreateResult {
    /// The slot was empty and now holds the entry.
    Created,
    /// The slot was taken, possibly by a repetition of this very create.
    Exists,
    /// The answer was lost; the create may have happened, or may still happen.
    Unknown,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogOutcome {
    /// The term is ours.
    Claimed {
        /// The term.
        term: Term,
        /// The retained checkpoints in the log, in the order of their slots. Which of them to resume from, or
        /// to fall back to, is [`LogView::branch`].
        completed: Vec<CompletedEntry>,
    },
    /// The checkpoint is complete.
    Committed(CompletedEntry),
    /// The answer to [`LogClient::probe`]: the term was ours when the store answered.
    Leading(Term),
    /// A newer coordinator has taken over, in the term `by`. Nothing is committed with this client any more.
    /// If a commit was under way, whether its entry counts is for the newer coordinator to see; nobody may be
    /// notified of it from here.
    Fenced {
        /// The term of the newer one.
        by: Term,
    },
    /// The call was not in order, and changed nothing.
    Misuse(Misuse),
}

/// A call that was not in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misuse {
    /// The call before has not ended.
    Busy,
    /// There is no term yet: claim one first.
    NotLeading,
    /// A term is held already.
    AlreadyLeading(Term),
    /// A checkpoint with this id is in the log, or a higher one; of a savepoint, one of an earlier term.
    NotNewer {
        /// The last one in the log.
        last: CheckpointId,
    },
    /// The log has no number left for another term or slot.
    Exhausted,
    /// An answer to a question that was not asked.
    Unexpected,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    Leading(Term),
    Fenced {
        by: Term,
    },
    /// Claiming a term: knows where the log ends once `At` is beyond `Tail`.
    Claiming {
        token: Token,
        at: At,
    },
    Committing {
        term: Term,
        at: At,
    },
    Probing(Term),
}

/// Which answer is awaited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    /// Where the log begins and ends.
    Tail,
    /// The next slot; the last one known to exist is `end`.
    Reading { end: Option<u64> },
    /// Whether what was read since the anchor was the log, before the entry is created after it.
    Anchoring(Attempt),
    /// Whether the entry was created.
    Creating(Attempt),
    /// Who has the slot of the entry.
    Settling(Attempt),
    /// Whether the slot of our entry was empty for the first time.
    Confirming(LogEntry),
    /// Where the log ends by now, which is above `slot`.
    Overtaken { slot: u64 },
}

/// An attempt to create an entry. Each has a token of its own, counted up from the first: a create whose
/// answer was lost may happen much later, when its slot was deleted, and must not look like the one that was
/// in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    first: Token,
    entry: LogEntry,
}

impl Attempt {
    fn new(entry: LogEntry) -> Self {
        Self { first: entry.token, entry }
    }

    /// The same entry once more.
    fn again(self) -> Self {
        let token = Token(self.entry.token.0.wrapping_add(1));
        Self { entry: LogEntry { token, ..self.entry }, ..self }
    }

    /// Whether this attempt or one before it created `found`.
    fn owns(&self, found: &LogEntry) -> bool {
        let nth = |token: Token| token.0.wrapping_sub(self.first.0);
        found.slot == self.entry.slot && nth(found.token) <= nth(self.entry.token)
    }
}

impl LogClient {
    /// A client that has read nothing. `holder` stands in the log for people to read.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            view: LogView::default(),
            anchor: None,
            branch: Branch::default(),
            before: None,
            phase: Phase::Idle,
        }
    }

    /// Claims a term above all that the log knows. Ends with [`LogOutcome::Claimed`].
    ///
    /// Do this before choosing what to resume from: only what `Claimed` lists is safe from an older
    /// coordinator that is still committing.
    ///
    /// The entry restates the log, so that a claim in front of it can go, with all before that: a job that
    /// fails in each of its starts does not make the log longer. A driver that keeps savepoints does so
    /// before it creates an entry whose floor is above their slots.
    pub fn claim(&mut self, token: Token) -> LogStep {
        match self.phase {
            Phase::Idle => {
                self.phase = Phase::Claiming { token, at: At::Tail };
                LogStep::Tail
            }
            Phase::Leading(term) => misuse(Misuse::AlreadyLeading(term)),
            Phase::Fenced { by } => LogStep::Done(LogOutcome::Fenced { by }),
            Phase::Claiming { .. } | Phase::Committing { .. } | Phase::Probing(_) => misuse(Misuse::Busy),
        }
    }

    /// Notes what this coordinator resumes from: a checkpoint and its branch, or nothing. Without it, that is
    /// the newest checkpoint. Call it once, before the first commit.
    pub fn resume(&mut self, from: Option<(CheckpointId, &Branch)>) {
        self.branch = match from {
            Some((checkpoint, branch)) => Branch::grown_from(checkpoint, branch, self.before),
            None => Branch::new_job(self.before),
        };
    }

    /// Commits a checkpoint whose manifest has been stored. Ends with [`LogOutcome::Committed`] or
    /// [`LogOutcome::Fenced`].
    ///
    /// `oldest` is the slot of the oldest checkpoint to retain. Once the entry exists, those in slots before
    /// it are out of the log: their entries and what only they use may be deleted. One below an earlier one
    /// is raised to it.
    ///
    /// Numbers rise, but for savepoints: one that later checkpoints of this term overtook is committed as
    /// *late*. The newest stays the newest.
    pub fn commit(
        &mut self,
        right: &CommitRight,
        token: Token,
        manifest: ManifestRef,
        oldest: u64,
    ) -> LogStep {
        let term = match self.phase {
            Phase::Leading(term) => term,
            Phase::Idle => return misuse(Misuse::NotLeading),
            Phase::Fenced { by } => return LogStep::Done(LogOutcome::Fenced { by }),
            Phase::Claiming { .. } | Phase::Committing { .. } | Phase::Probing(_) => {
                return misuse(Misuse::Busy);
            }
        };
        let (checkpoint, kind) = (right.checkpoint(), right.kind());
        let last = self.view.last_completed().filter(|last| checkpoint <= *last);
        if let Some(last) = last
            && !self.may_be_late(checkpoint, kind)
        {
            return misuse(Misuse::NotNewer { last });
        }
        let slot = self.view.next_slot();
        if slot == u64::MAX || checkpoint == CheckpointId(u64::MAX) {
            return misuse(Misuse::Exhausted);
        }
        let oldest = oldest.max(self.view.oldest()).min(slot);
        let floor = oldest.max(self.view.floor());
        let kind = EntryKind::Checkpoint {
            term,
            checkpoint,
            manifest,
            kind,
            branch: self.branch.clone(),
            late: last.is_some(),
            open_savepoint: right.open_savepoint(),
        };
        let attempt = Attempt::new(LogEntry { slot, floor, oldest, token, kind });
        self.phase = Phase::Committing { term, at: At::Creating(attempt.clone()) };
        self.create(attempt)
    }

    fn may_be_late(&self, checkpoint: CheckpointId, kind: CheckpointKind) -> bool {
        let repeats = self.view.completed().iter().any(|known| known.checkpoint == checkpoint);
        kind == CheckpointKind::Savepoint && Some(checkpoint) > self.before && !repeats
    }

    /// Asks whether anyone has taken over. Ends with [`LogOutcome::Leading`] or [`LogOutcome::Fenced`].
    ///
    /// The answer may be outdated when it arrives: good for stopping early, not for deciding anything.
    pub fn probe(&mut self) -> LogStep {
        match self.phase {
            Phase::Leading(term) => {
                self.phase = Phase::Probing(term);
                LogStep::Tail
            }
            Phase::Idle => misuse(Misuse::NotLeading),
            Phase::Fenced { by } => LogStep::Done(LogOutcome::Fenced { by }),
            Phase::Claiming { .. } | Phase::Committing { .. } | Phase::Probing(_) => misuse(Misuse::Busy),
        }
    }

    /// The term held, as far as this client knows.
    pub fn term(&self) -> Option<Term> {
        match self.phase {
            Phase::Leading(term) | Phase::Committing { term, .. } | Phase::Probing(term) => Some(term),
            Phase::Idle | Phase::Fenced { .. } | Phase::Claiming { .. } => None,
        }
    }

    /// Whether `found` was created by the call under way, whose answer was lost. It may not be durable yet,
    /// and must be before it is handed to [`on_read`](Self::on_read).
    pub fn is_unsettled(&self, found: &LogEntry) -> bool {
        match &self.phase {
            Phase::Claiming { at: At::Settling(attempt), .. }
            | Phase::Committing { at: At::Settling(attempt), .. } => attempt.owns(found),
            _ => false,
        }
    }

    /// What has been read of the log. A leader's own commits are in it.
    pub fn view(&self) -> &LogView {
        &self.view
    }

    /// What the checkpoints of this term grow from.
    pub fn branch(&self) -> &Branch {
        &self.branch
    }

    /// The retained checkpoints in the order of their slots: the log as of the last outcome.
    pub fn completed(&self) -> &[CompletedEntry] {
        self.view.completed()
    }
}

fn misuse(misuse: Misuse) -> LogStep {
    LogStep::Done(LogOutcome::Misuse(misuse))
}
