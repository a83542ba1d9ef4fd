//! Barriers that overtake records: by example, and against the definition of a consistent cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const AT_ONCE: Option<Millis> = Some(NOW);

/// An aligner all of whose channels may be overtaken.
fn overtaking(channels: usize) -> Aligner {
    let mut aligner = Aligner::new(channels);
    (0..channels).for_each(|channel| aligner.let_overtake(channel));
    aligner
}

fn is_cut(outcome: Alignment, checkpoint: u64) -> bool {
    matches!(outcome, Alignment::Overtaken(cut) if cut.checkpoint == id(checkpoint))
}

#[test]
fn the_first_arrival_is_the_cut() {
    let mut aligner = overtaking(2);
    assert!(is_cut(aligner.arrival(NOW, 1, id(1), AT_ONCE), 1));
    assert_eq!(aligner.poll(NOW), None);
    assert!(aligner.has_overtaken(id(1), 0) && aligner.has_overtaken(id(1), 1));
    assert_eq!(aligner.recording(0).collect::<Vec<_>>(), [id(1)], "its barrier is yet to come");
    assert_eq!(aligner.recording(1).count(), 0);
    assert!(blocked(&aligner).is_empty());
    assert_eq!(aligner.arrival(NOW, 0, id(1), AT_ONCE), Alignment::Continue);
    assert_eq!(aligner.poll(NOW), Some(Alignment::Recorded(id(1))));
    assert_eq!(aligner.poll(NOW), None);
    // Its barriers are read later, and change nothing.
    for channel in 0..2 {
        assert_eq!(aligner.barrier(NOW, channel, id(1)), Alignment::Ignored(IgnoredBecause::Stale));
    }
}

#[test]
fn a_channel_that_has_delivered_is_not_overtaken() {
    let mut aligner = overtaking(3);
    let later = Some(Millis(100));
    assert_eq!(aligner.arrival(Millis(10), 0, id(1), later), Alignment::Continue);
    assert!(matches!(aligner.barrier(Millis(20), 0, id(1)), Alignment::Block { .. }));
    assert_eq!(aligner.arrival(Millis(30), 1, id(1), later), Alignment::Continue);
    assert_eq!((aligner.poll(Millis(99)), aligner.next_deadline()), (None, later));
    let Some(Alignment::Overtaken(cut)) = aligner.poll(Millis(100)) else { panic!("no cut") };
    assert_eq!((cut.started_at, cut.duration.as_millis()), (Millis(10), 90));
    let overtaken: Vec<_> = (0..3).filter(|channel| aligner.has_overtaken(id(1), *channel)).collect();
    assert_eq!((overtaken, blocked(&aligner)), (vec![1, 2], vec![]));
    assert_eq!((0..3).map(|channel| aligner.recording(channel).count()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(aligner.next_deadline(), None);
    // A second arrival of the same barrier, and the end of the channel that has none.
    let repeated = Alignment::Ignored(IgnoredBecause::Repeated);
    assert_eq!(aligner.arrival(NOW, 1, id(1), later), repeated);
    assert_eq!((aligner.end_arrival(2), aligner.end_arrival(2)), (Alignment::Continue, repeated));
    assert_eq!(aligner.poll(NOW), Some(Alignment::Recorded(id(1))));
}

#[test]
fn an_alignment_within_the_timeout_overtakes_nothing() {
    let mut aligner = overtaking(2);
    for channel in 0..2 {
        assert_eq!(aligner.arrival(NOW, channel, id(1), Some(Millis(50))), Alignment::Continue);
    }
    assert!(matches!(aligner.barrier(NOW, 1, id(1)), Alignment::Block { .. }));
    assert!(matches!(aligner.barrier(Millis(49), 0, id(1)), Alignment::Aligned(_)));
    assert_eq!((aligner.poll(Millis(60)), aligner.next_deadline()), (None, None));
}

/// The cut waits for channels that must not be overtaken, and for nothing else.
#[test]
fn copies_are_not_overtaken() {
    let mut aligner = Aligner::new(3);
    aligner.let_overtake(0);
    aligner.let_overtake(1);
    assert_eq!(aligner.arrival(NOW, 0, id(1), AT_ONCE), Alignment::Continue);
    assert_eq!(aligner.arrival(NOW, 2, id(1), AT_ONCE), Alignment::Continue);
    assert_eq!((aligner.poll(NOW), aligner.next_deadline()), (None, None), "nobody has to wake up");
    assert!(blocked(&aligner).is_empty());
    assert!(is_cut(aligner.barrier(NOW, 2, id(1)), 1));
    assert!(aligner.has_overtaken(id(1), 1) && !aligner.has_overtaken(id(1), 2));
}

/// Cuts come in order: a savepoint, which is aligned, holds up what comes behind it, until its cut or its
/// abort.
#[test]
fn a_barrier_does_not_overtake_one_that_is_aligned() {
    let mut aligner = overtaking(2);
    assert_eq!(aligner.arrival(NOW, 0, id(1), None), Alignment::Continue);
    assert_eq!(aligner.arrival(NOW, 0, id(2), AT_ONCE), Alignment::Continue);
    assert_eq!(aligner.arrival(NOW, 1, id(1), None), Alignment::Continue);
    assert!(matches!(aligner.barrier(NOW, 0, id(1)), Alignment::Block { .. }));
    assert_eq!(aligner.poll(NOW), None);
    let mut aborted = aligner.clone();
    assert!(matches!(aligner.barrier(NOW, 1, id(1)), Alignment::Aligned(cut) if cut.checkpoint == id(1)));
    assert!(is_cut(aligner.poll(NOW).unwrap(), 2));
    assert_eq!(aborted.abort(id(1)), Alignment::Aborted { checkpoint: id(1), superseded: None });
    assert!(blocked(&aborted).is_empty());
    assert!(is_cut(aborted.poll(NOW).unwrap(), 2));
}

#[test]
fn several_record_at_once_and_an_abort_ends_one() {
    let mut aligner = overtaking(2);
    for number in 1..4 {
        assert!(is_cut(aligner.arrival(NOW, 0, id(number), AT_ONCE), number));
    }
    assert_eq!(aligner.recording(1).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
    assert_eq!(aligner.abort(id(2)), Alignment::Aborted { checkpoint: id(2), superseded: None });
    assert_eq!(aligner.arrival(NOW, 1, id(1), AT_ONCE), Alignment::Continue);
    assert_eq!(aligner.poll(NOW), Some(Alignment::Recorded(id(1))));
    assert_eq!(aligner.arrival(NOW, 1, id(2), AT_ONCE), Alignment::Ignored(IgnoredBecause::Stale));
    assert_eq!((aligner.poll(NOW), aligner.recording(1).count()), (None, 1));
    assert_eq!(aligner.cancellation(1, id(3)), Alignment::Aborted { checkpoint: id(3), superseded: None });
    assert_eq!(aligner.recording(1).count(), 0);
}

/// A channel that has the barrier of a newer checkpoint and never had that of an older one ends the older.
#[test]
fn recordings_and_alignments_are_superseded() {
    let mut aligner = overtaking(3);
    assert!(is_cut(aligner.arrival(NOW, 0, id(1), AT_ONCE), 1));
    assert_eq!(aligner.arrival(NOW, 1, id(1), AT_ONCE), Alignment::Continue);
    assert_eq!(aligner.arrival(NOW, 0, id(2), None), Alignment::Continue);
    assert!(is_cut(aligner.arrival(NOW, 2, id(3), AT_ONCE), 3));
    let mut superseded = [aligner.poll(NOW), aligner.poll(NOW)];
    superseded.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(superseded, [1, 2].map(|number| Some(Alignment::Superseded(id(number)))));
    assert_eq!(aligner.poll(NOW), None);
    assert_eq!(aligner.arrival(NOW, 2, id(1), AT_ONCE), Alignment::Ignored(IgnoredBecause::Stale));
}

/// What a checkpoint consists of, for each channel: the records that the task had read, and those that the
/// barrier overtook.
#[derive(Clone, Debug, Default)]
struct Content {
    read: Vec<Vec<usize>>,
    overtaken: Vec<Vec<usize>>,
}

/// A task as the aligner sees it: what has arrived on its channels, and what it has read.
struct Host {
    aligner: Aligner,
    /// What has not arrived; what has arrived and was not read.
    sent: Vec<VecDeque<(usize, Item)>>,
    arrived: Vec<VecDeque<(usize, Item)>>,
    read: Vec<Vec<usize>>,
    policies: Vec<Option<Millis>>,
    under_way: BTreeMap<u64, Content>,
    complete: BTreeMap<u64, Content>,
    given_up: BTreeSet<u64>,
    last_cut: u64,
}

impl Host {
    fn new(aligner: Aligner, streams: &[Vec<Item>], policies: Vec<Option<Millis>>) -> Self {
        let channels = streams.len();
        Self {
            aligner,
            sent: streams.iter().map(|stream| stream.iter().copied().enumerate().collect()).collect(),
            arrived: vec![VecDeque::new(); channels],
            read: vec![Vec::new(); channels],
            policies,
            under_way: BTreeMap::new(),
            complete: BTreeMap::new(),
            given_up: BTreeSet::new(),
            last_cut: 0,
        }
    }

    /// The next thing arrives on a channel; behind the last one, its end.
    fn arrive(&mut self, now: Millis, channel: usize) {
        let Some((place, item)) = self.sent[channel].pop_front() else {
            let outcome = self.aligner.end_arrival(channel);
            return self.follow(now, outcome);
        };
        self.arrived[channel].push_back((place, item));
        match item {
            Item::Record => {
                for checkpoint in self.aligner.recording(channel) {
                    let content = self.under_way.get_mut(&checkpoint.0).unwrap();
                    content.overtaken[channel].push(place);
                }
            }
            Item::Barrier(number) => {
                let policy = self.policies[number as usize];
                let outcome = self.aligner.arrival(now, channel, id(number), policy);
                self.follow(now, outcome);
            }
            Item::Cancel(_) => {}
        }
    }

    fn read(&mut self, now: Millis, channel: usize) {
        let outcome = match self.arrived[channel].pop_front() {
            Some((place, Item::Record)) => return self.read[channel].push(place),
            Some((_, Item::Barrier(number))) => self.aligner.barrier(now, channel, id(number)),
            Some((_, Item::Cancel(number))) => self.aligner.cancellation(channel, id(number)),
            None => self.aligner.end_of_channel(now, channel),
        };
        self.follow(now, outcome);
    }

    fn follow(&mut self, now: Millis, outcome: Alignment) {
        self.answer(outcome);
        while let Some(outcome) = self.aligner.poll(now) {
            self.answer(outcome);
        }
    }

    fn answer(&mut self, outcome: Alignment) {
        match outcome {
            Alignment::Aligned(cut) => {
                self.give_up(cut.superseded);
                self.cut(cut.checkpoint);
                let content = self.under_way.remove(&cut.checkpoint.0).unwrap();
                self.complete.insert(cut.checkpoint.0, content);
            }
            Alignment::Overtaken(cut) => {
                self.give_up(cut.superseded);
                self.cut(cut.checkpoint);
                for channel in 0..self.arrived.len() {
                    if self.aligner.has_overtaken(cut.checkpoint, channel) {
                        let is_own = |item: &Item| matches!(item, Item::Barrier(n) if *n == cut.checkpoint.0);
                        let before = self.arrived[channel].iter().take_while(|(_, item)| !is_own(item));
                        let records = before.filter(|(_, item)| matches!(item, Item::Record));
                        let places = records.map(|(place, _)| *place);
                        self.under_way.get_mut(&cut.checkpoint.0).unwrap().overtaken[channel].extend(places);
                    }
                }
            }
            Alignment::Recorded(checkpoint) => {
                let content = self.under_way.remove(&checkpoint.0).unwrap();
                self.complete.insert(checkpoint.0, content);
            }
            Alignment::Superseded(checkpoint) => self.give_up(Some(checkpoint)),
            Alignment::Aborted { checkpoint, superseded } => {
                self.give_up(Some(checkpoint));
                self.give_up(superseded);
            }
            Alignment::Block { superseded, .. } => self.give_up(superseded),
            Alignment::Continue | Alignment::AllEnded | Alignment::Ignored(_) => {}
        }
    }

    fn give_up(&mut self, checkpoint: Option<CheckpointId>) {
        let Some(checkpoint) = checkpoint else { return };
        self.under_way.remove(&checkpoint.0);
        assert!(!self.complete.contains_key(&checkpoint.0), "{checkpoint} was complete");
        self.given_up.insert(checkpoint.0);
    }

    fn cut(&mut self, checkpoint: CheckpointId) {
        assert!(checkpoint.0 > self.last_cut, "cuts come in order");
        self.last_cut = checkpoint.0;
        let overtaken = vec![Vec::new(); self.read.len()];
        self.under_way.insert(checkpoint.0, Content { read: self.read.clone(), overtaken });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(1_000)))]

    /// Whatever arrives, is read, times out and is aborted in which order, with barriers that may overtake,
    /// may overtake later, or may not, on channels that may be overtaken or not: each checkpoint that
    /// completes holds every record before its barriers once, in order; cuts come in order; no channel stays
    /// blocked, and no checkpoint stays open.
    #[test]
    fn what_was_read_and_what_was_overtaken_is_the_cut(
        streams in (1usize..5).prop_flat_map(streams),
        policies in proptest::collection::vec(proptest::option::weighted(0.8, 0u64..60), 7),
        copies in proptest::collection::vec(proptest::bool::weighted(0.2), 5),
        steps in proptest::collection::vec((any::<proptest::sample::Index>(), 0u8..20), 300),
    ) {
        let mut aligner = Aligner::new(streams.len());
        (0..streams.len()).filter(|c| !copies[*c]).for_each(|channel| aligner.let_overtake(channel));
        let policies = policies.into_iter().map(|at| at.map(Millis)).collect();
        let mut host = Host::new(aligner, &streams, policies);
        let mut ended = vec![[false; 2]; streams.len()];
        let mut time = 0;
        for (pick, what) in steps.iter().cycle() {
            let now = Millis(time);
            match what {
                0 => time += 10,
                1 => {
                    let checkpoint = id(1 + pick.index(6) as u64);
                    if !host.complete.contains_key(&checkpoint.0) {
                        let outcome = host.aligner.abort(checkpoint);
                        host.follow(now, outcome);
                    }
                }
                2..10 => {
                    let open: Vec<_> = (0..streams.len()).filter(|channel| !ended[*channel][0]).collect();
                    if let Some(channel) = open.get(pick.index(open.len().max(1))) {
                        ended[*channel][0] = host.sent[*channel].is_empty();
                        host.arrive(now, *channel);
                    }
                }
                _ => {
                    let is_readable = |channel: &usize| {
                        let [has_arrived, was_read] = ended[*channel];
                        let waits = !host.arrived[*channel].is_empty() || (has_arrived && !was_read);
                        waits && !host.aligner.is_blocked(*channel)
                    };
                    let open: Vec<_> = (0..streams.len()).filter(is_readable).collect();
                    if let Some(channel) = open.get(pick.index(open.len().max(1))) {
                        ended[*channel][1] = host.arrived[*channel].is_empty();
                        host.read(now, *channel);
                    }
                }
            }
            while let Some(outcome) = host.aligner.poll(Millis(time)) {
                host.answer(outcome);
            }
            if ended.iter().all(|[_, was_read]| *was_read) {
                break;
            }
            prop_assert!(time < 100_000, "blocked for ever: {:?}", host.aligner);
        }
        prop_assert!(host.under_way.is_empty(), "open for ever: {:?}", host.under_way.keys());
        prop_assert_eq!((host.aligner.aligning(), blocked(&host.aligner)), (None, vec![]));
        for (number, content) in &host.complete {
            prop_assert!(!host.given_up.contains(number));
            for (channel, stream) in streams.iter().enumerate() {
                let barrier = stream.iter().position(|item| matches!(item, Item::Barrier(n) if n == number));
                let before = stream[..barrier.unwrap_or(stream.len())].iter().enumerate();
                let expected: Vec<_> =
                    before.filter(|(_, item)| matches!(item, Item::Record)).map(|(place, _)| place).collect();
                let actual = [&content.read[channel][..], &content.overtaken[channel]].concat();
                prop_assert_eq!(actual, expected, "channel {} at {}", channel, number);
            }
        }
        // What every channel had, and nobody ended, is complete.
        for number in 1..7 {
            let has = |stream: &Vec<Item>| stream.iter().any(|item| matches!(item, Item::Barrier(n) if *n == number));
            if streams.iter().all(has) && !host.given_up.contains(&number) {
                prop_assert!(host.complete.contains_key(&number), "{} is missing", number);
            }
        }
    }
}
