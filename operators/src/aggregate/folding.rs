//! Aggregates made of closures, and those that need none.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Error, Evolution, Result, SerdeCodec};

use super::Aggregate;

/// Counts records.
pub struct Count<T>(PhantomData<fn(T)>);

impl<T> Count<T> {
    /// Creates the aggregate.
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: 'static> Aggregate for Count<T> {
    type In = T;
    type Accumulator = u64;
    type Out = u64;

    fn storage(&self) -> Evolution<u64> {
        Evolution::first(1, SerdeCodec)
    }

    #[inline]
    fn create(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, count: &mut u64, _: T) -> Result<()> {
        *count += 1;
        Ok(())
    }

    #[inline]
    fn merge(&self, count: &mut u64, other: u64) -> Result<()> {
        *count += other;
        Ok(())
    }

    #[inline]
    fn result(&self, count: &u64) -> Result<u64> {
        Ok(*count)
    }
}

impl<T> Default for Count<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Count<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Count<T> {}

impl<T> fmt::Debug for Count<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Count")
    }
}

/// Combines records into one of the same type (Flink: `ReduceFunction`).
///
/// ```
/// use strandline_operators::Reduce;
///
/// let greatest = Reduce::new(|greatest: &mut u64, n: u64| *greatest = n.max(*greatest));
/// ```
pub struct Reduce<T, F> {
    function: F,
    types: PhantomData<fn(T)>,
}

impl<T, F: Fn(&mut T, T)> Reduce<T, F> {
    /// Creates an aggregate that reduces each record into the first with `function`, which should be
    /// associative.
    pub fn new(function: F) -> Self {
        Self { function, types: PhantomData }
    }
}

impl<T, F> Aggregate for Reduce<T, F>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    F: Fn(&mut T, T) + Clone + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = Option<T>;
    type Out = T;

    fn storage(&self) -> Evolution<Option<T>> {
        Evolution::first(1, SerdeCodec)
    }

    #[inline]
    fn create(&self) -> Option<T> {
        None
    }

    #[inline]
    fn add(&self, reduced: &mut Option<T>, record: T) -> Result<()> {
        match reduced {
            Some(reduced) => (self.function)(reduced, record),
            None => *reduced = Some(record),
        }
        Ok(())
    }

    #[inline]
    fn merge(&self, reduced: &mut Option<T>, other: Option<T>) -> Result<()> {
        other.map_or(Ok(()), |other| self.add(reduced, other))
    }

    #[inline]
    fn result(&self, reduced: &Option<T>) -> Result<T> {
        reduced.clone().ok_or_else(|| Error::invalid("no records have no reduced record: add one first"))
    }
}

impl<T, F: Clone> Clone for Reduce<T, F> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), types: PhantomData }
    }
}

impl<T, F> fmt::Debug for Reduce<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reduce")
    }
}

/// Folds records into a value of another type.
///
/// ```
/// use strandline_operators::Fold;
///
/// let longest = Fold::new(
///     0,
///     |longest: &mut usize, word: String| *longest = word.len().max(*longest),
///     |longest, other| *longest = other.max(*longest),
/// );
/// ```
pub struct Fold<T, A, F, G> {
    initial: A,
    add: F,
    merge: G,
    types: PhantomData<fn(T)>,
}

impl<T, A, F: Fn(&mut A, T), G: Fn(&mut A, A)> Fold<T, A, F, G> {
    /// Creates an aggregate that starts at `initial`, adds each record with `add`, and merges the folds of
    /// two panes or sessions with `merge`.
    pub fn new(initial: A, add: F, merge: G) -> Self {
        Self { initial, add, merge, types: PhantomData }
    }
}

impl<T, A, F, G> Aggregate for Fold<T, A, F, G>
where
    T: 'static,
    A: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&mut A, T) + Clone + Send + Sync + 'static,
    G: Fn(&mut A, A) + Clone + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = A;
    type Out = A;

    fn storage(&self) -> Evolution<A> {
        Evolution::first(1, SerdeCodec)
    }

    #[inline]
    fn create(&self) -> A {
        self.initial.clone()
    }

    #[inline]
    fn add(&self, folded: &mut A, record: T) -> Result<()> {
        (self.add)(folded, record);
        Ok(())
    }

    #[inline]
    fn merge(&self, folded: &mut A, other: A) -> Result<()> {
        (self.merge)(folded, other);
        Ok(())
    }

    #[inline]
    fn result(&self, folded: &A) -> Result<A> {
        Ok(folded.clone())
    }
}

impl<T, A: Clone, F: Clone, G: Clone> Clone for Fold<T, A, F, G> {
    fn clone(&self) -> Self {
        let Self { initial, add, merge, types } = self;
        Self { initial: initial.clone(), add: add.clone(), merge: merge.clone(), types: *types }
    }
}

impl<T, A: fmt::Debug, F, G> fmt::Debug for Fold<T, A, F, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold").field("initial", &self.initial).finish_non_exhaustive()
    }
}

/// Keeps whole records, in the order of their arrival, and computes the result from all of them at once
/// (Flink: `ProcessWindowFunction`).
///
/// The records of a window are one value: an increment of a checkpoint stores all of them when one came, and
/// together they are [bounded as any value](strandline_state_api::StateDescriptor). Fold where you can.
///
/// ```
/// use strandline_operators::Collect;
///
/// let median = Collect::new(|numbers: &[u64]| {
///     let mut sorted = numbers.to_vec();
///     sorted.sort_unstable();
///     sorted[sorted.len() / 2]
/// });
/// ```
pub struct Collect<T, F> {
    function: F,
    types: PhantomData<fn(T)>,
}

impl<T, R, F: Fn(&[T]) -> R> Collect<T, F> {
    /// Creates an aggregate that calls `function` with all records, of which there is at least one.
    pub fn new(function: F) -> Self {
        Self { function, types: PhantomData }
    }
}

impl<T, R, F> Aggregate for Collect<T, F>
where
    T: Clone + Serialize + DeserializeOwned + Send + 'static,
    F: Fn(&[T]) -> R + Clone + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = Vec<T>;
    type Out = R;

    fn storage(&self) -> Evolution<Vec<T>> {
        Evolution::first(1, SerdeCodec)
    }

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    #[inline]
    fn add(&self, records: &mut Vec<T>, record: T) -> Result<()> {
        records.push(record);
        Ok(())
    }

    fn merge(&self, records: &mut Vec<T>, mut other: Vec<T>) -> Result<()> {
        records.append(&mut other);
        Ok(())
    }

    fn result(&self, records: &Vec<T>) -> Result<R> {
        Ok((self.function)(records))
    }
}

impl<T, F: Clone> Clone for Collect<T, F> {
    fn clone(&self) -> Self {
        Self { function: self.function.clone(), types: PhantomData }
    }
}

impl<T, F> fmt::Debug for Collect<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collect")
    }
}
