//! What the answers of the store do.

use super::{
    Anchor, At, Attempt, Branch, CreateResult, EntryKind, LogClient, LogEntry, LogOutcome, LogStep, LogView,
    Misuse, Phase, Term, misuse,
};

impl LogClient {
    /// The answer to [`LogStep::Tail`]: the entry of the highest slot, if there is any.
    pub fn on_tail(&mut self, tail: Option<&LogEntry>) -> LogStep {
        match self.phase.clone() {
            Phase::Claiming { at: At::Tail, .. } => self.read_from(tail),
            Phase::Claiming { at: At::Overtaken { slot }, .. } => match tail {
                Some(end) if end.slot > slot => self.read_from(tail),
                // A log that does not show what must be there: look again.
                _ => LogStep::Tail,
            },
            Phase::Committing { term, at: At::Overtaken { .. } } => {
                let by = tail.map(LogEntry::term).filter(|by| *by > term);
                self.fenced(by.or(term.next()).unwrap_or(term))
            }
            Phase::Probing(term) => match tail.map(LogEntry::term) {
                Some(by) if by > term => self.fenced(by),
                _ => {
                    self.phase = Phase::Leading(term);
                    LogStep::Done(LogOutcome::Leading(term))
                }
            },
            _ => misuse(Misuse::Unexpected),
        }
    }

    /// The answer to [`LogStep::Read`]: the entry of `slot`, if there is one.
    pub fn on_read(&mut self, slot: u64, found: Option<&LogEntry>) -> LogStep {
        if found.is_some_and(|entry| entry.slot != slot) {
            return misuse(Misuse::Unexpected);
        }
        match (self.phase.clone(), found) {
            (Phase::Claiming { at: At::Reading { end }, .. }, found) if slot == self.view.next_slot() => {
                match found {
                    Some(entry) => {
                        self.view.apply(entry);
                        LogStep::Read(self.view.next_slot())
                    }
                    // It must exist, so it was deleted while we read: the log begins later by now.
                    None if end.is_some_and(|end| slot <= end) => self.at(At::Tail, LogStep::Tail),
                    None => self.create_term(),
                }
            }
            (
                Phase::Claiming { at: At::Settling(attempt), .. }
                | Phase::Committing { at: At::Settling(attempt), .. },
                found,
            ) if slot == attempt.entry.slot => {
                match found {
                    Some(found) if attempt.owns(found) => self.confirm(found.clone()),
                    Some(found) => self.lost_to(found),
                    // Not there, but the create may be under way still: try the same entry again, in the same
                    // slot.
                    None => self.ask_to_create(attempt.again()),
                }
            }
            _ => misuse(Misuse::Unexpected),
        }
    }

    /// The answer to [`LogStep::Create`] in `slot`.
    pub fn on_create(&mut self, slot: u64, result: CreateResult) -> LogStep {
        match self.phase.clone() {
            Phase::Claiming { at: At::Creating(attempt), .. }
            | Phase::Committing { at: At::Creating(attempt), .. }
                if attempt.entry.slot == slot =>
            {
                match result {
                    CreateResult::Created => self.confirm(attempt.entry),
                    CreateResult::Exists | CreateResult::Unknown => {
                        self.at(At::Settling(attempt), LogStep::Read(slot))
                    }
                }
            }
            _ => misuse(Misuse::Unexpected),
        }
    }

    /// The answer to [`LogStep::Confirm`].
    pub fn on_confirm(&mut self, found: Anchor) -> LogStep {
        let (Phase::Claiming { at, .. } | Phase::Committing { at, .. }) = self.phase.clone() else {
            return misuse(Misuse::Unexpected);
        };
        let holds = match (self.anchor, found) {
            (None, Anchor::Start) => true,
            (Some((_, known)), Anchor::Entry(token)) => known == token,
            _ => false,
        };
        match at {
            At::Anchoring(attempt) if holds => {
                self.anchor = self.view.tip();
                self.create(attempt)
            }
            At::Confirming(entry) if holds => self.confirmed(&entry),
            // The anchor was deleted. So it was not one of the two highest, and the log ends above the slot
            // after it.
            At::Anchoring(_) | At::Confirming(_) => {
                let slot = self.anchor.map_or(1, |(anchor, _)| anchor.saturating_add(1));
                self.at(At::Overtaken { slot }, LogStep::Tail)
            }
            _ => misuse(Misuse::Unexpected),
        }
    }

    fn confirm(&mut self, entry: LogEntry) -> LogStep {
        self.at(At::Confirming(entry), LogStep::Confirm(self.anchor.map(|(slot, _)| slot)))
    }

    /// Our entry is in the log.
    fn confirmed(&mut self, entry: &LogEntry) -> LogStep {
        let claims = matches!(self.phase, Phase::Claiming { .. });
        self.view.apply(entry);
        self.anchor = self.view.tip();
        let term = entry.term();
        self.phase = Phase::Leading(term);
        if claims {
            self.before = self.view.last_completed();
            self.branch = self.view.newest().map_or_else(Branch::default, |newest| newest.branch.clone());
            return LogStep::Done(LogOutcome::Claimed { term, completed: self.view.completed().to_vec() });
        }
        match self.view.completed().iter().find(|known| known.slot == entry.slot) {
            Some(done) => LogStep::Done(LogOutcome::Committed(done.clone())),
            None => misuse(Misuse::Unexpected),
        }
    }

    /// Creates the entry, once it is certain that what it follows is the log. Slots are deleted in ascending
    /// order, so that all above the anchor is as it was created as long as the anchor is there.
    pub(super) fn create(&mut self, attempt: Attempt) -> LogStep {
        if self.view.tip() == self.anchor {
            return self.ask_to_create(attempt);
        }
        self.at(At::Anchoring(attempt), LogStep::Confirm(self.anchor.map(|(slot, _)| slot)))
    }

    fn ask_to_create(&mut self, attempt: Attempt) -> LogStep {
        let entry = attempt.entry.clone();
        self.at(At::Creating(attempt), LogStep::Create(entry))
    }

    /// Waits for another answer in the same undertaking.
    fn at(&mut self, next: At, step: LogStep) -> LogStep {
        if let Phase::Claiming { at, .. } | Phase::Committing { at, .. } = &mut self.phase {
            *at = next;
        }
        step
    }

    fn fenced(&mut self, by: Term) -> LogStep {
        self.phase = Phase::Fenced { by };
        LogStep::Done(LogOutcome::Fenced { by })
    }

    /// Starts to read where the log begins.
    fn read_from(&mut self, tail: Option<&LogEntry>) -> LogStep {
        self.view = LogView::starting_at(tail.map_or(0, |tail| tail.floor.min(tail.slot)));
        self.anchor = tail.map(|tail| (tail.slot, tail.token));
        match tail {
            None => self.create_term(),
            Some(tail) => self.at(At::Reading { end: Some(tail.slot) }, LogStep::Read(self.view.next_slot())),
        }
    }

    /// All is read: tries to claim the next slot for a term above all seen.
    fn create_term(&mut self) -> LogStep {
        let Phase::Claiming { token, .. } = self.phase else { return misuse(Misuse::Unexpected) };
        if let Some(start) = self.view.restart() {
            let end = self.view.next_slot().checked_sub(1);
            self.view = LogView::starting_at(start);
            return self.at(At::Reading { end }, LogStep::Read(start));
        }
        let (term, slot) = (self.view.term().map_or(Some(Term::FIRST), Term::next), self.view.next_slot());
        let Some(term) = term.filter(|_| slot < u64::MAX) else {
            self.phase = Phase::Idle;
            return misuse(Misuse::Exhausted);
        };
        let (restated, floor) = self.view.restatement();
        let kind = EntryKind::Term { term, holder: self.holder.clone(), restated };
        self.create(Attempt::new(LogEntry { slot, floor, oldest: self.view.oldest(), token, kind }))
    }

    /// Somebody else has the slot.
    fn lost_to(&mut self, found: &LogEntry) -> LogStep {
        self.view.apply(found);
        match self.phase.clone() {
            Phase::Committing { term, at: At::Settling(Attempt { entry, .. }) } => {
                // An equal term is nobody's but ours, and so no less a reason to stop than a higher one.
                if found.term() >= term {
                    return self.fenced(found.term());
                }
                self.create(Attempt::new(LogEntry { slot: self.view.next_slot(), ..entry }))
            }
            _ => self.at(At::Reading { end: None }, LogStep::Read(self.view.next_slot())),
        }
    }
}
