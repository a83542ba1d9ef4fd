//! The join of records whose times are close.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use strandline_state_api::{
    Context, Error, ErrorKind, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey,
    Timer, TimerDescriptor, TimerService, Timestamp,
};

use super::{JoinKind, JoinOutput, JoinRow, Joined};
use crate::{Either, Storage};

/// Joins each left row with the right rows whose event time lies in an interval around its own (Flink:
/// `intervalJoin`).
///
/// A row without a partner is emitted, where the [kind](JoinKind) asks for it, once the watermark shows that no
/// partner can come. A row at or before the watermark is late: it joins nothing.
///
/// A row is kept as long as a partner can come and no longer. A pair has the later of its two times, and a row
/// alone the time at which it is known to stay alone: so what follows takes neither for late.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::Either::{Left, Right};
/// use strandline_operators::join::{IntervalJoin, JoinKind, JoinOutput, Joined};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// // A payment at most 10 s after its order.
/// let join = IntervalJoin::<String, u64>::between(0, 10_000).kind(JoinKind::Left);
/// let mut harness =
///     Harness::new(MemoryBackendFactory::default(), "payments", |ctx| join.open::<u64, _>(ctx))?;
/// harness.process(7u64, Left("books".to_owned()), 1_000)?;
/// harness.process(7u64, Right(25), 11_000)?;
/// harness.process(7u64, Left("never paid".to_owned()), 20_000)?;
/// harness.end()?;
/// let rows: Vec<_> = harness.take_output().into_iter().collect();
/// assert_eq!(rows, [
///     (JoinOutput::Row(7, Joined::Both("books".to_owned(), 25)), Some(11_000.into())),
///     (JoinOutput::Row(7, Joined::Left("never paid".to_owned())), Some(30_000.into())),
/// ]);
/// # Ok(())
/// # }
/// ```
pub struct IntervalJoin<L, R, C = fn(&L, &R) -> bool> {
    lower: i64,
    upper: i64,
    kind: JoinKind,
    storage: Storage,
    emits_late: bool,
    condition: C,
    types: PhantomData<fn(L, R)>,
}

impl<L, R> IntervalJoin<L, R> {
    /// Joins a left row at time `t` with the right rows from `t + lower` to `t + upper`, both included, in
    /// milliseconds; negative ones lie before the left row.
    pub fn between(lower: i64, upper: i64) -> Self {
        let (kind, storage) = (JoinKind::Inner, Storage::Compact);
        Self { lower, upper, kind, storage, emits_late: false, condition: |_, _| true, types: PhantomData }
    }

    /// Joins only the pairs for which `condition` returns true.
    pub fn on<C: Fn(&L, &R) -> bool>(self, condition: C) -> IntervalJoin<L, R, C> {
        let Self { lower, upper, kind, storage, emits_late, types, .. } = self;
        IntervalJoin { lower, upper, kind, storage, emits_late, condition, types }
    }
}

impl<L, R, C> IntervalJoin<L, R, C> {
    /// Sets which rows without a partner are emitted; none unless set.
    #[must_use]
    pub fn kind(self, kind: JoinKind) -> Self {
        Self { kind, ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Emits late rows, and does not drop them.
    #[must_use]
    pub fn emit_late(self) -> Self {
        Self { emits_late: true, ..self }
    }
}

impl<L: JoinRow, R: JoinRow, C: Fn(&L, &R) -> bool + Clone + Send + 'static> IntervalJoin<L, R, C> {
    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for an empty interval; and the errors of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B, u8>,
    ) -> Result<IntervalJoining<K, L, R, C>> {
        if self.lower > self.upper {
            return Err(Error::invalid(
                "the interval of a join is empty: its lower bound is above the upper",
            )
            .with("lower", self.lower)
            .with("upper", self.upper));
        }
        Ok(IntervalJoining {
            left: ctx.register(&MapDescriptor::evolving("left", self.storage.of()))?,
            right: ctx.register(&MapDescriptor::evolving("right", self.storage.of()))?,
            ends: ctx.register(&TimerDescriptor::event_time("ends"))?,
            join: self.clone(),
            key: PhantomData,
        })
    }
}

/// The operator of an [`IntervalJoin`]. The namespace of its timers is the side of a row.
pub struct IntervalJoining<K, L, R, C> {
    join: IntervalJoin<L, R, C>,
    left: MapState<i64, Vec<Held<L>>>,
    right: MapState<i64, Vec<Held<R>>>,
    ends: TimerService<u8>,
    key: PhantomData<fn(K)>,
}

/// A row that waits for partners; the rows of one time stand together.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held<T> {
    row: T,
    matched: bool,
}

const LEFT: u8 = 0;
const RIGHT: u8 = 1;

/// One side of a join as seen from a row of it.
struct Side<Own, Other> {
    own: MapState<i64, Vec<Held<Own>>>,
    other: MapState<i64, Vec<Held<Other>>>,
    namespace: u8,
    /// Where the partners of a row lie, relative to its time.
    from: i64,
    to: i64,
    /// Whether rows of either side are emitted without a partner.
    keeps: bool,
    other_keeps: bool,
}

impl<K: StateKey, L: JoinRow, R: JoinRow, C: Fn(&L, &R) -> bool> IntervalJoining<K, L, R, C> {
    fn left_side(&self) -> Side<L, R> {
        let IntervalJoin { lower, upper, kind, .. } = self.join;
        Side {
            own: self.left,
            other: self.right,
            namespace: LEFT,
            from: lower,
            to: upper,
            keeps: kind.keeps_left(),
            other_keeps: kind.keeps_right(),
        }
    }

    fn right_side(&self) -> Side<R, L> {
        let IntervalJoin { lower, upper, kind, .. } = self.join;
        Side {
            own: self.right,
            other: self.left,
            namespace: RIGHT,
            from: upper.saturating_neg(),
            to: lower.saturating_neg(),
            keeps: kind.keeps_right(),
            other_keeps: kind.keeps_left(),
        }
    }

    /// Joins a row with those of the other side, and keeps it for those that will come.
    fn row<B, Own, Other>(
        &self,
        side: &Side<Own, Other>,
        row: Own,
        time: Timestamp,
        pair: impl Fn(&Own, &Other) -> Option<Joined<L, R>>,
        alone: impl Fn(Own) -> Joined<L, R>,
        ctx: &mut Context<'_, B, JoinOutput<K, L, R>>,
    ) -> Result<()>
    where
        B: KeyedBackend<Key = K>,
        Own: JoinRow,
        Other: JoinRow,
    {
        let millis = time.as_millis();
        let range = millis.saturating_add(side.from)..=millis.saturating_add(side.to);
        let (mut pairs, mut partners) = (Vec::new(), Vec::new());
        ctx.state(side.other).range(range, |at, rows| {
            for (index, held) in rows.iter().enumerate() {
                if let Some(joined) = pair(&row, &held.row) {
                    pairs.push((joined, millis.max(*at)));
                    if side.other_keeps && !held.matched {
                        partners.push((*at, index));
                    }
                }
            }
            Ok(())
        })?;
        for (at, index) in partners {
            ctx.state(side.other).modify(at, Vec::new, |rows| {
                rows.get_mut(index).into_iter().for_each(|held| held.matched = true);
            })?;
        }
        let matched = !pairs.is_empty();
        let key = ctx.key();
        for (joined, at) in pairs {
            ctx.emit_at(JoinOutput::Row(key.clone(), joined), at);
        }
        let end = time.plus_millis(side.to);
        if Some(end) <= ctx.watermark() {
            if side.keeps && !matched {
                ctx.emit(JoinOutput::Row(key.clone(), alone(row)));
            }
            return Ok(());
        }
        ctx.state(side.own).modify(millis, Vec::new, |rows| rows.push(Held { row, matched }))?;
        ctx.state_in(self.ends, &side.namespace).register(end)?;
        Ok(())
    }

    /// Removes the rows of one time, and emits those that stayed alone.
    fn end<B, Own, Other>(
        &self,
        side: &Side<Own, Other>,
        end: Timestamp,
        alone: impl Fn(Own) -> Joined<L, R>,
        ctx: &mut Context<'_, B, JoinOutput<K, L, R>>,
    ) -> Result<()>
    where
        B: KeyedBackend<Key = K>,
        Own: JoinRow,
        Other: JoinRow,
    {
        let time = end.as_millis().saturating_sub(side.to);
        let rows = ctx.state(side.own).take(&time)?.unwrap_or_default();
        let key = ctx.key();
        for held in rows.into_iter().filter(|held| side.keeps && !held.matched) {
            // With its own time it would be late for all that follows.
            ctx.emit_at(JoinOutput::Row(key.clone(), alone(held.row)), end.max(time.into()));
        }
        Ok(())
    }
}

impl<K, L, R, C> Operator for IntervalJoining<K, L, R, C>
where
    K: StateKey,
    L: JoinRow,
    R: JoinRow,
    C: Fn(&L, &R) -> bool + Send,
{
    type Key = K;
    type In = Either<L, R>;
    type Out = JoinOutput<K, L, R>;
    type Namespace = u8;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: Either<L, R>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let Some(time) = ctx.timestamp() else { return Err(no_event_time()) };
        if Some(time) <= ctx.watermark() {
            ctx.count_too_late();
            if self.join.emits_late {
                let key = ctx.key().clone();
                ctx.emit(JoinOutput::Late(key, record));
            }
            return Ok(());
        }
        let on = &self.join.condition;
        match record {
            Either::Left(row) => {
                let pair = |l: &L, r: &R| on(l, r).then(|| Joined::Both(l.clone(), r.clone()));
                self.row(&self.left_side(), row, time, pair, Joined::Left, ctx)
            }
            Either::Right(row) => {
                let pair = |r: &R, l: &L| on(l, r).then(|| Joined::Both(l.clone(), r.clone()));
                self.row(&self.right_side(), row, time, pair, Joined::Right, ctx)
            }
        }
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, u8>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        match timer.namespace {
            LEFT => self.end(&self.left_side(), timer.time, Joined::Left, ctx),
            _ => self.end(&self.right_side(), timer.time, Joined::Right, ctx),
        }
    }
}

#[cold]
pub(super) fn no_event_time() -> Error {
    let message = "a record without an event time reached a join by time: assign times at the source or with \
                   `timestamps`";
    Error::new(ErrorKind::User, message)
}

impl<L, R, C: Clone> Clone for IntervalJoin<L, R, C> {
    fn clone(&self) -> Self {
        Self { condition: self.condition.clone(), ..*self }
    }
}

impl<L, R, C> fmt::Debug for IntervalJoin<L, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalJoin")
            .field("lower", &self.lower)
            .field("upper", &self.upper)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<K, L, R, C> fmt::Debug for IntervalJoining<K, L, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntervalJoining").field(&self.join).finish()
    }
}
