//! The rows of each key with the greatest scores.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{
    Context, Error, Evolution, Expiring, KeyedBackend, Open, Operator, Result, StateKey, Ttl,
    ValueDescriptor, ValueState,
};

use crate::storage::ttl_or_never;
use crate::{Aggregate, Change, Storage};

/// Keeps the `n` rows of each key with the greatest scores (Flink SQL: top N, `AppendOnlyTopNFunction`). Of rows
/// with one score, those that came first count as greater. For the least, score with [`std::cmp::Reverse`].
///
/// As an operator ([`open`](Self::open)) it emits each change: a row that enters is an insertion, and the row
/// that it drives out a deletion. As an [`Aggregate`] it computes the rows of a window, in order, greatest
/// first; in the [global window](crate::window::TimeWindows::global) those of the whole input.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::{Change, TopN};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let two = TopN::new(2, |points: &u64| *points);
/// let mut harness = Harness::new(MemoryBackendFactory::default(), "two", |ctx| two.open::<u64, _>(ctx))?;
/// for points in [3, 9, 1, 7] {
///     harness.process(0u64, points, None)?;
/// }
/// assert_eq!(harness.take_output().records(), [
///     Change::Insert((0, 3)),
///     Change::Insert((0, 9)),
///     Change::Delete((0, 3)),
///     Change::Insert((0, 7)),
/// ]);
/// # Ok(())
/// # }
/// ```
pub struct TopN<T, F> {
    n: usize,
    score: F,
    storage: Storage,
    ttl: Option<Ttl>,
    types: PhantomData<fn(T)>,
}

impl<T, S, F> TopN<T, F>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    S: Ord,
    F: Fn(&T) -> S + Clone + Send + Sync + 'static,
{
    /// Keeps `n` rows by `score`.
    pub fn new(n: usize, score: F) -> Self {
        Self { n, score, storage: Storage::Compact, ttl: None, types: PhantomData }
    }

    /// Forgets the rows of a key some time after the last one entered. No deletions are emitted for them.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Makes the operator of one subtask and registers its state.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for no rows at all; and the errors of
    /// [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<TopRows<K, T, F>> {
        if self.n == 0 {
            return Err(Error::invalid("the top 0 rows are none: choose at least 1"));
        }
        let rows = ValueDescriptor::evolving("rows", self.storage.of()).time_to_live(ttl_or_never(self.ttl));
        Ok(TopRows { rows: ctx.register(&rows)?, top: self.clone(), key: PhantomData })
    }

    /// Returns where a row belongs among `rows`, if it is one of the greatest.
    fn position(&self, rows: &[T], row: &T) -> Option<usize> {
        let score = (self.score)(row);
        let index = rows.partition_point(|other| (self.score)(other) >= score);
        (index < self.n).then_some(index)
    }
}

/// The operator of [`TopN`].
pub struct TopRows<K, T, F> {
    top: TopN<T, F>,
    /// The greatest rows of a key, in order.
    rows: ValueState<Vec<T>, (), Expiring>,
    key: PhantomData<fn(K)>,
}

impl<K, T, S, F> Operator for TopRows<K, T, F>
where
    K: StateKey,
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    S: Ord,
    F: Fn(&T) -> S + Clone + Send + Sync + 'static,
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
        let rows = ctx.state(self.rows).get()?;
        let Some(index) = self.top.position(rows.map_or(&[], Vec::as_slice), &row) else { return Ok(()) };
        let n = self.top.n;
        let driven_out = ctx.state(self.rows).update_or_default(|rows| {
            rows.insert(index, row.clone());
            if rows.len() > n { rows.pop() } else { None }
        })?;
        let key = ctx.key();
        if let Some(driven_out) = driven_out {
            ctx.emit(Change::Delete((key.clone(), driven_out)));
        }
        ctx.emit(Change::Insert((key.clone(), row)));
        Ok(())
    }
}

impl<T, S, F> Aggregate for TopN<T, F>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    S: Ord,
    F: Fn(&T) -> S + Clone + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = Vec<T>;
    type Out = Vec<T>;

    fn storage(&self) -> Evolution<Vec<T>> {
        self.storage.of()
    }

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, rows: &mut Vec<T>, row: T) -> Result<()> {
        if let Some(index) = self.position(rows, &row) {
            rows.insert(index, row);
            rows.truncate(self.n);
        }
        Ok(())
    }

    fn merge(&self, rows: &mut Vec<T>, other: Vec<T>) -> Result<()> {
        other.into_iter().try_for_each(|row| self.add(rows, row))
    }

    fn result(&self, rows: &Vec<T>) -> Result<Vec<T>> {
        Ok(rows.clone())
    }
}

impl<T, F: Clone> Clone for TopN<T, F> {
    fn clone(&self) -> Self {
        Self { score: self.score.clone(), ..*self }
    }
}

impl<T, F> fmt::Debug for TopN<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopN").field("n", &self.n).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl<K, T, F> fmt::Debug for TopRows<K, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopRows").field(&self.top).finish()
    }
}
