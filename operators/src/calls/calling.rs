//! The operator of asynchronous calls.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_state_api::backend::{KeyedBackendExt as _, Timers as _};
use strandline_state_api::{
    Batch, Context, Error, KeyedBackend, Operator, Result, StateHandle as _, StateKey, Timer, TimerService,
    Timestamp, ValueState,
};

use super::in_flight::{CallsInFlight, Place, Rules};
use super::reply::{Inbox, Replier, Ticket};
use super::{Answer, Call, Retry};

/// After how many milliseconds the operator looks for replies while no record comes.
const POLL: i64 = 5;

/// The operator of [`Calls`](super::Calls).
///
/// Each record in flight has a value, in a namespace of its own, and a timer for its timeout. While calls are in flight
/// one more timer looks for replies. What is under way is known in memory only, and starts again from the state.
pub struct Calling<K, T, R, C> {
    call: C,
    states: States<T>,
    rules: Rules,
    emits_failures: bool,
    calls: CallsInFlight<K, R>,
    inbox: Arc<Inbox<R>>,
    /// The number of the next record.
    next: u64,
    /// The timer that looks for replies.
    poll: Option<Timestamp>,
    /// The calls that were in flight in the restored checkpoint, until the time is known at which they start again.
    restored: Vec<(Place<K>, Option<Timestamp>)>,
    /// The processing time that was last known.
    clock: Option<Timestamp>,
    /// Kept for their memory.
    replies: Vec<(Ticket, Result<R>)>,
    answers: Vec<(Answer<K, T, R>, Option<Timestamp>)>,
}

pub(super) struct States<T> {
    /// The records in flight; the namespaces number the records of a subtask.
    pub(super) records: ValueState<InFlightRecord<T>, u64>,
    pub(super) timeouts: TimerService<u64>,
    pub(super) polls: TimerService<u64>,
}

/// A record in flight, with its event time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InFlightRecord<T> {
    record: T,
    time: i64,
    /// The time of its timeout timer.
    timer: i64,
}

/// How many characters of a key an error shows.
const LONGEST_KEY: usize = 200;

/// The namespace of the timers that look for replies.
const NO_RECORD: u64 = u64::MAX;

impl<K, T, R, C> Calling<K, T, R, C>
where
    K: StateKey,
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Send + 'static,
    C: Call<K, T, R>,
{
    pub(super) fn new(
        call: C,
        states: States<T>,
        rules: Rules,
        retry: Retry<R>,
        emits_failures: bool,
    ) -> Self {
        Self {
            call,
            states,
            rules,
            emits_failures,
            calls: CallsInFlight::new(rules, retry),
            inbox: Inbox::new(),
            next: 0,
            poll: None,
            restored: Vec::new(),
            clock: None,
            replies: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Takes up the calls that were in flight in the restored checkpoint, with their whole time before them.
    fn resume(&mut self, now: Timestamp) {
        self.clock = Some(now);
        for (place, time) in self.restored.drain(..) {
            self.calls.add(place, now.plus_millis(self.rules.timeout), time);
        }
    }

    /// Takes the replies that have come, starts calls that may start, and collects the answers that may leave.
    fn move_on<B: KeyedBackend<Key = K>>(&mut self, backend: &mut B, now: Timestamp) -> Result<()> {
        self.inbox.take(&mut self.replies);
        for (ticket, reply) in self.replies.drain(..) {
            self.calls.reply(ticket, reply, now);
        }
        self.calls.advance(now);
        while let Some((place, reply)) = self.calls.answer() {
            let Place { key, id } = place;
            let mut scope = backend.at(&key);
            let Some(stored) = scope.state_in(self.states.records, &id).take()? else { continue };
            let InFlightRecord { record, time, timer } = stored;
            scope.state_in(self.states.timeouts, &id).delete(timer)?;
            if !self.emits_failures
                && let Err(error) = reply
            {
                return Err(at_key(error, &key));
            }
            self.answers.push((Answer { key, record, reply }, Timestamp::from_stored(time)));
        }
        while let Some((ticket, Place { key, id, .. })) = self.calls.start() {
            if let Some(stored) = backend.at(key).state_in(self.states.records, id).get()? {
                self.call.start(key, &stored.record, Replier::new(&self.inbox, ticket));
            }
        }
        Ok(())
    }

    /// Moves on, and blocks the thread, until `done`.
    fn wait<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        now: Timestamp,
        done: impl Fn(&CallsInFlight<K, R>) -> bool,
    ) -> Result<()> {
        self.move_on(backend, now)?;
        let began = Instant::now();
        while !done(&self.calls) {
            let time = now + began.elapsed();
            let until = self.calls.wakes_at().map(|wakes_at| wakes_at.as_millis() - time.as_millis());
            self.inbox.wait(until.map(|millis| Duration::from_millis(millis.max(1) as u64)));
            self.move_on(backend, now + began.elapsed())?;
        }
        Ok(())
    }

    /// Emits the answers that have been collected, and sees to it that somebody looks for the next ones.
    fn emit<B: KeyedBackend<Key = K>>(
        &mut self,
        now: Timestamp,
        ctx: &mut Context<'_, B, Answer<K, T, R>>,
    ) -> Result<()> {
        for (answer, time) in self.answers.drain(..) {
            ctx.emit_with(answer, time);
        }
        if self.poll.is_none() && !self.calls.is_empty() {
            let poll = now.plus_millis(POLL);
            ctx.state_in(self.states.polls, &NO_RECORD).register(poll)?;
            self.poll = Some(poll);
        }
        Ok(())
    }
}

/// Returns the processing time. A host that has not set it yet may fire event timers.
fn now<B: KeyedBackend, O>(ctx: &Context<'_, B, O>) -> Timestamp {
    ctx.processing_time().unwrap_or_else(Timestamp::of_system_clock)
}

/// Adds to an error which key it is about: mostly another one than that of the current record.
#[cold]
fn at_key(error: Error, key: &impl fmt::Debug) -> Error {
    if error.context("key").is_some() {
        return error;
    }
    error.with("key", format!("{key:?}").chars().take(LONGEST_KEY).collect::<String>())
}

impl<K, T, R, C> Operator for Calling<K, T, R, C>
where
    K: StateKey,
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Send + 'static,
    C: Call<K, T, R>,
{
    type Key = K;
    type In = T;
    type Out = Answer<K, T, R>;
    type Namespace = u64;

    fn on_start<B: KeyedBackend<Key = K>>(&mut self, backend: &mut B) -> Result<()> {
        let restored = &mut self.restored;
        backend.for_each_value(self.states.records, |key, id, record| {
            restored.push((Place { key: key.clone(), id: *id }, Timestamp::from_stored(record.time)));
            Ok(())
        })?;
        restored.sort_by_key(|(place, _)| place.id);
        if let Some((Place { key, id }, _)) = restored.last() {
            self.next = id + 1;
            // They start again as soon as it is known what time it is, whatever comes.
            backend.at(key).state_in(self.states.polls, &NO_RECORD).register(Timestamp::MIN)?;
            self.poll = Some(Timestamp::MIN);
        }
        Ok(())
    }

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: T,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let now = now(ctx);
        self.resume(now);
        self.wait(ctx.scope().backend(), now, |calls| !calls.is_full())?;
        let (id, deadline, time) = (self.next, now.plus_millis(self.rules.timeout), ctx.timestamp());
        self.next += 1;
        let (stored, timer) = (Timestamp::to_stored(time), deadline.as_millis());
        ctx.state_in(self.states.records, &id).put(InFlightRecord { record, time: stored, timer })?;
        ctx.state_in(self.states.timeouts, &id).register(deadline)?;
        let in_time = time.filter(|time| Some(*time) > ctx.watermark());
        self.calls.add(Place { key: ctx.key().clone(), id }, deadline, in_time);
        self.move_on(ctx.scope().backend(), now)?;
        self.emit(now, ctx)
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, u64>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let now = now(ctx);
        self.resume(now);
        if timer.service == self.states.polls && self.poll.is_some_and(|poll| poll <= timer.time) {
            self.poll = None;
        }
        self.move_on(ctx.scope().backend(), now)?;
        if timer.service == self.states.timeouts {
            // A call that started again after a restore has its whole time before it.
            let (id, deadline) = (timer.namespace, now.plus_millis(self.rules.timeout));
            let records = ctx.state_in(self.states.records, &id);
            if records.update(|record| record.timer = deadline.as_millis())? {
                ctx.state_in(self.states.timeouts, &id).register(deadline)?;
            }
        }
        self.emit(now, ctx)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        let restored = self.restored.iter().filter_map(|(_, time)| *time);
        let missing = restored.chain(self.calls.earliest()).min();
        missing.map_or(watermark, |time| watermark.min(time.plus_millis(-1)))
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        let now = self.clock.unwrap_or_else(Timestamp::of_system_clock);
        self.resume(now);
        self.wait(backend, now, CallsInFlight::is_empty)?;
        for (answer, time) in self.answers.drain(..) {
            output.push(answer, time);
        }
        self.poll = None;
        while backend.timers::<u64>(self.states.polls.state_id())?.pop(Timestamp::MAX)?.is_some() {}
        Ok(())
    }
}

impl<K, T, R, C> fmt::Debug for Calling<K, T, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling")
            .field("rules", &self.rules)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
