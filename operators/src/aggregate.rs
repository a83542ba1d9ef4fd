//! Aggregates: what windows and running results compute.

mod folding;
mod several;

pub use folding::{Collect, Count, Fold, Reduce};
pub use several::Several;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{AggregateFunction, Evolution, Result, SerdeCodec};

/// Folds records into an accumulator, and computes a result from it (Flink: `AggregateFunction`).
///
/// Every [`AggregateFunction`] of `state-api` whose accumulator has the default codec is an aggregate.
/// Implement this trait where an aggregate can fail, has parts that are not copyable, or has accumulators
/// with older versions.
///
/// # Laws
/// * *A merge is a fold*: merging the accumulator of some records into that of others has the effect of
///   adding them there, at the end. Sessions merge, and sliding windows merge their panes, in the order of
///   time.
/// * *The state follows from the records alone*: an aggregate has no state of its own.
pub trait Aggregate: Clone + Send + Sync + 'static {
    /// The records.
    type In;
    /// What the state keeps. Sliding windows clone the accumulators of the panes that they share.
    type Accumulator: Clone + Send + 'static;
    /// The result.
    type Out;

    /// Returns how accumulators are stored: the versions of their type with a codec for each, from the oldest
    /// that a checkpoint may hold to the current one.
    fn storage(&self) -> Evolution<Self::Accumulator>;

    /// Creates the accumulator of no records.
    fn create(&self) -> Self::Accumulator;

    /// Adds one record.
    ///
    /// # Errors
    /// An error fails the task.
    fn add(&self, accumulator: &mut Self::Accumulator, record: Self::In) -> Result<()>;

    /// Merges the accumulator of other records into this one.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator) -> Result<()>;

    /// Computes the result of the records that were added so far.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    fn result(&self, accumulator: &Self::Accumulator) -> Result<Self::Out>;
}

impl<F> Aggregate for F
where
    F: AggregateFunction + Sync,
    F::Accumulator: Clone + Serialize + DeserializeOwned,
{
    type In = F::In;
    type Accumulator = F::Accumulator;
    type Out = F::Out;

    fn storage(&self) -> Evolution<F::Accumulator> {
        Evolution::first(1, SerdeCodec)
    }

    #[inline]
    fn create(&self) -> F::Accumulator {
        AggregateFunction::create(self)
    }

    #[inline]
    fn add(&self, accumulator: &mut F::Accumulator, record: F::In) -> Result<()> {
        AggregateFunction::add(self, accumulator, record);
        Ok(())
    }

    #[inline]
    fn merge(&self, accumulator: &mut F::Accumulator, other: F::Accumulator) -> Result<()> {
        AggregateFunction::merge(self, accumulator, other);
        Ok(())
    }

    #[inline]
    fn result(&self, accumulator: &F::Accumulator) -> Result<F::Out> {
        Ok(AggregateFunction::result(self, accumulator))
    }
}
