//! The look-up of the version of a row that was valid at the time of another.

use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::{
    Context, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey, Timer, TimerDescriptor,
    TimerService, Timestamp,
};

use super::interval::no_event_time;
use super::{JoinKind, JoinOutput, JoinRow, Joined};
use crate::{Either, Storage};

/// Joins each left row with the version of the right row of its key that was valid at its event time (Flink:
/// the temporal join `FOR SYSTEM_TIME AS OF`, `TemporalRowTimeJoinOperator`).
///
/// A right record `Some(row)` is valid from its time on, until the next one of the key; `None` ends it. A left
/// row waits until the watermark reaches its time, as a version may come until then. A record at or before the
/// watermark is late and has no effect. Versions that no row can need are dropped; the newest stays, if it is
/// a row.
pub struct VersionedJoin<L, R> {
    kind: JoinKind,
    storage: Storage,
    emits_late: bool,
    types: PhantomData<fn(L, R)>,
}

impl<L: JoinRow, R: JoinRow> VersionedJoin<L, R> {
    /// Creates a join that emits the left rows that have a version.
    pub fn new() -> Self {
        let (kind, storage) = (JoinKind::Inner, Storage::Compact);
        Self { kind, storage, emits_late: false, types: PhantomData }
    }

    /// Emits left rows without a version, too ([`JoinKind::Left`]). A version has no row of its own, so the
    /// other kinds do not exist.
    #[must_use]
    pub fn left(self) -> Self {
        Self { kind: JoinKind::Left, ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Emits late records, and does not drop them, but for a late end of a version.
    #[must_use]
    pub fn emit_late(self) -> Self {
        Self { emits_late: true, ..self }
    }

    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// Those of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<VersionedJoining<K, L, R>> {
        Ok(VersionedJoining {
            rows: ctx.register(&MapDescriptor::evolving("left", self.storage.of()))?,
            versions: ctx.register(&MapDescriptor::evolving("versions", self.storage.of()))?,
            due: ctx.register(&TimerDescriptor::event_time("due"))?,
            join: *self,
            key: PhantomData,
        })
    }
}

impl<L: JoinRow, R: JoinRow> Default for VersionedJoin<L, R> {
    fn default() -> Self {
        Self::new()
    }
}

/// The operator of a [`VersionedJoin`].
pub struct VersionedJoining<K, L, R> {
    join: VersionedJoin<L, R>,
    /// The left rows that wait, by their times.
    rows: MapState<i64, Vec<L>>,
    /// The versions, by the times from which they are valid.
    versions: MapState<i64, Option<R>>,
    due: TimerService,
    key: PhantomData<fn(K)>,
}

impl<K, L, R> Operator for VersionedJoining<K, L, R>
where
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
{
    type Key = K;
    type In = Either<L, Option<R>>;
    type Out = JoinOutput<K, L, R>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: Either<L, Option<R>>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let Some(time) = ctx.timestamp() else { return Err(no_event_time()) };
        if Some(time) <= ctx.watermark() {
            self.late(record, ctx);
            return Ok(());
        }
        match record {
            Either::Left(row) => {
                ctx.state(self.rows).update_or_default(time.as_millis(), |rows| rows.push(row))?;
            }
            Either::Right(version) => ctx.state(self.versions).put(time.as_millis(), version)?,
        }
        ctx.state(self.due).register(time)?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let time = timer.time.as_millis();
        let (mut valid, mut older) = (None, Vec::new());
        ctx.state(self.versions).range(..=time, |from, version| {
            older.extend(valid.replace((*from, version.clone())).map(|(from, _): (i64, Option<R>)| from));
            Ok(())
        })?;
        let version = valid.and_then(|(from, version)| {
            // Where a row has ended, no version is as good as one that has ended.
            if version.is_none() {
                older.push(from);
            }
            version
        });
        for from in older {
            ctx.state(self.versions).remove(&from)?;
        }
        self.join(time, version.as_ref(), ctx)
    }
}

impl<K: StateKey, L: JoinRow, R: JoinRow> VersionedJoining<K, L, R> {
    /// Emits the rows of one time with the version that was valid then.
    fn join<B: KeyedBackend<Key = K>>(
        &self,
        time: i64,
        version: Option<&R>,
        ctx: &mut Context<'_, B, JoinOutput<K, L, R>>,
    ) -> Result<()> {
        let key = ctx.key();
        for row in ctx.state(self.rows).take(&time)?.unwrap_or_default() {
            let joined = match version {
                Some(version) => Joined::Both(row, version.clone()),
                None if self.join.kind.keeps_left() => Joined::Left(row),
                None => continue,
            };
            ctx.emit_at(JoinOutput::Row(key.clone(), joined), Timestamp::from_millis(time));
        }
        Ok(())
    }

    fn late<B: KeyedBackend<Key = K>>(
        &self,
        record: Either<L, Option<R>>,
        ctx: &mut Context<'_, B, JoinOutput<K, L, R>>,
    ) {
        ctx.count_too_late();
        let record = match record {
            Either::Left(row) => Some(Either::Left(row)),
            Either::Right(version) => version.map(Either::Right),
        };
        if let Some(record) = record.filter(|_| self.join.emits_late) {
            let key = ctx.key().clone();
            ctx.emit(JoinOutput::Late(key, record));
        }
    }
}

impl<L, R> Clone for VersionedJoin<L, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, R> Copy for VersionedJoin<L, R> {}

impl<L, R> fmt::Debug for VersionedJoin<L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedJoin").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<K, L, R> fmt::Debug for VersionedJoining<K, L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VersionedJoining").field(&self.join).finish()
    }
}
