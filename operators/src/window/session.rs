//! Session windows, which merge.

use std::fmt;

use serde::{Deserialize, Serialize};
use strandline_state_api::backend::KeyedBackendExt as _;
use strandline_state_api::{
    Batch, Context, Error, ErrorKind, KeyScope, KeyedBackend, Open, Operator, Result, StateKey, TimeDomain,
    TimeWindow, Timer, Timestamp, ValueDescriptor, ValueState,
};

use super::aligned::{Frame, Output};
use super::settings::{Gap, Session, TimeWindows, millis};
use super::times::Times;
use super::{Firing, Windows};
use crate::Aggregate;

/// The operator of session windows (Flink: `WindowOperator` with `MergingWindowSet`).
///
/// The open sessions of a key are one small value. Each has one timer, which waits for the end that the session
/// had when the timer was registered: a session that has grown since registers the next one when it fires. So
/// most records register no timer. The accumulator of a session stays in the namespace of its first window
/// while the session grows.
pub struct SessionWindows<K, A: Aggregate, G> {
    frame: Frame<K, A>,
    sessions: ValueState<Vec<OpenSession>>,
    gap: G,
}

/// A session that has not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OpenSession {
    /// What the session covers.
    window: TimeWindow,
    /// The namespace of its accumulator and its timer.
    at: TimeWindow,
    /// The time of its timer.
    timer: i64,
    /// Whether the end of `window` has fired.
    fired: bool,
}

impl OpenSession {
    /// Returns when the session has something to do: to fire or to close.
    fn due(&self, times: Times) -> Timestamp {
        if self.fired { times.closes_at(self.window) } else { times.fires_at(self.window) }
    }

    fn touches(&self, window: TimeWindow) -> bool {
        self.window.start <= window.end && window.start <= self.window.end
    }
}

/// What a record does to the sessions of its key.
struct Merged {
    into: OpenSession,
    /// The sessions that it connects with `into`.
    absorbed: Vec<OpenSession>,
    /// The timer of `into` that comes too late for its new end.
    replaced: Option<i64>,
    /// Whether the timer of `into` has to be registered.
    registers: bool,
}

/// Adds a record with `window` to the sessions of its key.
fn merge(
    sessions: &mut Vec<OpenSession>,
    window: TimeWindow,
    now: Option<Timestamp>,
    times: Times,
) -> Merged {
    // A session that has closed and still waits for its timer takes no more records.
    let joins =
        |session: &OpenSession| session.touches(window) && Some(times.closes_at(session.window)) > now;
    let Some(first) = sessions.iter().position(joins) else {
        let mut into = OpenSession { window, at: window, timer: 0, fired: false };
        into.fired = Some(times.fires_at(window)) <= now;
        into.timer = into.due(times).as_millis();
        let index = sessions.partition_point(|session| session.window.start < window.start);
        sessions.insert(index, into);
        return Merged { into, absorbed: Vec::new(), replaced: None, registers: true };
    };
    let mut hull = window;
    let mut absorbed = Vec::new();
    let mut index = 0;
    sessions.retain(|session| {
        let joined = joins(session);
        if joined {
            hull.start = hull.start.min(session.window.start);
            hull.end = hull.end.max(session.window.end);
            if index != first {
                absorbed.push(*session);
            }
        }
        index += 1;
        !joined || index - 1 == first
    });
    let into = &mut sessions[first];
    into.window = hull;
    into.fired = Some(times.fires_at(hull)) <= now;
    let due = into.due(times).as_millis();
    let replaced = (due < into.timer).then_some(into.timer);
    if replaced.is_some() {
        into.timer = due;
    }
    Merged { into: *into, absorbed, replaced, registers: replaced.is_some() }
}

impl<T: 'static, G: Gap<T>> Windows<T> for TimeWindows<Session<G>> {
    type Window = TimeWindow;
    type Operator<K: StateKey, A: Aggregate<In = T>> = SessionWindows<K, A, G>;

    fn open<K, A, B>(
        &self,
        aggregate: &A,
        ctx: &mut Open<'_, B, TimeWindow>,
    ) -> Result<SessionWindows<K, A, G>>
    where
        K: StateKey,
        A: Aggregate<In = T>,
        B: KeyedBackend<Key = K>,
    {
        let frame = Frame::open(aggregate, &self.settings, ctx)?;
        let sessions = ctx.register(&ValueDescriptor::new("sessions"))?;
        Ok(SessionWindows { frame, sessions, gap: self.shape.gap.clone() })
    }
}

impl<K: StateKey, A: Aggregate, G: Gap<A::In>> SessionWindows<K, A, G> {
    fn window_of<B: KeyedBackend>(
        &self,
        record: &A::In,
        ctx: &Context<'_, B, Output<K, A>>,
    ) -> Result<TimeWindow> {
        let start = self.frame.times.of_record(ctx)?.as_millis();
        let gap = millis(self.gap.after(record));
        if gap == 0 {
            let message = "the gap of a session is below 1 ms: choose a longer one for every record";
            return Err(Error::new(ErrorKind::User, message));
        }
        Ok(TimeWindow { start, end: start.saturating_add(gap) })
    }

    /// Fires the sessions that a record touches, whose end has passed and whose timers have not fired: after a
    /// restore a record may come before them.
    fn catch_up<B: KeyedBackend<Key = K>>(
        &self,
        window: TimeWindow,
        now: Option<Timestamp>,
        ctx: &mut Context<'_, B, Output<K, A>>,
    ) -> Result<()> {
        let times = self.frame.times;
        let overdue = |session: &OpenSession| {
            !session.fired && session.touches(window) && Some(times.fires_at(session.window)) <= now
        };
        let Some(sessions) = ctx.state(self.sessions).get()? else { return Ok(()) };
        let due: Vec<_> = sessions.iter().filter(|session| overdue(session)).copied().collect();
        for session in due {
            self.frame.fire(&session.at, session.window, Firing::OnTime, ctx)?;
            self.change(ctx.scope(), |sessions| {
                let stored = sessions.iter_mut().find(|stored| stored.at == session.at);
                stored.into_iter().for_each(|stored| stored.fired = true);
            })?;
        }
        Ok(())
    }

    /// Returns whether a record with `window` belongs to no session that is open.
    fn is_late<B: KeyedBackend<Key = K>>(
        &self,
        window: TimeWindow,
        now: Option<Timestamp>,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<bool> {
        let times = self.frame.times;
        if Some(times.closes_at(window)) > now {
            return Ok(false);
        }
        let open = scope.state(self.sessions).get()?.is_some_and(|sessions| {
            sessions
                .iter()
                .any(|session| session.touches(window) && Some(times.closes_at(session.window)) > now)
        });
        Ok(!open)
    }

    /// Moves the accumulators of the sessions that a record has connected, and sets the timers.
    fn settle<B: KeyedBackend<Key = K>>(&self, merged: &Merged, scope: &mut KeyScope<'_, B>) -> Result<()> {
        let Frame { contents, ends, aggregate, early, .. } = &self.frame;
        let into = merged.into;
        for session in &merged.absorbed {
            scope.state_in(*ends, &session.at).delete(session.timer)?;
            if let Some(other) = scope.state_in(*contents, &session.at).take()? {
                let initial = || aggregate.create();
                scope.state_in(*contents, &into.at).modify(initial, |all| aggregate.merge(all, other))??;
            }
            if let Some(early) = early {
                early.merge(scope, &into.at, &session.at)?;
            }
        }
        if let Some(time) = merged.replaced {
            scope.state_in(*ends, &into.at).delete(time)?;
        }
        if merged.registers {
            scope.state_in(*ends, &into.at).register(into.timer)?;
        }
        Ok(())
    }

    /// Changes the sessions of a key; a key without any leaves no state.
    fn change<B: KeyedBackend<Key = K>, R>(
        &self,
        scope: &mut KeyScope<'_, B>,
        change: impl FnOnce(&mut Vec<OpenSession>) -> R,
    ) -> Result<R> {
        let (changed, is_empty) = scope.state(self.sessions).update_or_default(|sessions| {
            let changed = change(sessions);
            (changed, sessions.is_empty())
        })?;
        if is_empty {
            scope.state(self.sessions).clear()?;
        }
        Ok(changed)
    }

    fn session_at<B: KeyedBackend<Key = K>>(
        &self,
        at: &TimeWindow,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<Option<OpenSession>> {
        let sessions = scope.state(self.sessions).get()?;
        Ok(sessions.and_then(|sessions| sessions.iter().find(|session| session.at == *at).copied()))
    }
}

impl<K, A, G> Operator for SessionWindows<K, A, G>
where
    K: StateKey,
    A: Aggregate,
    G: Gap<A::In>,
{
    type Key = K;
    type In = A::In;
    type Out = Output<K, A>;
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: A::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = self.window_of(&record, ctx)?;
        let times = self.frame.times;
        let now = times.now(ctx);
        if self.is_late(window, now, ctx.scope())? {
            self.frame.late(record, ctx);
            return Ok(());
        }
        if times.lateness > 0 {
            self.catch_up(window, now, ctx)?;
        }
        let merged = self.change(ctx.scope(), |sessions| merge(sessions, window, now, times))?;
        self.settle(&merged, ctx.scope())?;
        let OpenSession { window, at, fired, .. } = merged.into;
        self.frame.add(&at, record, ctx)?;
        if fired {
            return self.frame.fire(&at, window, Firing::Late, ctx);
        }
        match self.frame.is_due(&at, window, ctx)? {
            true => self.frame.fire(&at, window, Firing::Early, ctx),
            false => Ok(()),
        }
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let at = timer.namespace;
        let Some(mut session) = self.session_at(&at, ctx.scope())? else { return Ok(()) };
        if self.frame.is_early(timer) {
            return self.frame.fire(&at, session.window, Firing::Early, ctx);
        }
        let times = self.frame.times;
        if !session.fired && timer.time >= times.fires_at(session.window) {
            self.frame.fire(&at, session.window, Firing::OnTime, ctx)?;
            session.fired = true;
        }
        let closes = session.fired && timer.time >= times.closes_at(session.window);
        if !closes {
            session.timer = session.due(times).as_millis();
            ctx.state_in(self.frame.ends, &at).register(session.timer)?;
        }
        self.change(ctx.scope(), |sessions| {
            if closes {
                sessions.retain(|session| session.at != at);
            } else if let Some(stored) = sessions.iter_mut().find(|session| session.at == at) {
                *stored = session;
            }
        })?;
        if closes { self.frame.clear(&at, ctx.scope()) } else { Ok(()) }
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        if self.frame.times.domain == TimeDomain::Event {
            // The watermark has reached the end of time, and all sessions have fired.
            return Ok(());
        }
        let sessions = self.sessions;
        backend.apply_to_all_keys(sessions, &(), |scope| {
            for OpenSession { window, at, timer, .. } in scope.state(sessions).take()?.unwrap_or_default() {
                self.frame.finish(&at, window, Timestamp::from_millis(timer), scope, output)?;
            }
            Ok(())
        })
    }
}

impl<K, A: Aggregate + fmt::Debug, G: fmt::Debug> fmt::Debug for SessionWindows<K, A, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWindows")
            .field("gap", &self.gap)
            .field("aggregate", &self.frame.aggregate)
            .finish_non_exhaustive()
    }
}
