//! Changes of results, and records of two inputs.

use serde::{Deserialize, Serialize};

/// A change of a table of results (Flink: `RowKind`, a changelog stream).
///
/// Who applies the changes in order has the current results. A result that changes is an
/// [`UpdateBefore`](Self::UpdateBefore) and an [`UpdateAfter`](Self::UpdateAfter), next to each other, or where
/// the key is enough to find the old one, the latter alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change<T> {
    /// A result that is new (`+I`).
    Insert(T),
    /// What a result was before it changed (`-U`).
    UpdateBefore(T),
    /// What a result has changed to (`+U`).
    UpdateAfter(T),
    /// A result that is none any more (`-D`).
    Delete(T),
}

impl<T> Change<T> {
    /// Returns the result that comes or goes.
    pub fn row(&self) -> &T {
        match self {
            Self::Insert(row) | Self::UpdateBefore(row) | Self::UpdateAfter(row) | Self::Delete(row) => row,
        }
    }

    /// Returns the result that comes or goes.
    pub fn into_row(self) -> T {
        match self {
            Self::Insert(row) | Self::UpdateBefore(row) | Self::UpdateAfter(row) | Self::Delete(row) => row,
        }
    }

    /// Returns whether the result comes; otherwise it goes.
    pub fn is_addition(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::UpdateAfter(_))
    }

    /// Changes the result, and keeps what happens to it.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Insert(row) => Change::Insert(f(row)),
            Self::UpdateBefore(row) => Change::UpdateBefore(f(row)),
            Self::UpdateAfter(row) => Change::UpdateAfter(f(row)),
            Self::Delete(row) => Change::Delete(f(row)),
        }
    }
}

/// A record of one of two inputs with the same keys.
///
/// An operator with two keyed inputs takes this type. Both inputs go through one exchange, so one aligner cuts
/// through both, and event time is that of the slower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// A record of the left input.
    Left(L),
    /// A record of the right input.
    Right(R),
}
