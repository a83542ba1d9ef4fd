//! The join of the records that share a window.

use std::fmt;
use std::marker::PhantomData;

use strandline_state_api::{Evolution, Result, SerdeCodec};

use super::{JoinKind, JoinRow, Joined};
use crate::{Aggregate, Either};

/// Joins the records of two inputs that share a window (Flink: `join(..).window(..)`, `coGroup`): an
/// [`Aggregate`] for any [windows](crate::window::Windows), whose result has all rows of a window.
///
/// The windows are those of both inputs together: a session may be kept open by either.
///
/// ```
/// use std::time::Duration;
///
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::Either::{Left, Right};
/// use strandline_operators::join::{JoinKind, Joined, WindowJoin};
/// use strandline_operators::window::{TimeWindows, Windows};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let windows = TimeWindows::tumbling(Duration::from_secs(60));
/// let join = WindowJoin::<String, u64>::new(JoinKind::Left);
/// let mut harness = Harness::new(MemoryBackendFactory::default(), "join", |ctx| {
///     windows.open::<u64, _, _>(&join, ctx)
/// })?;
/// harness.process(7u64, Left("order".to_owned()), 1_000)?;
/// harness.process(7u64, Right(99), 2_000)?;
/// harness.end()?;
/// let result = harness.take_output().into_iter().next().and_then(|(output, _)| output.result());
/// assert_eq!(result.map(|result| result.value), Some(vec![Joined::Both("order".to_owned(), 99)]));
/// # Ok(())
/// # }
/// ```
pub struct WindowJoin<L, R, C = fn(&L, &R) -> bool> {
    kind: JoinKind,
    condition: C,
    types: PhantomData<fn(L, R)>,
}

impl<L, R> WindowJoin<L, R> {
    /// Creates a join of all pairs of a key and window.
    pub fn new(kind: JoinKind) -> Self {
        Self { kind, condition: |_, _| true, types: PhantomData }
    }

    /// Joins only the pairs for which `condition` returns true.
    pub fn on<C: Fn(&L, &R) -> bool>(self, condition: C) -> WindowJoin<L, R, C> {
        WindowJoin { kind: self.kind, condition, types: PhantomData }
    }
}

impl<L, R, C> Aggregate for WindowJoin<L, R, C>
where
    L: JoinRow,
    R: JoinRow,
    C: Fn(&L, &R) -> bool + Clone + Send + Sync + 'static,
{
    type In = Either<L, R>;
    type Accumulator = (Vec<L>, Vec<R>);
    type Out = Vec<Joined<L, R>>;

    fn storage(&self) -> Evolution<Self::Accumulator> {
        Evolution::first(1, SerdeCodec)
    }

    fn create(&self) -> Self::Accumulator {
        Default::default()
    }

    fn add(&self, (left, right): &mut Self::Accumulator, record: Either<L, R>) -> Result<()> {
        match record {
            Either::Left(record) => left.push(record),
            Either::Right(record) => right.push(record),
        }
        Ok(())
    }

    fn merge(&self, (left, right): &mut Self::Accumulator, mut other: Self::Accumulator) -> Result<()> {
        left.append(&mut other.0);
        right.append(&mut other.1);
        Ok(())
    }

    fn result(&self, (left, right): &Self::Accumulator) -> Result<Vec<Joined<L, R>>> {
        let mut rows = Vec::new();
        let mut matched = vec![false; right.len()];
        for l in left {
            let before = rows.len();
            for (r, matched) in right.iter().zip(&mut matched) {
                if (self.condition)(l, r) {
                    *matched = true;
                    rows.push(Joined::Both(l.clone(), r.clone()));
                }
            }
            if rows.len() == before && self.kind.keeps_left() {
                rows.push(Joined::Left(l.clone()));
            }
        }
        if self.kind.keeps_right() {
            let alone = right.iter().zip(matched).filter(|(_, matched)| !matched);
            rows.extend(alone.map(|(r, _)| Joined::Right(r.clone())));
        }
        Ok(rows)
    }
}

impl<L, R, C: Clone> Clone for WindowJoin<L, R, C> {
    fn clone(&self) -> Self {
        Self { kind: self.kind, condition: self.condition.clone(), types: PhantomData }
    }
}

impl<L, R, C> fmt::Debug for WindowJoin<L, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowJoin").field("kind", &self.kind).finish_non_exhaustive()
    }
}
