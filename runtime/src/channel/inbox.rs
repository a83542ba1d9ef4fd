//! All channels into one subtask: one queue in the order of arrival, with a bound for each channel.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_state_api::Result;

use super::Message;
use crate::scheduler::Ready;
use crate::sync::{cancelled, lock};
use crate::threads::{Threads, receivable};

/// How often a writer lets other threads run before it waits for room: the reader is often about to make it.
const YIELDS: u32 = 8;

/// The end that writers share.
pub(super) struct Inbox {
    /// How many messages of one channel may wait.
    capacity: u32,
    threads: Threads,
    state: Mutex<InboxState>,
    /// Holds something while there may be messages that the reader has not seen.
    wake: Sender<()>,
    woken: Receiver<()>,
}

#[derive(Default)]
struct InboxState {
    messages: VecDeque<(u32, Message)>,
    /// How many messages of each channel were sent and not delivered.
    waiting: Vec<u32>,
    /// Writers whose channel is full.
    blocked: HashMap<u32, Thread>,
    closed: bool,
}

impl Inbox {
    pub(super) fn new(channels: usize, capacity: usize, threads: Threads) -> Self {
        let (wake, woken) = bounded(1);
        let state = InboxState { waiting: vec![0; channels], ..InboxState::default() };
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self { capacity, threads, state: Mutex::new(state), wake, woken }
    }

    /// Sends a message over a channel; waits while that is full.
    pub(super) fn send(self: &Arc<Self>, channel: u32, message: Message) -> Result<()> {
        let mut state = lock(&self.state);
        let mut yields = 0;
        loop {
            if state.closed {
                return Err(cancelled());
            }
            let Some(waiting) = state.waiting.get_mut(channel as usize) else { return Err(cancelled()) };
            if *waiting < self.capacity {
                *waiting += 1;
                state.messages.push_back((channel, message));
                drop(state);
                // When it holds something already, the reader will look.
                let _ = self.wake.try_send(());
                return Ok(());
            }
            match &self.threads {
                Threads::OfSystem(_) if yields < YIELDS => {
                    yields += 1;
                    drop(state);
                    thread::yield_now();
                }
                Threads::OfSystem(_) => {
                    state.blocked.insert(channel, thread::current());
                    drop(state);
                    thread::park();
                }
                Threads::Stepped(scheduler) => {
                    drop(state);
                    let inbox = Arc::clone(self);
                    scheduler.wait(Box::new(move || inbox.has_room(channel)), None);
                }
            }
            state = lock(&self.state);
        }
    }

    /// Whether a message of the channel can be sent, or never can be again.
    fn has_room(&self, channel: u32) -> bool {
        let state = lock(&self.state);
        let waiting = state.waiting.get(channel as usize);
        state.closed || waiting.is_none_or(|waiting| *waiting < self.capacity)
    }

    /// Refuses messages from now on; writers that wait give up.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.messages.clear();
        state.blocked.drain().for_each(|(_, writer)| writer.unpark());
    }
}

/// The end of the one reader. What it drops, writers see as closed.
pub(crate) struct InboxReader {
    inbox: Arc<Inbox>,
    /// Messages of channels that were blocked when it met them.
    held: BTreeMap<usize, VecDeque<Message>>,
}

impl InboxReader {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, held: BTreeMap::new() }
    }

    /// What becomes ready when there is a message that [`next`](Self::next) has not seen. Take from it before
    /// looking for messages.
    pub(crate) fn woken(&self) -> &Receiver<()> {
        &self.inbox.woken
    }

    /// As [`woken`](Self::woken), for a [`Scheduler`](crate::Scheduler).
    pub(crate) fn ready(&self) -> Ready {
        receivable(&self.inbox.woken)
    }

    /// The next message of a channel that is not blocked; messages of one channel keep their order.
    pub(crate) fn next(&mut self, is_blocked: impl Fn(usize) -> bool) -> Option<(usize, Message)> {
        let free = self.held.iter().find(|(channel, _)| !is_blocked(**channel)).map(|(channel, _)| *channel);
        if let Some(channel) = free
            && let Some(held) = self.held.get_mut(&channel)
        {
            let message = held.pop_front();
            if held.is_empty() {
                self.held.remove(&channel);
            }
            if let Some(message) = message {
                self.delivered(&mut lock(&self.inbox.state), channel);
                return Some((channel, message));
            }
        }
        let mut state = lock(&self.inbox.state);
        while let Some((channel, message)) = state.messages.pop_front() {
            let channel = channel as usize;
            if is_blocked(channel) {
                self.held.entry(channel).or_default().push_back(message);
                continue;
            }
            self.delivered(&mut state, channel);
            return Some((channel, message));
        }
        None
    }

    /// Makes room for another message of the channel. A writer that waits goes on when half of its channel is
    /// free: threads that wake each other for every message would spend their time on that.
    fn delivered(&self, state: &mut InboxState, channel: usize) {
        let Some(waiting) = state.waiting.get_mut(channel) else { return };
        *waiting -= 1;
        if *waiting > self.inbox.capacity / 2 || state.blocked.is_empty() {
            return;
        }
        if let Some(writer) = state.blocked.remove(&(channel as u32)) {
            writer.unpark();
        }
    }
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc;

    use strandline_state_api::Timestamp;

    use super::*;

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
        let mut reader = InboxReader::new(Arc::clone(&inbox));
        for (channel, n) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            inbox.send(channel, numbered(n)).unwrap();
        }
        let mut next = |blocked: Option<usize>| {
            let next = reader.next(|channel| Some(channel) == blocked);
            next.map(|(channel, message)| (channel, number(&message)))
        };
        assert_eq!(next(Some(0)), Some((1, 2)));
        inbox.send(0, numbered(5)).unwrap();
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
        let mut reader = InboxReader::new(Arc::clone(&inbox));
        let sent = Arc::new([const { AtomicUsize::new(0) }; 4]);
        let writers: Vec<_> = (0..4u32)
            .map(|channel| {
                let (inbox, sent) = (Arc::clone(&inbox), Arc::clone(&sent));
                thread::spawn(move || {
                    for n in 0..EACH {
                        inbox.send(channel, numbered(n)).unwrap();
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
        let reader = InboxReader::new(Arc::clone(&inbox));
        let (full, wait) = mpsc::channel();
        let writer = thread::spawn(move || {
            inbox.send(0, numbered(0)).unwrap();
            full.send(()).unwrap();
            inbox.send(0, numbered(1)).is_err()
        });
        wait.recv().unwrap();
        drop(reader);
        assert!(writer.join().unwrap());
    }
}
