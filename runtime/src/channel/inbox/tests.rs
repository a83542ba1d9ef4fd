use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;

use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Timestamp};

use super::*;
use crate::barrier::Barrier;

impl Inbox {
    /// Sends as a task without checkpoints does.
    fn put(self: &Arc<Self>, channel: u32, message: Message) -> Result<()> {
        let urgency = Arc::new(Urgency::new(Instant::now()));
        self.send(channel, message, Patience { urgency: &urgency, until: None })
    }

    fn reader(self: &Arc<Self>, notices: bool) -> (InboxReader, Arc<Urgency>) {
        let urgency = Arc::new(Urgency::new(Instant::now()));
        (InboxReader::new(Arc::clone(self), &urgency, notices), urgency)
    }
}

fn threads() -> Threads {
    Threads::OfSystem(tokio::runtime::Builder::new_current_thread().build().unwrap().handle().clone())
}

fn numbered(number: i64) -> Message {
    Message::Batch { records: None, watermark: Some(Timestamp::from_millis(number)) }
}

fn number(message: &Message) -> i64 {
    match message {
        Message::Batch { watermark: Some(number), .. } => number.as_millis(),
        _ => -1,
    }
}

#[test]
fn messages_of_a_channel_keep_their_order_while_it_is_blocked_and_after() {
    let inbox = Arc::new(Inbox::new(2, 10, threads()));
    let (mut reader, _) = inbox.reader(false);
    for (channel, n) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        inbox.put(channel, numbered(n)).unwrap();
    }
    let mut next = |blocked: Option<usize>| {
        let next = reader.next(|channel| Some(channel) == blocked);
        next.map(|(channel, message)| (channel, number(&message)))
    };
    assert_eq!(next(Some(0)), Some((1, 2)));
    inbox.put(0, numbered(5)).unwrap();
    assert_eq!(next(Some(0)), Some((1, 4)));
    assert_eq!(next(Some(0)), None);
    assert_eq!(
        [next(None), next(None), next(None), next(None)],
        [Some((0, 1)), Some((0, 3)), Some((0, 5)), None]
    );
}

/// Writers of different speed, a reader that blocks channels in turns: every message comes, in order, and
/// no more of a channel wait than fit.
#[test]
fn a_full_channel_holds_its_writer_and_no_other() {
    const CAPACITY: usize = 3;
    const EACH: i64 = 500;
    let inbox = Arc::new(Inbox::new(4, CAPACITY, threads()));
    let (mut reader, _) = inbox.reader(false);
    let sent = Arc::new([const { AtomicUsize::new(0) }; 4]);
    let writers: Vec<_> = (0..4u32)
        .map(|channel| {
            let (inbox, sent) = (Arc::clone(&inbox), Arc::clone(&sent));
            thread::spawn(move || {
                for n in 0..EACH {
                    inbox.put(channel, numbered(n)).unwrap();
                    sent[channel as usize].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut got = [0; 4];
    let mut blocked = HashSet::new();
    while got.iter().sum::<i64>() < 4 * EACH {
        let step = got.iter().sum::<i64>() as usize;
        blocked.clear();
        if got[step % 4] < EACH && got.iter().filter(|got| **got < EACH).count() > 1 {
            blocked.insert(step % 4);
        }
        match reader.next(|channel| blocked.contains(&channel)) {
            Some((channel, message)) => {
                assert_eq!(number(&message), got[channel]);
                got[channel] += 1;
                assert!(sent[channel].load(SeqCst) <= got[channel] as usize + CAPACITY);
            }
            None => reader.woken().recv().unwrap(),
        }
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[test]
fn a_writer_that_waits_gives_up_when_the_reader_is_gone() {
    let inbox = Arc::new(Inbox::new(1, 1, threads()));
    let (reader, _) = inbox.reader(false);
    let (full, wait) = mpsc::channel();
    let writer = thread::spawn(move || {
        inbox.put(0, numbered(0)).unwrap();
        full.send(()).unwrap();
        inbox.put(0, numbered(1)).is_err()
    });
    wait.recv().unwrap();
    drop(reader);
    assert!(writer.join().unwrap());
}

fn barrier(overtake: Option<Instant>) -> Message {
    let (checkpoint, triggered) = (CheckpointId::FIRST, Instant::now());
    Message::Barrier(Barrier {
        checkpoint,
        kind: SnapshotKind::Full,
        stop: false,
        triggered,
        overtake,
        live: None,
    })
}

/// What arrives is noticed once and in order, and can be looked at until it is read.
#[test]
fn messages_arrive_before_they_are_read() {
    let inbox = Arc::new(Inbox::new(2, 10, threads()));
    let (mut reader, _) = inbox.reader(true);
    for (channel, n) in [(0, 1), (1, 2), (0, 3)] {
        inbox.put(channel, numbered(n)).unwrap();
    }
    assert!(reader.next(|_| false).is_none(), "nothing has arrived");
    reader.fetch();
    let mut arrived = Vec::new();
    while let Some((channel, message)) = reader.next_arrival() {
        arrived.push((channel, number(message)));
    }
    assert_eq!(arrived, [(0, 1), (1, 2), (0, 3)]);
    assert!(matches!(reader.next(|channel| channel == 0), Some((1, _))));
    inbox.put(0, numbered(4)).unwrap();
    reader.fetch();
    assert!(reader.next_arrival().is_some() && reader.next_arrival().is_none());
    assert_eq!(reader.unread(0).map(number).collect::<Vec<_>>(), [1, 3, 4]);
    let read: Vec<_> = std::iter::from_fn(|| reader.next(|_| false)).collect();
    assert_eq!(read.iter().map(|(_, message)| number(message)).collect::<Vec<_>>(), [1, 3, 4]);
}

/// Barriers take no room; a barrier that may overtake records makes its reader look, and lets the writer
/// exceed the room, within bounds.
#[test]
fn a_barrier_that_overtakes_waits_for_no_room() {
    let inbox = Arc::new(Inbox::new(1, 2, threads()));
    let (mut reader, of_reader) = inbox.reader(true);
    let now = Instant::now();
    let urgency = Arc::new(Urgency::new(now));
    let send = |message, until| inbox.send(0, message, Patience { urgency: &urgency, until });
    send(numbered(1), None).unwrap();
    send(numbered(2), None).unwrap();
    send(barrier(None), None).unwrap();
    assert_eq!(of_reader.until(), None, "it is aligned");
    send(numbered(3), Some(now)).unwrap();
    send(barrier(Some(now)), None).unwrap();
    assert!(of_reader.until().is_some_and(|at| at <= now));
    urgency.raise(now);
    send(numbered(4), None).unwrap();
    let (sent, all) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            send(numbered(5), None).unwrap();
            sent.send(()).unwrap();
        });
        reader.fetch();
        while reader.next_arrival().is_some() {}
        assert!(all.try_recv().is_err(), "four are twice as many as there is room for");
        let mut read = 0;
        while read < 5 {
            reader.fetch();
            while reader.next_arrival().is_some() {}
            match reader.next(|_| false) {
                Some((_, Message::Barrier(_))) => {}
                Some((_, message)) => {
                    read += 1;
                    assert_eq!(number(&message), read);
                }
                None => reader.woken().recv().unwrap(),
            }
        }
    });
}

/// A writer that waits goes on at once when its task has to look at a barrier.
#[test]
fn urgency_wakes_a_writer_that_waits() {
    let inbox = Arc::new(Inbox::new(1, 1, threads()));
    let (_reader, _) = inbox.reader(true);
    let urgency = Arc::new(Urgency::new(Instant::now()));
    let (attached, wait) = mpsc::channel();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            urgency.attach();
            let patience = Patience { urgency: &urgency, until: None };
            inbox.send(0, numbered(1), patience).unwrap();
            attached.send(()).unwrap();
            inbox.send(0, numbered(2), patience)
        });
        wait.recv().unwrap();
        urgency.raise(Instant::now());
        assert!(writer.join().unwrap().is_ok());
    });
}
