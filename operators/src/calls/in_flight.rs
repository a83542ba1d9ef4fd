//! The calls in flight of one subtask: what they wait for, as a state machine without state, threads or a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use strandline_state_api::{Error, ErrorKind, Result, Timestamp};

use super::Retry;
use super::reply::Ticket;

/// What a program chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// In milliseconds.
    pub(super) timeout: i64,
    pub(super) capacity: usize,
    pub(super) ordered: bool,
}

/// Where a record in flight is in the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place<K> {
    pub(super) key: K,
    pub(super) id: u64,
}

/// A call in flight.
#[derive(Debug)]
struct InFlight<K, R> {
    place: Place<K>,
    deadline: Timestamp,
    /// The event time of a record that came in time.
    time: Option<Timestamp>,
    /// How often it has started.
    attempts: u32,
    stage: Stage<R>,
}

#[derive(Debug)]
enum Stage<R> {
    /// It starts when the capacity allows.
    Queued,
    Started,
    /// It starts again after a pause.
    Pausing,
    Answered(Result<R>),
}

/// All calls in flight of a subtask, in the order of their records.
#[derive(Debug)]
pub(super) struct CallsInFlight<K, R> {
    rules: Rules,
    retry: Retry<R>,
    calls: BTreeMap<u64, InFlight<K, R>>,
    next: u64,
    queued: VecDeque<u64>,
    started: usize,
    pausing: BTreeSet<(Timestamp, u64)>,
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// By the event times of records that came in time.
    times: BTreeSet<(Timestamp, u64)>,
    /// In the order of their replies, where answers leave in that.
    answered: VecDeque<u64>,
}

impl<K, R> CallsInFlight<K, R> {
    pub(super) fn new(rules: Rules, retry: Retry<R>) -> Self {
        Self {
            rules,
            retry,
            calls: BTreeMap::new(),
            next: 0,
            queued: VecDeque::new(),
            started: 0,
            pausing: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            times: BTreeSet::new(),
            answered: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns whether a record must wait.
    pub(super) fn is_full(&self) -> bool {
        self.calls.len() >= self.rules.capacity
    }

    /// Adds the call for a record behind all others. `time` is the event time of a record that came in time.
    pub(super) fn add(&mut self, place: Place<K>, deadline: Timestamp, time: Option<Timestamp>) {
        let call = self.next;
        self.next += 1;
        self.calls.insert(call, InFlight { place, deadline, time, attempts: 0, stage: Stage::Queued });
        self.times.extend(time.map(|time| (time, call)));
        self.queued.push_back(call);
        self.deadlines.insert((deadline, call));
    }

    /// Returns the next call that starts.
    pub(super) fn start(&mut self) -> Option<(Ticket, &Place<K>)> {
        if self.started >= self.rules.capacity {
            return None;
        }
        while let Some(call) = self.queued.pop_front() {
            // One that was not answered in time is queued no longer.
            let is_queued = |call: &InFlight<K, R>| matches!(call.stage, Stage::Queued);
            if self.calls.get(&call).is_some_and(is_queued) {
                self.started += 1;
                let started = self.calls.get_mut(&call)?;
                started.stage = Stage::Started;
                started.attempts += 1;
                return Some((Ticket { call, attempt: started.attempts }, &started.place));
            }
        }
        None
    }

    /// Takes a reply. One that comes too late is for nobody.
    pub(super) fn reply(&mut self, ticket: Ticket, reply: Result<R>, now: Timestamp) {
        let Some(call) = self.calls.get_mut(&ticket.call) else { return };
        if call.attempts != ticket.attempt || !matches!(call.stage, Stage::Started) {
            return;
        }
        self.started -= 1;
        let again = self.retry.pause(call.attempts, &reply).map(|pause| now.plus_millis(pause));
        if let Some(again) = again.filter(|again| *again < call.deadline) {
            call.stage = Stage::Pausing;
            self.pausing.insert((again, ticket.call));
        } else {
            call.stage = Stage::Answered(reply);
            if !self.rules.ordered {
                self.answered.push_back(ticket.call);
            }
        }
    }

    /// Lets the time pass: pauses end, and calls that were not answered in time have failed.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some((_, id)) = pop_until(&mut self.pausing, now) {
            if let Some(call) = self.calls.get_mut(&id).filter(|call| matches!(call.stage, Stage::Pausing)) {
                call.stage = Stage::Queued;
                self.queued.push_back(id);
            }
        }
        while let Some((_, id)) = pop_until(&mut self.deadlines, now) {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            match call.stage {
                Stage::Answered(_) => continue,
                Stage::Started => self.started -= 1,
                Stage::Queued | Stage::Pausing => {}
            }
            let error = Error::new(ErrorKind::Unavailable, "an asynchronous call was not answered in time");
            let error = error.with("timeout ms", self.rules.timeout).with("attempts", call.attempts);
            call.stage = Stage::Answered(Err(error));
            if !self.rules.ordered {
                self.answered.push_back(id);
            }
        }
    }

    /// Removes the call whose answer leaves next.
    pub(super) fn answer(&mut self) -> Option<(Place<K>, Result<R>)> {
        let id = match self.rules.ordered {
            true => self.calls.first_key_value().map(|(id, _)| *id)?,
            false => self.answered.pop_front()?,
        };
        if !matches!(self.calls.get(&id)?.stage, Stage::Answered(_)) {
            return None;
        }
        let InFlight { place, deadline, time, stage, .. } = self.calls.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        if let Some(time) = time {
            self.times.remove(&(time, id));
        }
        match stage {
            Stage::Answered(reply) => Some((place, reply)),
            _ => None,
        }
    }

    /// Returns the least event time of a record that came in time and whose answer has not left.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.times.first().map(|(time, _)| *time)
    }

    /// Returns when [`advance`](Self::advance) has something to do.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        let first = |times: &BTreeSet<(Timestamp, u64)>| times.first().map(|(time, _)| *time);
        first(&self.pausing).into_iter().chain(first(&self.deadlines)).min()
    }
}

fn pop_until(times: &mut BTreeSet<(Timestamp, u64)>, now: Timestamp) -> Option<(Timestamp, u64)> {
    if times.first()?.0 > now { None } else { times.pop_first() }
}
