//! One row of each key: the first or the last by event time.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_state_api::{
    Context, Error, ErrorKind, Expiring, KeyedBackend, Open, Operator, Result, StateKey, Timer,
    TimerDescriptor, TimerService, Timestamp, Ttl, ValueDescriptor, ValueState,
};

use crate::storage::ttl_or_never;
use crate::{Change, Storage};

/// Keeps one row of each key, the first or the last by event time (Flink SQL: deduplication,
/// `ROW_NUMBER() .. = 1`). Of rows with one time, the first to arrive is the first, and the last is the last.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::{Change, Deduplicate};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let newest = Deduplicate::<String>::last();
/// let mut harness =
///     Harness::new(MemoryBackendFactory::default(), "newest", |ctx| newest.open::<u64, _>(ctx))?;
/// harness.process(7u64, "shipped".to_owned(), 20)?;
/// harness.process(7u64, "ordered".to_owned(), 10)?; // comes late, and is not the newest
/// harness.process(7u64, "delivered".to_owned(), 30)?;
/// assert_eq!(harness.take_output().records(), [
///     Change::Insert((7, "shipped".to_owned())),
///     Change::UpdateBefore((7, "shipped".to_owned())),
///     Change::UpdateAfter((7, "delivered".to_owned())),
/// ]);
/// # Ok(())
/// # }
/// ```
pub struct Deduplicate<T> {
    keep: Keep,
    finals: bool,
    upserts: bool,
    storage: Storage,
    ttl: Option<Ttl>,
    types: PhantomData<fn(T)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    First,
    Last,
}

impl<T> Deduplicate<T>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    /// Keeps the first row. A row that comes later and is earlier replaces the one that was emitted.
    pub fn first() -> Self {
        Self::of(Keep::First)
    }

    /// Keeps the last row. Each later row replaces the one before.
    pub fn last() -> Self {
        Self::of(Keep::Last)
    }

    fn of(keep: Keep) -> Self {
        let storage = Storage::Compact;
        Self { keep, finals: false, upserts: false, storage, ttl: None, types: PhantomData }
    }

    /// Emits a row only when no other can replace it: the first when the watermark reaches its time, the last
    /// when the input ends. All changes are then insertions.
    #[must_use]
    pub fn only_final(self) -> Self {
        Self { finals: true, ..self }
    }

    /// Leaves out what a row was before it changed ([`Change::UpdateBefore`]).
    #[must_use]
    pub fn upserts(self) -> Self {
        Self { upserts: true, ..self }
    }

    /// Forgets a key some time after its row was replaced: its next row counts as the first of a new key.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for the final last row with a time-to-live, which would lose it; and the
    /// errors of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<Deduplicating<K, T>> {
        if self.finals && self.keep == Keep::Last && self.ttl.is_some() {
            let message = "a last row that is emitted at the end of the input must not expire before: leave out \
                           the time-to-live";
            return Err(Error::invalid(message));
        }
        let kept = ValueDescriptor::evolving("kept", self.storage.of()).time_to_live(ttl_or_never(self.ttl));
        Ok(Deduplicating {
            settings: *self,
            kept: ctx.register(&kept)?,
            due: if self.finals { Some(ctx.register(&TimerDescriptor::event_time("due"))?) } else { None },
            key: PhantomData,
        })
    }
}

/// The operator of [`Deduplicate`].
pub struct Deduplicating<K, T> {
    settings: Deduplicate<T>,
    kept: ValueState<Kept<T>, (), Expiring>,
    due: Option<TimerService>,
    key: PhantomData<fn(K)>,
}

/// An instant that only the watermark of the end passes. At the end of time itself a state without a time-to-live
/// would have expired.
const BEFORE_THE_END: Timestamp = Timestamp::from_millis(i64::MAX / 2);

/// The row of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept<T> {
    time: i64,
    /// `None` once it was emitted for good.
    row: Option<T>,
}

impl<K, T> Operator for Deduplicating<K, T>
where
    K: StateKey,
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    type Key = K;
    type In = T;
    type Out = Change<(K, T)>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        row: T,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let Some(time) = ctx.timestamp() else {
            let message = "a row without an event time cannot be compared with others: assign times at the \
                           source or with `timestamps`";
            return Err(Error::new(ErrorKind::User, message));
        };
        let (key, millis, keep) = (ctx.key(), time.as_millis(), self.settings.keep);
        let replaces = |kept: i64| match keep {
            Keep::First => millis < kept,
            Keep::Last => millis >= kept,
        };
        let before = match ctx.state(self.kept).get()? {
            None => None,
            Some(Kept { time, row: Some(row) }) if replaces(*time) => Some((*time, row.clone())),
            Some(_) => return Ok(()),
        };
        ctx.state(self.kept).put(Kept { time: millis, row: Some(row.clone()) })?;
        if let Some(due) = self.due {
            if let Some((time, _)) = before {
                ctx.state(due).delete(self.due_at(Timestamp::from_millis(time)))?;
            }
            ctx.state(due).register(self.due_at(time))?;
            return Ok(());
        }
        let Some((_, before)) = before else {
            ctx.emit(Change::Insert((key.clone(), row)));
            return Ok(());
        };
        if !self.settings.upserts {
            ctx.emit(Change::UpdateBefore((key.clone(), before)));
        }
        ctx.emit(Change::UpdateAfter((key.clone(), row)));
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        _timer: &Timer<K>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let Some(kept) = ctx.state(self.kept).take()? else { return Ok(()) };
        // The first row is known from now on, so that no later one counts as the first.
        if self.settings.keep == Keep::First {
            ctx.state(self.kept).put(Kept { time: kept.time, row: None })?;
        }
        if let Some(row) = kept.row {
            let key = ctx.key().clone();
            ctx.emit_at(Change::Insert((key, row)), Timestamp::from_millis(kept.time));
        }
        Ok(())
    }
}

impl<K, T> Deduplicating<K, T> {
    /// Returns when a row with this time is final.
    fn due_at(&self, time: Timestamp) -> Timestamp {
        match self.settings.keep {
            Keep::First => time,
            Keep::Last => BEFORE_THE_END,
        }
    }
}

impl<T> Clone for Deduplicate<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Deduplicate<T> {}

impl<T> fmt::Debug for Deduplicate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deduplicate")
            .field("keep", &self.keep)
            .field("finals", &self.finals)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl<K, T> fmt::Debug for Deduplicating<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deduplicating").field(&self.settings).finish()
    }
}
