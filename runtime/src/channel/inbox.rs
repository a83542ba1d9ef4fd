//! All channels into one subtask: one queue in the order of arrival, with a bound for each channel.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_state_api::Result;

use super::Message;
use crate::scheduler::Ready;
use crate::sync::{cancelled, lock};
use crate::threads::{Threads, receivable};
use crate::urgency::Urgency;

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
    /// That of the task that reads, for barriers that may overtake records.
    reader: Option<Arc<Urgency>>,
    closed: bool,
}

/// How long a writer waits for room.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a> {
    /// That of its task, which may have to look at a barrier.
    pub(super) urgency: &'a Arc<Urgency>,
    /// From when on the barrier behind the message may overtake records.
    pub(super) until: Option<Instant>,
}

impl Inbox {
    pub(super) fn new(channels: usize, capacity: usize, threads: Threads) -> Self {
        let (wake, woken) = bounded(1);
        let state = InboxState { waiting: vec![0; channels], ..InboxState::default() };
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self { capacity, threads, state: Mutex::new(state), wake, woken }
    }

    /// Sends a message over a channel; waits while that is full. A barrier takes no room. Where a barrier may
    /// overtake records, its writer does not wait for room, and a task that has to look at one holds twice as
    /// many messages in a channel as else.
    pub(super) fn send(
        self: &Arc<Self>,
        channel: u32,
        message: Message,
        patience: Patience<'_>,
    ) -> Result<()> {
        let mut state = lock(&self.state);
        let mut yields = 0;
        loop {
            if state.closed {
                return Err(cancelled());
            }
            let Some(waiting) = state.waiting.get_mut(channel as usize) else { return Err(cancelled()) };
            let wait = match &message {
                Message::Barrier(_) => None,
                _ => self.must_wait(*waiting, patience, || self.threads.now()),
            };
            let Some(deadline) = wait else {
                let mut overtakes = None;
                match &message {
                    Message::Barrier(barrier) => overtakes = barrier.overtake.zip(state.reader.clone()),
                    _ => *waiting += 1,
                }
                state.messages.push_back((channel, message));
                drop(state);
                // When it holds something already, the reader will look.
                let _ = self.wake.try_send(());
                if let Some((at, reader)) = overtakes {
                    reader.raise(at);
                }
                return Ok(());
            };
            match &self.threads {
                Threads::OfSystem(_) if yields < YIELDS => {
                    yields += 1;
                    drop(state);
                    thread::yield_now();
                }
                Threads::OfSystem(_) => {
                    state.blocked.insert(channel, thread::current());
                    drop(state);
                    match deadline {
                        None => thread::park(),
                        Some(deadline) => {
                            thread::park_timeout(deadline.saturating_duration_since(self.threads.now()));
                        }
                    }
                }
                Threads::Stepped(scheduler) => {
                    drop(state);
                    let (inbox, now, urgency) =
                        (Arc::clone(self), scheduler.now(), Arc::clone(patience.urgency));
                    let (until, known) = (patience.until, urgency.until());
                    // The scheduler asks while it holds its time, so what is asked must not.
                    let may_send = move || {
                        let patience = Patience { urgency: &urgency, until };
                        urgency.until() != known || inbox.may_send(channel, patience, now)
                    };
                    scheduler.wait(Box::new(may_send), deadline);
                }
            }
            state = lock(&self.state);
        }
    }

    /// `None` where another message may be sent beside so many that wait; else how long that is so at most:
    /// `Some(None)` until there is room.
    fn must_wait(
        &self,
        waiting: u32,
        patience: Patience<'_>,
        now: impl Fn() -> Instant,
    ) -> Option<Option<Instant>> {
        if waiting < self.capacity {
            return None;
        }
        let has_allowance = waiting / 2 < self.capacity;
        let urgent = patience.urgency.until().filter(|_| has_allowance);
        let deadline = [urgent, patience.until].into_iter().flatten().min();
        match deadline {
            Some(deadline) if deadline <= now() => None,
            deadline => Some(deadline),
        }
    }

    /// Whether a message of the channel can be sent, or never can be again.
    fn may_send(&self, channel: u32, patience: Patience<'_>, now: Instant) -> bool {
        let state = lock(&self.state);
        let waiting = state.waiting.get(channel as usize);
        state.closed || waiting.is_none_or(|waiting| self.must_wait(*waiting, patience, || now).is_none())
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
    /// Whether each message [arrives](Self::next_arrival) before it is read.
    notices: bool,
    /// Messages that were fetched and have not arrived.
    fetched: VecDeque<(u32, Message)>,
    /// Messages that have arrived and were not read, in the order of their arrival.
    arrived: VecDeque<(u32, Message)>,
    /// Messages of channels that were blocked when it met them.
    held: BTreeMap<usize, VecDeque<Message>>,
}

impl InboxReader {
    /// A reader for the task with this urgency. One that `notices` has its messages
    /// [fetched](Self::fetch) and [noticed](Self::next_arrival) before it reads them.
    pub(super) fn new(inbox: Arc<Inbox>, urgency: &Arc<Urgency>, notices: bool) -> Self {
        if notices {
            lock(&inbox.state).reader = Some(Arc::clone(urgency));
        }
        let (fetched, arrived, held) = <_>::default();
        Self { inbox, notices, fetched, arrived, held }
    }

    /// Fetches what was sent since, for [`next_arrival`](Self::next_arrival).
    pub(crate) fn fetch(&mut self) {
        let mut state = lock(&self.inbox.state);
        self.fetched.append(&mut state.messages);
    }

    /// The next message that has arrived, to be noticed and not to be read yet.
    pub(crate) fn next_arrival(&mut self) -> Option<(usize, &Message)> {
        let next = self.fetched.pop_front()?;
        self.arrived.push_back(next);
        self.arrived.back().map(|(channel, message)| (*channel as usize, message))
    }

    /// What has arrived on a channel and was not read, in its order.
    pub(crate) fn unread(&self, channel: usize) -> impl Iterator<Item = &Message> {
        let arrived = self.arrived.iter().filter(move |(of, _)| *of as usize == channel);
        self.held.get(&channel).into_iter().flatten().chain(arrived.map(|(_, message)| message))
    }

    /// What becomes ready when there is a message that the reader has not taken from its inbox. Take from it before
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
                self.delivered(&mut lock(&self.inbox.state), channel, &message);
                return Some((channel, message));
            }
        }
        if self.notices {
            let next = next_free(&mut self.arrived, &mut self.held, is_blocked);
            if let Some((channel, message)) = &next {
                self.delivered(&mut lock(&self.inbox.state), *channel, message);
            }
            return next;
        }
        let mut state = lock(&self.inbox.state);
        let next = next_free(&mut state.messages, &mut self.held, is_blocked);
        if let Some((channel, message)) = &next {
            self.delivered(&mut state, *channel, message);
        }
        next
    }

    /// Makes room for another message of the channel. A writer that waits goes on when half of its channel is
    /// free: threads that wake each other for every message would spend their time on that.
    fn delivered(&self, state: &mut InboxState, channel: usize, message: &Message) {
        if matches!(message, Message::Barrier(_)) {
            return;
        }
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

/// Takes the first message of a channel that is not blocked out of a queue; sets those before it aside.
fn next_free(
    queue: &mut VecDeque<(u32, Message)>,
    held: &mut BTreeMap<usize, VecDeque<Message>>,
    is_blocked: impl Fn(usize) -> bool,
) -> Option<(usize, Message)> {
    while let Some((channel, message)) = queue.pop_front() {
        let channel = channel as usize;
        if !is_blocked(channel) {
            return Some((channel, message));
        }
        held.entry(channel).or_default().push_back(message);
    }
    None
}

impl Drop for InboxReader {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
