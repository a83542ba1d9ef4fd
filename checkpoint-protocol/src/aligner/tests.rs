mod overtaking;

use proptest::prelude::*;

use super::*;

const NOW: Millis = Millis(0);

fn id(number: u64) -> CheckpointId {
    CheckpointId(number)
}

fn blocked(aligner: &Aligner) -> Vec<usize> {
    (0..aligner.channels).filter(|channel| aligner.is_blocked(*channel)).collect()
}

#[test]
fn one_channel_is_aligned_at_once() {
    let mut aligner = Aligner::new(1);
    let Alignment::Aligned(cut) = aligner.barrier(Millis(3), 0, id(1)) else { panic!("not aligned") };
    assert_eq!((cut.checkpoint, cut.started_at, cut.duration.as_millis()), (id(1), Millis(3), 0));
    assert!(!aligner.is_blocked(0) && aligner.aligning().is_none());
    assert_eq!(aligner.barrier(NOW, 0, id(1)), Alignment::Ignored(IgnoredBecause::Stale));
}

#[test]
fn channels_block_until_the_last_barrier() {
    let mut aligner = Aligner::new(3);
    let block = Alignment::Block { checkpoint: id(4), superseded: None };
    assert_eq!(aligner.barrier(Millis(10), 2, id(4)), block);
    assert_eq!(aligner.barrier(Millis(15), 0, id(4)), block);
    assert_eq!(blocked(&aligner), [0, 2]);
    assert_eq!(aligner.barrier(NOW, 0, id(4)), Alignment::Ignored(IgnoredBecause::Repeated));
    let Alignment::Aligned(cut) = aligner.barrier(Millis(25), 1, id(4)) else { panic!("not aligned") };
    assert_eq!((cut.started_at, cut.duration.as_millis(), cut.all_ended), (Millis(10), 15, false));
    assert!(blocked(&aligner).is_empty());
}

#[test]
fn a_newer_barrier_supersedes() {
    let mut aligner = Aligner::new(3);
    let _ = aligner.barrier(NOW, 0, id(1));
    let _ = aligner.barrier(NOW, 1, id(1));
    let outcome = aligner.barrier(Millis(7), 2, id(2));
    assert_eq!(outcome, Alignment::Block { checkpoint: id(2), superseded: Some(id(1)) });
    assert_eq!(blocked(&aligner), [2]);
    assert_eq!(aligner.barrier(NOW, 2, id(1)), Alignment::Ignored(IgnoredBecause::Stale));
    // With all others at their end, the newer one is complete with its first barrier.
    let mut aligner = Aligner::new(2);
    let _ = aligner.barrier(NOW, 0, id(1));
    let _ = aligner.barrier(NOW, 0, id(1));
    let mut clone = aligner.clone();
    assert!(matches!(clone.end_of_channel(NOW, 1), Alignment::Aligned(cut) if cut.checkpoint == id(1)));
    assert!(matches!(clone.barrier(NOW, 0, id(2)), Alignment::Aligned(cut) if cut.checkpoint == id(2)));
}

#[test]
fn a_cancellation_releases_and_is_remembered() {
    let mut aligner = Aligner::new(2);
    let _ = aligner.barrier(NOW, 0, id(5));
    assert_eq!(aligner.cancellation(1, id(5)), Alignment::Aborted { checkpoint: id(5), superseded: None });
    assert!(blocked(&aligner).is_empty());
    assert_eq!(aligner.barrier(NOW, 1, id(5)), Alignment::Ignored(IgnoredBecause::Stale));
    // A cancellation of one that has not begun here ends an older one and keeps its barriers out.
    let _ = aligner.barrier(NOW, 0, id(6));
    assert_eq!(
        aligner.cancellation(1, id(7)),
        Alignment::Aborted { checkpoint: id(7), superseded: Some(id(6)) }
    );
    assert_eq!(aligner.barrier(NOW, 0, id(7)), Alignment::Ignored(IgnoredBecause::Stale));
    assert_eq!(aligner.abort(id(6)), Alignment::Ignored(IgnoredBecause::Stale));
    // One of an older checkpoint does not disturb the newer.
    let _ = aligner.barrier(NOW, 0, id(9));
    assert_eq!(aligner.abort(id(8)), Alignment::Ignored(IgnoredBecause::Stale));
    assert_eq!((aligner.aligning(), blocked(&aligner)), (Some(id(9)), vec![0]));
}

/// An abort means that one checkpoint: an older one goes on, whether its barriers have begun to come in or
/// not.
#[test]
fn an_abort_leaves_older_checkpoints_alone() {
    let mut aligner = Aligner::new(2);
    let aborted = |number| Alignment::Aborted { checkpoint: id(number), superseded: None };
    assert_eq!(aligner.abort(id(2)), aborted(2));
    assert!(matches!(aligner.barrier(NOW, 0, id(1)), Alignment::Block { .. }));
    assert_eq!(aligner.abort(id(3)), aborted(3));
    assert_eq!(blocked(&aligner), [0]);
    assert!(matches!(aligner.barrier(NOW, 1, id(1)), Alignment::Aligned(cut) if cut.checkpoint == id(1)));
    // Their own barriers, which may be on their way, change nothing.
    for (channel, number) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        assert_eq!(aligner.barrier(NOW, channel, id(number)), Alignment::Ignored(IgnoredBecause::Stale));
    }
    assert!(blocked(&aligner).is_empty());
    assert!(matches!(aligner.barrier(NOW, 0, id(4)), Alignment::Block { .. }));
    assert_eq!(aligner.abort(id(4)), aborted(4));
    assert_eq!(aligner.abort(id(4)), Alignment::Ignored(IgnoredBecause::Stale));
    assert!(blocked(&aligner).is_empty());
}

/// A barrier implies that its channel has none of an older checkpoint, also when its own was aborted.
#[test]
fn the_barrier_of_an_aborted_checkpoint_supersedes_older_ones() {
    let mut aligner = Aligner::new(2);
    let _ = aligner.abort(id(2));
    let _ = aligner.barrier(NOW, 0, id(1));
    let outcome = aligner.barrier(NOW, 1, id(2));
    assert_eq!(outcome, Alignment::Aborted { checkpoint: id(2), superseded: Some(id(1)) });
    assert!(blocked(&aligner).is_empty());
    assert_eq!(aligner.barrier(NOW, 1, id(1)), Alignment::Ignored(IgnoredBecause::Stale));
}

#[test]
fn ended_channels_count_as_delivered() {
    let mut aligner = Aligner::new(3);
    assert_eq!(aligner.end_of_channel(NOW, 1), Alignment::Continue);
    assert_eq!(aligner.end_of_channel(NOW, 1), Alignment::Ignored(IgnoredBecause::Repeated));
    assert!(matches!(aligner.barrier(NOW, 0, id(1)), Alignment::Block { .. }));
    let Alignment::Aligned(cut) = aligner.end_of_channel(Millis(4), 2) else { panic!("not aligned") };
    assert_eq!((cut.checkpoint, cut.duration.as_millis(), cut.all_ended), (id(1), 4, false));
    assert_eq!(aligner.end_of_channel(NOW, 0), Alignment::AllEnded);
    assert!(aligner.all_ended());
}

#[test]
fn a_channel_that_does_not_exist_is_no_input() {
    let mut aligner = Aligner::new(2);
    let no_such = Alignment::Ignored(IgnoredBecause::NoSuchChannel);
    assert_eq!(aligner.barrier(NOW, 2, id(1)), no_such);
    assert_eq!(aligner.cancellation(64, id(1)), no_such);
    assert_eq!(aligner.end_of_channel(NOW, 100), no_such);
    assert!(!aligner.is_blocked(2));
}

/// One thing that a channel carries.
#[derive(Clone, Copy, Debug)]
enum Item {
    Record,
    Barrier(u64),
    Cancel(u64),
}

/// What `channels` inputs carry: the same checkpoints in the same order on each, with records between, some
/// cancelled, some (unlike what a real upstream does) missing.
fn streams(channels: usize) -> impl Strategy<Value = Vec<Vec<Item>>> {
    let marker = prop_oneof![8 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let stream = proptest::collection::vec((0..3usize, marker), 0..6).prop_map(|steps| {
        let mut items = Vec::new();
        for (checkpoint, (records, marker)) in (1..).zip(steps) {
            items.extend(std::iter::repeat_n(Item::Record, records));
            match marker {
                0 => items.push(Item::Barrier(checkpoint)),
                1 => items.push(Item::Cancel(checkpoint)),
                _ => {}
            }
        }
        items
    });
    proptest::collection::vec(stream, channels)
}

proptest! {
    /// Whatever is interleaved how: each cut holds, per channel, exactly the records before its barrier (or
    /// all of an ended channel); cuts come in order; and no channel stays blocked for ever.
    #[test]
    fn every_cut_is_consistent(
        streams in (1usize..5).prop_flat_map(streams),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 200),
    ) {
        let mut aligner = Aligner::new(streams.len());
        let mut place = vec![0; streams.len()];
        let mut records = vec![0; streams.len()];
        let (mut last, mut done, mut ended) = (0, false, vec![false; streams.len()]);
        for pick in order.iter().cycle() {
            let readable: Vec<_> =
                (0..streams.len()).filter(|c| !aligner.is_blocked(*c) && !ended[*c]).collect();
            if readable.is_empty() {
                break;
            }
            let channel = readable[pick.index(readable.len())];
            let item = streams[channel].get(place[channel]).copied();
            place[channel] += 1;
            let outcome = match item {
                Some(Item::Record) => {
                    records[channel] += 1;
                    continue;
                }
                Some(Item::Barrier(number)) => aligner.barrier(NOW, channel, id(number)),
                Some(Item::Cancel(number)) => aligner.cancellation(channel, id(number)),
                None => {
                    ended[channel] = true;
                    aligner.end_of_channel(NOW, channel)
                }
            };
            match outcome {
                Alignment::Aligned(cut) => {
                    prop_assert!(cut.checkpoint.0 > last);
                    last = cut.checkpoint.0;
                    done |= cut.all_ended;
                    for (channel, stream) in streams.iter().enumerate() {
                        let barrier = stream.iter().position(|item| matches!(item, Item::Barrier(n) if *n == last));
                        prop_assert!(barrier.is_some() || ended[channel]);
                        let before = &stream[..barrier.unwrap_or(stream.len())];
                        let expected = before.iter().filter(|item| matches!(item, Item::Record)).count();
                        prop_assert_eq!(records[channel], expected, "channel {} at {}", channel, last);
                    }
                }
                Alignment::Aborted { checkpoint, .. } => {
                    prop_assert!(checkpoint.0 > last);
                    last = checkpoint.0;
                }
                Alignment::AllEnded => done = true,
                Alignment::Block { .. } | Alignment::Continue | Alignment::Ignored(_) => {}
                other => prop_assert!(false, "nothing is overtaken here: {:?}", other),
            }
            prop_assert_eq!(blocked(&aligner).is_empty(), aligner.aligning().is_none());
        }
        prop_assert!(done && ended.iter().all(|ended| *ended), "blocked for ever: {:?}", aligner);
    }
}
