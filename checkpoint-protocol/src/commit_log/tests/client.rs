//! One client, step by step.

use super::*;

/// A store that answers everything at once.
#[derive(Clone, Default)]
pub(super) struct Store {
    pub(super) log: BTreeMap<u64, LogEntry>,
    /// Whether slot 0 may have been deleted.
    pub(super) is_cut: bool,
}

impl Store {
    pub(super) fn with(entries: impl IntoIterator<Item = LogEntry>) -> Self {
        Self { log: entries.into_iter().map(|entry| (entry.slot, entry)).collect(), is_cut: false }
    }

    /// Deletes the slots below this one.
    pub(super) fn cut(&mut self, floor: u64) {
        self.log.retain(|slot, _| *slot >= floor);
        self.is_cut = true;
    }

    pub(super) fn create(&mut self, entry: LogEntry) -> CreateResult {
        if self.log.contains_key(&entry.slot) {
            return CreateResult::Exists;
        }
        self.log.insert(entry.slot, entry);
        CreateResult::Created
    }

    fn answer(&mut self, client: &mut LogClient, step: LogStep) -> LogStep {
        match step {
            LogStep::Tail => client.on_tail(self.log.values().last()),
            LogStep::Read(slot) => client.on_read(slot, self.log.get(&slot)),
            LogStep::Create(entry) => {
                let slot = entry.slot;
                client.on_create(slot, self.create(entry))
            }
            LogStep::Confirm(None) => {
                client.on_confirm(if self.is_cut { Anchor::Gone } else { Anchor::Start })
            }
            LogStep::Confirm(Some(slot)) => client
                .on_confirm(self.log.get(&slot).map_or(Anchor::Gone, |entry| Anchor::Entry(entry.token))),
            LogStep::Done(_) => panic!("{step:?} needs no answer"),
        }
    }

    pub(super) fn drive(&mut self, client: &mut LogClient, mut step: LogStep) -> LogOutcome {
        loop {
            if let LogStep::Done(outcome) = step {
                return outcome;
            }
            step = self.answer(client, step);
        }
    }

    fn drive_to_tail(&mut self, client: &mut LogClient, mut step: LogStep) -> LogStep {
        while step != LogStep::Tail {
            step = self.answer(client, step);
        }
        step
    }

    pub(super) fn claim(&mut self, client: &mut LogClient, token: u128) -> LogOutcome {
        let step = client.claim(Token(token));
        self.drive(client, step)
    }

    pub(super) fn commit(&mut self, client: &mut LogClient, checkpoint: u64, oldest: u64) -> LogOutcome {
        self.commit_as(client, &right(checkpoint), oldest)
    }

    pub(super) fn commit_as(
        &mut self,
        client: &mut LogClient,
        right: &CommitRight,
        oldest: u64,
    ) -> LogOutcome {
        let checkpoint = right.checkpoint().0;
        let token = Token(u128::from(checkpoint) << 64 | u128::from(self.log.len() as u64) << 32);
        let step = client.commit(right, token, manifest(checkpoint), oldest);
        self.drive(client, step)
    }
}

pub(super) fn leader(store: &mut Store, token: u128) -> LogClient {
    let mut client = LogClient::new("leader");
    assert!(matches!(store.claim(&mut client, token), LogOutcome::Claimed { .. }));
    client
}

pub(super) fn committed(outcome: &LogOutcome) -> (u64, u64) {
    match outcome {
        LogOutcome::Committed(entry) => (entry.slot, entry.checkpoint.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_term_is_claimed_and_checkpoints_are_committed() {
    let mut store = Store::default();
    let mut client = leader(&mut store, 1);
    assert_eq!(client.term(), Some(Term(1)));
    assert_eq!(committed(&store.commit(&mut client, 1, 0)), (1, 1));
    assert_eq!(committed(&store.commit(&mut client, 2, 0)), (2, 2));
    let step = client.probe();
    assert_eq!(store.drive(&mut client, step), LogOutcome::Leading(Term(1)));

    let mut next = LogClient::new("next");
    let LogOutcome::Claimed { term, completed } = store.claim(&mut next, 2) else { panic!("not claimed") };
    assert_eq!((term, ids(&completed)), (Term(2), vec![1, 2]));
    // The old one finds out: by asking, or by trying, and then for ever.
    let fenced = LogOutcome::Fenced { by: Term(2) };
    let mut curious = client.clone();
    let step = curious.probe();
    assert_eq!(store.drive(&mut curious, step), fenced);
    assert_eq!(store.commit(&mut client, 3, 0), fenced);
    assert_eq!(store.commit(&mut client, 4, 0), fenced);
    assert_eq!((client.claim(Token(9)), client.term()), (LogStep::Done(fenced), None));
    assert_eq!(committed(&store.commit(&mut next, 3, 0)), (4, 3));
}

#[test]
fn a_claim_that_loses_its_slot_reads_on() {
    let mut store = Store::default();
    let mut slow = LogClient::new("slow");
    let mut step = slow.claim(Token(1));
    while !matches!(step, LogStep::Create(_)) {
        step = store.answer(&mut slow, step);
    }
    let mut fast = leader(&mut store, 2);
    store.commit(&mut fast, 1, 0);
    let LogOutcome::Claimed { term, completed } = store.drive(&mut slow, step) else { panic!("not claimed") };
    assert_eq!((term, ids(&completed)), (Term(2), vec![1]));
    assert_eq!(store.commit(&mut fast, 2, 0), LogOutcome::Fenced { by: Term(2) });
}

#[test]
fn a_lost_answer_is_settled_by_the_token() {
    let mut store = Store::default();
    let mut client = leader(&mut store, 1);
    let LogStep::Create(entry) = client.commit(&right(1), Token(5), manifest(1), 0) else {
        panic!("no create")
    };

    // It did not happen (yet): the same entry is tried again in the same slot.
    let mut late = client.clone();
    let step = late.on_create(1, CreateResult::Unknown);
    assert_eq!(step, LogStep::Read(1));
    let again = LogEntry { token: Token(6), ..entry.clone() };
    assert_eq!(store.answer(&mut late, step), LogStep::Create(again.clone()));
    // Now the first create arrives late; the second is refused; the slot is ours all the same.
    store.create(entry.clone());
    let step = late.on_create(1, store.create(again));
    assert_eq!(step, LogStep::Read(1));
    assert!(late.is_unsettled(&entry) && !late.is_unsettled(&LogEntry { token: Token(7), ..entry }));
    assert_eq!(committed(&store.drive(&mut late, step)), (1, 1));

    // It did happen.
    let step = client.on_create(1, CreateResult::Unknown);
    assert_eq!(committed(&store.drive(&mut client, step)), (1, 1));
    assert_eq!(store.log.len(), 2);

    // Someone else has the slot.
    let mut stale = client.clone();
    leader(&mut store, 2);
    let LogStep::Create(_) = stale.commit(&right(2), Token(6), manifest(2), 0) else { panic!("no create") };
    let step = stale.on_create(2, CreateResult::Unknown);
    assert_eq!(store.drive(&mut stale, step), LogOutcome::Fenced { by: Term(2) });
}

#[test]
fn entries_of_fenced_coordinators_are_passed_over() {
    let mut store = Store::with([term_entry(0, 0, 5)]);
    let mut client = leader(&mut store, 1);
    store.create(checkpoint_entry(2, 0, 5, 9));
    assert_eq!(committed(&store.commit(&mut client, 1, 0)), (3, 1));
    // An entry of our own term that is not ours: somebody breaks the rules, and we stop.
    store.create(checkpoint_entry(4, 0, 6, 2));
    assert_eq!(store.commit(&mut client, 3, 0), LogOutcome::Fenced { by: Term(6) });
}

#[test]
fn the_log_can_be_cut_and_read_from_its_floor() {
    let mut store = Store::default();
    let mut client = leader(&mut store, 1);
    for checkpoint in 1..=5 {
        let floor = checkpoint - 1;
        assert_eq!(committed(&store.commit(&mut client, checkpoint, floor)), (checkpoint, checkpoint));
    }
    assert_eq!(ids(client.completed()), [4, 5]);
    store.cut(4);
    let mut next = LogClient::new("next");
    let LogOutcome::Claimed { term, completed } = store.claim(&mut next, 2) else { panic!("not claimed") };
    assert_eq!((term, ids(&completed)), (Term(2), vec![4, 5]));
    // A floor never falls, and never rises above the entry itself.
    assert_eq!(committed(&store.commit(&mut next, 6, 0)), (7, 6));
    assert_eq!(committed(&store.commit(&mut next, 7, 99)), (8, 7));
    assert_eq!(store.log.values().map(|entry| entry.floor).collect::<Vec<_>>(), [3, 4, 4, 4, 8]);
    assert_eq!(ids(next.completed()), [7]);
}

#[test]
fn a_create_in_a_slot_that_was_filled_and_deleted_does_not_count() {
    let mut store = Store::default();
    let mut old = leader(&mut store, 1);
    // One about to commit, one about to claim in the empty log: both fall asleep.
    let asleep = old.commit(&right(1), Token(5), manifest(1), 0);
    let mut claimer = LogClient::new("claimer");
    let _ = claimer.claim(Token(6));
    let claim = claimer.on_tail(None);
    let mut new = leader(&mut store, 2);
    for checkpoint in 1..=3 {
        store.commit(&mut new, checkpoint, checkpoint);
    }
    store.cut(3);

    assert_eq!(store.drive(&mut old, asleep), LogOutcome::Fenced { by: Term(2) });
    let LogOutcome::Claimed { term, completed } = store.drive(&mut claimer, claim) else {
        panic!("not claimed")
    };
    assert_eq!((term, ids(&completed)), (Term(3), vec![2, 3]));
    // Both left an entry below the floor. No reader minds.
    assert_eq!(store.log.keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
    let log: Vec<_> = store.log.values().cloned().collect();
    assert_eq!(ids(&super::completed(&log)), [2, 3]);
}

#[test]
fn a_reader_that_the_floor_overtakes_is_not_misled_by_a_ghost() {
    let mut store = Store::with([term_entry(0, 0, 1), checkpoint_entry(1, 0, 1, 1)]);
    let mut slow = LogClient::new("slow");
    let _ = slow.claim(Token(1));
    let mut step = slow.on_tail(store.log.get(&1));
    for _ in 0..2 {
        step = store.answer(&mut slow, step);
    }
    // It is about to read slot 2, which is filled, deleted, and filled again by one who came too late with a
    // high term.
    assert_eq!(step, LogStep::Read(2));
    store.cut(2);
    for entry in [checkpoint_entry(3, 0, 1, 3), checkpoint_entry(4, 3, 1, 4), term_entry(2, 0, 2)] {
        store.create(entry);
    }
    let LogOutcome::Claimed { term, completed } = store.drive(&mut slow, step) else { panic!("not claimed") };
    assert_eq!((term, ids(&completed)), (Term(2), vec![3, 4]));
}

#[test]
fn a_ghost_is_not_taken_for_the_end_of_the_log() {
    // Two fall asleep after slot 1: one that claims, and one that is about to commit.
    let mut store = Store::with([term_entry(0, 0, 1)]);
    let mut leader = leader(&mut store, 1);
    let commit = leader.commit(&right(1), Token(5), manifest(1), 0);
    let mut claimer = LogClient::new("claimer");
    let _ = claimer.claim(Token(6));
    let mut claim = claimer.on_tail(store.log.get(&1));
    for _ in 0..2 {
        claim = store.answer(&mut claimer, claim);
    }
    assert_eq!(claim, LogStep::Read(2));
    // Meanwhile the log went on and was cut, and another sleeper left a ghost in slot 2. Slot 3 is empty.
    let entries = [checkpoint_entry(2, 0, 1, 1), term_entry(7, 7, 3), checkpoint_entry(8, 7, 3, 2)];
    store = Store::with(entries);
    store.is_cut = true;

    // The ghost stays, so a client that takes it for the entry before slot 3 finds that confirmed.
    let LogOutcome::Claimed { term, completed } = store.drive(&mut claimer, claim) else {
        panic!("no claim")
    };
    assert_eq!((term, ids(&completed)), (Term(4), vec![2]));
    assert_eq!(store.drive(&mut leader, commit), LogOutcome::Fenced { by: Term(4) });
    assert_eq!(store.log.keys().copied().collect::<Vec<_>>(), [2, 7, 8, 9]);
}

#[test]
fn an_end_of_the_log_that_cannot_be_is_not_believed() {
    let mut store = Store::default();
    let mut claimer = LogClient::new("claimer");
    let _ = claimer.claim(Token(6));
    let create = claimer.on_tail(None);
    let mut leader = leader(&mut store, 1);
    let commit = leader.commit(&right(1), Token(5), manifest(1), 0);
    store = Store::with([term_entry(7, 7, 3), checkpoint_entry(8, 7, 3, 2)]);
    store.is_cut = true;
    // A listing that was made while slots came and went shows no more than their own entries. The first looks
    // again; the second knows enough: somebody has a higher term.
    let step = store.drive_to_tail(&mut claimer, create);
    let ghost = store.log.remove(&0);
    assert_eq!((step, claimer.on_tail(ghost.as_ref())), (LogStep::Tail, LogStep::Tail));
    let LogOutcome::Claimed { term, .. } = store.drive(&mut claimer, LogStep::Tail) else {
        panic!("no claim")
    };
    assert_eq!(term, Term(4));
    let step = store.drive_to_tail(&mut leader, commit);
    let ghost = store.log.get(&1);
    let fenced = LogStep::Done(LogOutcome::Fenced { by: Term(2) });
    assert_eq!((step, leader.on_tail(ghost)), (LogStep::Tail, fenced));
}

#[test]
fn calls_out_of_order_are_told_and_change_nothing() {
    let mut store = Store::default();
    let mut client = LogClient::new("test");
    let misuse = |misuse| LogStep::Done(LogOutcome::Misuse(misuse));
    let commit = |client: &mut LogClient, n| client.commit(&right(n), Token(7), manifest(n), 0);
    assert_eq!(commit(&mut client, 1), misuse(Misuse::NotLeading));
    assert_eq!(client.probe(), misuse(Misuse::NotLeading));
    assert_eq!(client.on_tail(None), misuse(Misuse::Unexpected));
    let step = client.claim(Token(1));
    assert_eq!(client.claim(Token(1)), misuse(Misuse::Busy));
    assert_eq!(client.on_read(0, None), misuse(Misuse::Unexpected));
    assert_eq!(client.on_create(0, CreateResult::Created), misuse(Misuse::Unexpected));
    assert_eq!(client.on_confirm(Anchor::Start), misuse(Misuse::Unexpected));
    store.drive(&mut client, step);
    assert_eq!(client.claim(Token(1)), misuse(Misuse::AlreadyLeading(Term(1))));
    store.commit(&mut client, 4, 0);
    assert_eq!(commit(&mut client, 4), misuse(Misuse::NotNewer { last: CheckpointId(4) }));
    let before = client.clone();
    assert_eq!(client.on_read(2, Some(&term_entry(3, 0, 9))), misuse(Misuse::Unexpected));
    assert_eq!(client, before);
    assert_eq!(committed(&store.commit(&mut client, 5, 0)), (2, 5));
}
