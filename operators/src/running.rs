//! Aggregates of all records of a key, after each record.

use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::{
    Context, Error, Expiring, KeyedBackend, Open, Operator, Result, StateKey, Ttl, ValueDescriptor,
    ValueState,
};

use crate::storage::ttl_or_never;
use crate::{Aggregate, Change};

/// Aggregates all records of a key, and emits each change of the result (Flink SQL: `GROUP BY` without windows).
/// A record that leaves the result as it is emits nothing.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::{Change, Count, Running};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let counts = Running::new(Count::<()>::new());
/// let mut harness =
///     Harness::new(MemoryBackendFactory::default(), "counts", |ctx| counts.open::<String, _>(ctx))?;
/// harness.process("ada", (), None)?;
/// harness.process("ada", (), None)?;
/// assert_eq!(harness.take_output().records(), [
///     Change::Insert(("ada".to_owned(), 1)),
///     Change::UpdateBefore(("ada".to_owned(), 1)),
///     Change::UpdateAfter(("ada".to_owned(), 2)),
/// ]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Running<A> {
    aggregate: A,
    upserts: bool,
    ttl: Option<Ttl>,
}

impl<A: Aggregate<Out: PartialEq>> Running<A> {
    /// Aggregates with `aggregate`.
    pub fn new(aggregate: A) -> Self {
        Self { aggregate, upserts: false, ttl: None }
    }

    /// Leaves out what a result was before it changed ([`Change::UpdateBefore`]).
    #[must_use]
    pub fn upserts(self) -> Self {
        Self { upserts: true, ..self }
    }

    /// Forgets a key some time after its last record: the next one begins anew.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Makes the operator of one subtask and registers its state.
    ///
    /// # Errors
    /// Those of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<RunningAggregate<K, A>> {
        let state = ValueDescriptor::evolving("accumulators", self.aggregate.storage());
        let state = ctx.register(&state.time_to_live(ttl_or_never(self.ttl)))?;
        let (aggregate, upserts) = (self.aggregate.clone(), self.upserts);
        Ok(RunningAggregate { aggregate, upserts, state, key: PhantomData })
    }
}

/// The operator of [`Running`].
pub struct RunningAggregate<K, A: Aggregate> {
    aggregate: A,
    upserts: bool,
    state: ValueState<A::Accumulator, (), Expiring>,
    key: PhantomData<fn(K)>,
}

impl<K: StateKey, A: Aggregate<Out: PartialEq>> Operator for RunningAggregate<K, A> {
    type Key = K;
    type In = A::In;
    type Out = Change<(K, A::Out)>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: A::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let (aggregate, mut is_new) = (&self.aggregate, false);
        let initial = || {
            is_new = true;
            aggregate.create()
        };
        let (before, after) = ctx.state(self.state).modify(initial, |accumulator| {
            let before = aggregate.result(accumulator);
            aggregate.add(accumulator, record)?;
            Ok::<_, Error>((before, aggregate.result(accumulator)?))
        })??;
        let key = ctx.key();
        if is_new {
            ctx.emit(Change::Insert((key.clone(), after)));
            return Ok(());
        }
        let before = before?;
        if before != after {
            if !self.upserts {
                ctx.emit(Change::UpdateBefore((key.clone(), before)));
            }
            ctx.emit(Change::UpdateAfter((key.clone(), after)));
        }
        Ok(())
    }
}

impl<K, A: Aggregate + fmt::Debug> fmt::Debug for RunningAggregate<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningAggregate").field("aggregate", &self.aggregate).finish_non_exhaustive()
    }
}
