//! Changes of a time taken together.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_state_api::backend::{KeyedBackendExt as _, Timers as _};
use strandline_state_api::{
    Batch, Context, Error, KeyedBackend, Open, Operator, Result, StateHandle as _, StateKey, TimeDomain,
    TimeWindow, Timer, TimerDescriptor, TimerService, Timestamp, ValueDescriptor, ValueState,
};

use crate::window::{Times, floor, millis};
use crate::{Change, Storage};

/// Takes the changes of a key that come within a time together, and emits what they come to (Flink SQL: mini-batch,
/// `table.exec.mini-batch.allow-latency`). What comes and goes again within the time is never seen, so a result that
/// changes with each record changes once in a while for all that follows.
///
/// The time ends at multiples of the interval since the Unix epoch: in event time when the watermark or a later change
/// of the key has passed it, or [in processing time](Self::in_processing_time). State is kept of keys with changes
/// that wait.
///
/// ```
/// use std::time::Duration;
///
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::{Change, Coalesce};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let coalesce = Coalesce::changes(Duration::from_secs(1));
/// let mut harness =
///     Harness::new(MemoryBackendFactory::default(), "each-second", |ctx| coalesce.open::<u64, _>(ctx))?;
/// harness.process(7u64, Change::UpdateBefore(1), 100)?;
/// harness.process(7u64, Change::UpdateAfter(2), 100)?;
/// harness.process(7u64, Change::UpdateBefore(2), 900)?;
/// harness.process(7u64, Change::UpdateAfter(3), 900)?;
/// harness.watermark(999)?;
/// assert_eq!(harness.take_output().records(), [Change::UpdateBefore(1), Change::UpdateAfter(3)]);
/// # Ok(())
/// # }
/// ```
pub struct Coalesce<T> {
    /// In milliseconds.
    every: i64,
    times: Times,
    upserts: bool,
    storage: Storage,
    types: PhantomData<fn(T)>,
}

/// The changes of a key that wait.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting<T> {
    /// Rows, and how often each comes, less how often it goes. Of upserts the last row alone.
    rows: Vec<(T, i64)>,
    /// Whether the first of them was an insertion; counts for upserts.
    is_new: bool,
    /// Until when they wait.
    due: i64,
}

impl<T> Coalesce<T>
where
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    /// Takes changes together that have the row before each update and deletion, for `every` so long.
    pub fn changes(every: Duration) -> Self {
        let times = Times { domain: TimeDomain::Event, lateness: 0 };
        Self { every: millis(every), times, upserts: false, storage: Storage::Compact, types: PhantomData }
    }

    /// As [`changes`](Self::changes), where a key has at most one row, and updates have no
    /// [row before](Change::UpdateBefore) them: the last change counts.
    pub fn upserts(every: Duration) -> Self {
        Self { upserts: true, ..Self::changes(every) }
    }

    /// Lets changes wait in processing time: until the clock reaches the next multiple of the interval. What is
    /// emitted then has no event time.
    #[must_use]
    pub fn in_processing_time(self) -> Self {
        Self { times: Times { domain: TimeDomain::Processing, lateness: 0 }, ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for an interval below 1 ms; and the errors of
    /// [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<Coalescing<K, T>> {
        if self.every == 0 {
            return Err(Error::invalid("changes are taken together for at least 1 ms"));
        }
        let due = match self.times.domain {
            TimeDomain::Event => TimerDescriptor::event_time("due"),
            TimeDomain::Processing => TimerDescriptor::processing_time("due"),
        };
        Ok(Coalescing {
            settings: *self,
            waiting: ctx.register(&ValueDescriptor::evolving("waiting", self.storage.of()))?,
            due: ctx.register(&due)?,
            key: PhantomData,
        })
    }
}

/// The operator of [`Coalesce`].
pub struct Coalescing<K, T> {
    settings: Coalesce<T>,
    waiting: ValueState<Waiting<T>>,
    due: TimerService,
    key: PhantomData<fn(K)>,
}

impl<T: PartialEq> Waiting<T> {
    fn add(&mut self, change: Change<T>, upserts: bool) {
        let by = if change.is_addition() { 1 } else { -1 };
        let row = change.into_row();
        if upserts {
            self.rows.clear();
            self.rows.push((row, by));
            return;
        }
        match self.rows.iter_mut().find(|(known, _)| *known == row) {
            Some((_, count)) => *count += by,
            None => self.rows.push((row, by)),
        }
        self.rows.retain(|(_, count)| *count != 0);
    }
}

impl<T: Clone> Waiting<T> {
    /// What the changes come to: what goes, then what comes.
    fn for_each(mut self, upserts: bool, mut emit: impl FnMut(Change<T>)) {
        let is_update = match (upserts, self.rows.as_slice()) {
            (true, [(_, 1)]) => !self.is_new,
            (true, _) if self.is_new => return,
            (false, [(_, a), (_, b)]) => (*a).min(*b) == -1 && (*a).max(*b) == 1,
            _ => false,
        };
        self.rows.sort_by_key(|(_, count)| count.signum());
        for (row, count) in self.rows {
            for _ in 0..count.unsigned_abs() {
                let row = row.clone();
                emit(match (count > 0, is_update) {
                    (true, true) => Change::UpdateAfter(row),
                    (true, false) => Change::Insert(row),
                    (false, true) => Change::UpdateBefore(row),
                    (false, false) => Change::Delete(row),
                });
            }
        }
    }
}

impl<K: StateKey, T: Clone> Coalescing<K, T> {
    /// Emits what changes come to that waited until `end`.
    fn emit<B: KeyedBackend<Key = K>>(
        &self,
        waiting: Waiting<T>,
        end: Timestamp,
        ctx: &mut Context<'_, B, Change<T>>,
    ) {
        let time = Some(end).filter(|_| self.settings.times.domain == TimeDomain::Event);
        waiting.for_each(self.settings.upserts, |change| ctx.emit_with(change, time));
    }
}

impl<K, T> Operator for Coalescing<K, T>
where
    K: StateKey,
    T: Clone + PartialEq + Serialize + DeserializeOwned + Send + 'static,
{
    type Key = K;
    type In = Change<T>;
    type Out = Change<T>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        change: Change<T>,
        ctx: &mut Context<'_, B, Change<T>>,
    ) -> Result<()> {
        let Coalesce { times, upserts, .. } = self.settings;
        let (time, now) = (times.of_record(ctx)?, times.now(ctx));
        let (due, is_new) = (self.settings.due(time, now), matches!(change, Change::Insert(_)));
        let (mut is_first, mut past) = (false, None);
        let fresh = || Waiting { rows: Vec::new(), is_new, due: due.as_millis() };
        let initial = || {
            is_first = true;
            fresh()
        };
        ctx.state(self.waiting).modify(initial, |waiting| {
            if time.as_millis() > waiting.due {
                past = Some(std::mem::replace(waiting, fresh()));
            }
            waiting.add(change, upserts);
        })?;
        if let Some(past) = past {
            // A later change closes the time before it, so that results do not depend on when the watermark comes.
            let end = Timestamp::from_millis(past.due);
            ctx.state(self.due).delete(end)?;
            self.emit(past, end, ctx);
            is_first = true;
        }
        if is_first {
            ctx.state(self.due).register(due)?;
        }
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K>,
        ctx: &mut Context<'_, B, Change<T>>,
    ) -> Result<()> {
        if let Some(waiting) = ctx.state(self.waiting).take()? {
            self.emit(waiting, timer.time, ctx);
        }
        Ok(())
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Change<T>>,
    ) -> Result<()> {
        // Those of event time have fired.
        loop {
            let next = backend.timers::<()>(self.due.state_id())?.pop(Timestamp::MAX)?;
            let Some(timer) = next else { return Ok(()) };
            if let Some(waiting) = backend.at(&timer.key).state(self.waiting).take()? {
                waiting.for_each(self.settings.upserts, |change| output.push(change, None));
            }
        }
    }
}

impl<T> Coalesce<T> {
    /// Until when a change of `time` waits. One that comes late waits from `now` on.
    fn due(&self, time: Timestamp, now: Option<Timestamp>) -> Timestamp {
        let time = now.map_or(time, |now| time.max(now));
        let start = floor(time.as_millis(), 0, self.every);
        let end = self.times.fires_at(TimeWindow { start, end: start.saturating_add(self.every) });
        now.map_or(end, |now| end.max(now.plus_millis(1)))
    }
}

impl<T> Clone for Coalesce<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Coalesce<T> {}

impl<T> fmt::Debug for Coalesce<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("every", &self.every)
            .field("times", &self.times)
            .field("upserts", &self.upserts)
            .finish_non_exhaustive()
    }
}

impl<K, T> fmt::Debug for Coalescing<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Coalescing").field(&self.settings).finish()
    }
}
