//! Many clients on one log whose store loses answers, delays creates, and deletes what lies below the floor.
//!
//! The *true log* is, per slot, the first entry that was ever created there: what the store would hold if
//! nothing were deleted. Every answer that a client got must be true of it.

use proptest::prelude::*;

use super::*;

/// What the scheduler does next; numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client's question is answered.
    Answer(usize),
    /// A client's create is not answered; it happens now, later, or never.
    LoseAnswer(usize, Fate),
    /// A delayed create arrives.
    Arrive(usize),
    /// An idle client starts to claim, or to commit.
    Work(usize, u64),
    /// A client is replaced by a new one.
    Crash(usize),
    /// A slot that may be deleted is.
    Delete(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Now,
    Later,
    Never,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![Just(Fate::Now), Just(Fate::Later), Just(Fate::Never)];
    let client = 0..3usize;
    prop_oneof![
        60 => client.clone().prop_map(Event::Answer),
        6 => (client.clone(), fate).prop_map(|(client, fate)| Event::LoseAnswer(client, fate)),
        3 => (0..9usize).prop_map(Event::Arrive),
        20 => (client.clone(), 0..3u64).prop_map(|(client, keep)| Event::Work(client, keep)),
        1 => client.prop_map(Event::Crash),
        15 => (0..9usize).prop_map(Event::Delete),
    ]
}

struct Node {
    client: LogClient,
    step: Option<LogStep>,
}

#[derive(Default)]
struct World {
    stored: BTreeMap<u64, LogEntry>,
    /// Whether slot 0 was ever deleted.
    is_cut: bool,
    truth: BTreeMap<u64, LogEntry>,
    delayed: Vec<LogEntry>,
    nodes: Vec<Node>,
    tokens: u128,
    terms: Vec<Term>,
    commits: usize,
}

impl World {
    fn create(&mut self, entry: &LogEntry) -> CreateResult {
        if self.stored.contains_key(&entry.slot) {
            return CreateResult::Exists;
        }
        self.stored.insert(entry.slot, entry.clone());
        self.truth.entry(entry.slot).or_insert_with(|| entry.clone());
        CreateResult::Created
    }

    fn run(&mut self, event: Event) {
        match event {
            Event::Answer(node) => self.answer(node, None),
            Event::LoseAnswer(node, fate) => self.answer(node, Some(fate)),
            Event::Arrive(nth) if !self.delayed.is_empty() => {
                let entry = self.delayed.swap_remove(nth % self.delayed.len());
                self.create(&entry);
            }
            Event::Work(node, keep) => self.work(node, keep),
            Event::Crash(node) => self.nodes[node] = Node { client: LogClient::new("node"), step: None },
            Event::Delete(nth) => {
                let deletable = self.deletable();
                if !deletable.is_empty() {
                    let slot = deletable[nth % deletable.len()];
                    self.is_cut |= slot == 0;
                    self.stored.remove(&slot);
                }
            }
            Event::Arrive(_) => {}
        }
    }

    /// What lies below the floor, but for the two highest: true slots in ascending order, what came too late
    /// at any time.
    fn deletable(&self) -> Vec<u64> {
        let floor = self.stored.values().last().map_or(0, |tail| tail.floor);
        let end = self.stored.keys().rev().nth(1).map_or(0, |second| floor.min(*second));
        let (mut slots, mut is_first) = (Vec::new(), true);
        for (slot, entry) in self.stored.range(..end) {
            let is_true = self.truth.get(slot) == Some(entry);
            if !is_true || is_first {
                slots.push(*slot);
            }
            is_first &= !is_true;
        }
        slots
    }

    fn work(&mut self, node: usize, keep: u64) {
        self.tokens += 1;
        let token = Token(self.tokens << 32);
        let Node { client, step } = &mut self.nodes[node];
        if step.is_some() {
            return;
        }
        let next = if client.term().is_none() {
            client.claim(token)
        } else {
            let checkpoint = client.view().last_completed().map_or(1, |last| last.0 + 1);
            let retained = client.completed().iter().rev().nth(keep as usize).map_or(0, |entry| entry.slot);
            client.commit(&right(checkpoint), token, manifest(checkpoint), retained)
        };
        self.went(node, next);
    }

    fn answer(&mut self, node: usize, lost: Option<Fate>) {
        let Some(step) = self.nodes[node].step.take() else { return };
        let next = match step {
            LogStep::Tail => self.nodes[node].client.on_tail(self.stored.values().last()),
            LogStep::Read(slot) => self.nodes[node].client.on_read(slot, self.stored.get(&slot)),
            LogStep::Create(entry) => {
                let result = match lost {
                    None => self.create(&entry),
                    Some(Fate::Now) => {
                        self.create(&entry);
                        CreateResult::Unknown
                    }
                    Some(Fate::Later) => {
                        self.delayed.push(entry.clone());
                        CreateResult::Unknown
                    }
                    Some(Fate::Never) => CreateResult::Unknown,
                };
                self.nodes[node].client.on_create(entry.slot, result)
            }
            LogStep::Confirm(None) => {
                self.nodes[node].client.on_confirm(if self.is_cut { Anchor::Gone } else { Anchor::Start })
            }
            LogStep::Confirm(Some(slot)) => {
                let found = self.stored.get(&slot).map_or(Anchor::Gone, |entry| Anchor::Entry(entry.token));
                self.nodes[node].client.on_confirm(found)
            }
            LogStep::Done(_) => unreachable!("outcomes are not kept"),
        };
        self.went(node, next);
    }

    fn went(&mut self, node: usize, next: LogStep) {
        match next {
            LogStep::Done(outcome) => self.check(node, outcome),
            question => self.nodes[node].step = Some(question),
        }
    }

    /// Every answer to a client must be true.
    fn check(&mut self, node: usize, outcome: LogOutcome) {
        match outcome {
            LogOutcome::Claimed { term, completed } => {
                assert!(!self.terms.contains(&term), "{term} claimed twice");
                self.terms.push(term);
                let (slot, _) =
                    self.truth.iter().find(|(_, entry)| is_claim(entry, term)).expect("a claim in the log");
                let before: Vec<_> = self.truth.range(..slot).map(|(_, entry)| entry.clone()).collect();
                assert_eq!(completed, super::completed(&before));
            }
            LogOutcome::Committed(done) => {
                let log = self.truth.values().cloned();
                let log = log.map(|entry| LogEntry { floor: 0, oldest: 0, ..entry });
                let log: Vec<_> = log.collect();
                assert!(super::completed(&log).contains(&done), "{done:?} is not in {log:?}");
                self.commits += 1;
            }
            LogOutcome::Fenced { by } => {
                assert!(self.truth.values().any(|entry| entry.term() == by));
                self.nodes[node] = Node { client: LogClient::new("node"), step: None };
            }
            LogOutcome::Leading(_) | LogOutcome::Misuse(_) => panic!("{outcome:?}"),
        }
    }

    /// The true log has no gap, and every entry in it counts. Claims alone do not make it longer.
    fn check_log(&self) {
        let mut view = LogView::default();
        for (slot, entry) in (0..).zip(self.truth.values()) {
            assert_eq!(entry.slot, slot, "a gap");
            let applied = view.apply(entry);
            assert!(!matches!(applied, Applied::Void(_)), "{applied:?}: {entry:?}");
            let claims = self.truth.range(view.floor()..=slot).filter(|(_, entry)| is_any_claim(entry));
            assert!(claims.count() <= 3 + 2 * view.completed().len(), "at slot {slot}");
        }
    }
}

fn is_any_claim(entry: &LogEntry) -> bool {
    matches!(entry.kind, EntryKind::Term { .. })
}

fn is_claim(entry: &LogEntry, term: Term) -> bool {
    matches!(entry.kind, EntryKind::Term { term: claimed, .. } if claimed == term)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::test_cases(400), ..ProptestConfig::default() })]
    #[test]
    fn what_clients_are_told_is_true_and_work_goes_on(events in proptest::collection::vec(event(), 1..600)) {
        let mut world = World::default();
        world.nodes.extend((0..3).map(|_| Node { client: LogClient::new("node"), step: None }));
        for event in events {
            world.run(event);
        }
        world.check_log();
        // The faults end: the client that is left alone commits.
        let before = world.commits;
        world.nodes[0] = Node { client: LogClient::new("survivor"), step: None };
        for _ in 0..80 {
            world.run(Event::Work(0, 1));
            world.run(Event::Answer(0));
        }
        world.check_log();
        prop_assert!(world.commits > before + 5);
    }
}
