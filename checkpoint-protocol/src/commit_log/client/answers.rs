//! What the answers of the store do.

use super::{
    At, CreateResult, EntryKind, LogClient, LogEntry, LogOutcome, LogStep, LogView, Misuse, Phase, Term,
    misuse,
};

impl LogClient {
    /// The answer to [`LogStep::Tail`]: the entry of the highest slot, if there is any.
    pub fn on_tail(&mut self, tail: Option<&LogEntry>) -> LogStep {
        match self.phase.clone() {
            Phase::Claiming { at: At::Tail, .. } => self.read_from(tail),
            Phase::Claiming { at: At::Confirming(entry), .. } => {
                if is_ghost(&entry, tail) {
                    return self.read_from(tail);
                }
                self.view.apply(&entry);
                self.phase = Phase::Leading(entry.term());
                let completed = self.view.completed().to_vec();
                LogStep::Done(LogOutcome::Claimed { term: entry.term(), completed })
            }
            Phase::Committing { term, at: At::Confirming(entry) } => {
                if is_ghost(&entry, tail) {
                    // Someone else has written since, for we did not raise the floor that far.
                    return self.fenced(tail.map_or(term, LogEntry::term));
                }
                self.view.apply(&entry);
                self.phase = Phase::Leading(term);
                match self.view.completed().last() {
                    Some(done) => LogStep::Done(LogOutcome::Committed(done.clone())),
                    None => misuse(Misuse::Unexpected),
                }
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
                Phase::Claiming { at: At::Settling(entry), .. }
                | Phase::Committing { at: At::Settling(entry), .. },
                found,
            ) if slot == entry.slot => {
                match found {
                    Some(found) if found.token == entry.token => {
                        self.at(At::Confirming(entry), LogStep::Tail)
                    }
                    Some(found) => self.lost_to(found),
                    // Not there, but the create may be under way still: try the same entry again, in the same slot.
                    None => self.at(At::Creating(entry.clone()), LogStep::Create(entry)),
                }
            }
            _ => misuse(Misuse::Unexpected),
        }
    }

    /// The answer to [`LogStep::Create`] in `slot`.
    pub fn on_create(&mut self, slot: u64, result: CreateResult) -> LogStep {
        match self.phase.clone() {
            Phase::Claiming { at: At::Creating(entry), .. }
            | Phase::Committing { at: At::Creating(entry), .. }
                if entry.slot == slot =>
            {
                match result {
                    CreateResult::Created => self.at(At::Confirming(entry), LogStep::Tail),
                    CreateResult::Exists | CreateResult::Unknown => {
                        self.at(At::Settling(entry), LogStep::Read(slot))
                    }
                }
            }
            _ => misuse(Misuse::Unexpected),
        }
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
        let term = self.view.term().map_or(Term::FIRST, Term::next);
        let kind = EntryKind::Term { term, holder: self.holder.clone() };
        let entry = LogEntry { slot: self.view.next_slot(), floor: self.view.floor(), token, kind };
        self.at(At::Creating(entry.clone()), LogStep::Create(entry))
    }

    /// Somebody else has the slot.
    fn lost_to(&mut self, found: &LogEntry) -> LogStep {
        self.view.apply(found);
        match self.phase.clone() {
            Phase::Committing { term, at: At::Settling(entry) } => {
                // An equal term is nobody's but ours, and so no less a reason to stop than a higher one.
                if found.term() >= term {
                    return self.fenced(found.term());
                }
                let entry = LogEntry { slot: self.view.next_slot(), ..entry };
                self.at(At::Creating(entry.clone()), LogStep::Create(entry))
            }
            _ => self.at(At::Reading { end: None }, LogStep::Read(self.view.next_slot())),
        }
    }
}

/// Whether a created entry lies below the beginning of the log: its slot had been filled and deleted before.
fn is_ghost(entry: &LogEntry, tail: Option<&LogEntry>) -> bool {
    tail.is_some_and(|tail| tail.slot != entry.slot && tail.floor > entry.slot)
}
