//! Joins of two inputs with the same keys.

mod interval;
mod regular;
mod versioned;
mod window;

pub use interval::{IntervalJoin, IntervalJoining};
pub use regular::{RegularJoin, RegularJoining};
pub use versioned::{VersionedJoin, VersionedJoining};
pub use window::WindowJoin;

use serde::{Deserialize, Serialize};

use crate::Either;

/// Which rows without a partner a join emits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// None.
    #[default]
    Inner,
    /// Those of the left input.
    Left,
    /// Those of the right input.
    Right,
    /// Those of both inputs.
    Full,
}

impl JoinKind {
    /// Returns whether rows of the left input without a partner are emitted.
    pub fn keeps_left(self) -> bool {
        matches!(self, Self::Left | Self::Full)
    }

    /// Returns whether rows of the right input without a partner are emitted.
    pub fn keeps_right(self) -> bool {
        matches!(self, Self::Right | Self::Full)
    }
}

/// A row of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Joined<L, R> {
    /// Two rows that belong together.
    Both(L, R),
    /// A row of the left input without a partner.
    Left(L),
    /// A row of the right input without a partner.
    Right(R),
}

impl<L, R> Joined<L, R> {
    /// Splits the row into its two sides.
    pub fn into_sides(self) -> (Option<L>, Option<R>) {
        match self {
            Self::Both(left, right) => (Some(left), Some(right)),
            Self::Left(left) => (Some(left), None),
            Self::Right(right) => (None, Some(right)),
        }
    }
}

/// A row of a join with its key.
pub type KeyedRow<K, L, R> = (K, Joined<L, R>);

/// A late record of a join with its key.
pub type LateRecord<K, L, R> = (K, Either<L, R>);

/// What a join over event time emits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JoinOutput<K, L, R> {
    /// A row of the join.
    Row(K, Joined<L, R>),
    /// A record that came at or before the watermark; emitted where the join is asked to.
    Late(K, Either<L, R>),
}

impl<K, L, R> JoinOutput<K, L, R> {
    /// Splits rows from late records, as a step that partitions a stream needs it.
    ///
    /// # Errors
    /// The late record.
    pub fn into_row(self) -> Result<KeyedRow<K, L, R>, LateRecord<K, L, R>> {
        match self {
            Self::Row(key, row) => Ok((key, row)),
            Self::Late(key, record) => Err((key, record)),
        }
    }
}

/// What a join asks of the rows that it keeps.
pub trait JoinRow: Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static> JoinRow for T {}
