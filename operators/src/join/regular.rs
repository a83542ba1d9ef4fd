//! The join of all rows of two inputs, whose result changes as rows come and go.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use strandline_state_api::{
    Context, Expiring, KeyScope, KeyedBackend, MapDescriptor, MapState, Open, Operator, Result, StateKey,
    Ttl, ValueDescriptor, ValueState,
};

use super::{JoinKind, JoinRow, Joined, KeyedRow};
use crate::storage::ttl_or_never;
use crate::{Change, Either, Storage};

/// Joins every row of one input with every row of the other that has its key (Flink SQL: the regular join,
/// `StreamingJoinOperator`).
///
/// The inputs are changes, and so is the result: when the first partner of a row comes that was emitted alone,
/// the lone row is deleted, and when the last partner goes, it is inserted again.
///
/// Both inputs are kept for ever unless they have a time-to-live. A row that has expired joins nothing more; its
/// results stay. With an outer join a partner that comes resets the time-to-live of a row, as it changes what is
/// stored of the row.
pub struct RegularJoin<L, R> {
    kind: JoinKind,
    storage: Storage,
    left_ttl: Option<Ttl>,
    right_ttl: Option<Ttl>,
    types: PhantomData<fn(L, R)>,
}

impl<L: JoinRow + PartialEq, R: JoinRow + PartialEq> RegularJoin<L, R> {
    /// Creates a join of a kind.
    pub fn new(kind: JoinKind) -> Self {
        Self { kind, storage: Storage::Compact, left_ttl: None, right_ttl: None, types: PhantomData }
    }

    /// Sets how long rows of both inputs are kept.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> Self {
        self.left_time_to_live(ttl).right_time_to_live(ttl)
    }

    /// Sets how long rows of the left input are kept.
    #[must_use]
    pub fn left_time_to_live(self, ttl: Ttl) -> Self {
        Self { left_ttl: Some(ttl), ..self }
    }

    /// Sets how long rows of the right input are kept.
    #[must_use]
    pub fn right_time_to_live(self, ttl: Ttl) -> Self {
        Self { right_ttl: Some(ttl), ..self }
    }

    /// Sets how rows are stored.
    #[must_use]
    pub fn storage(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// Those of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B>,
    ) -> Result<RegularJoining<K, L, R>> {
        let (left, right) = (ttl_or_never(self.left_ttl), ttl_or_never(self.right_ttl));
        // The numbers live as long as any row: each record writes them.
        let of_numbers = match (self.left_ttl, self.right_ttl) {
            (Some(left), Some(right)) if left.domain() == right.domain() => {
                if left.millis() > right.millis() { left } else { right }
            }
            _ => ttl_or_never(None),
        };
        let left = MapDescriptor::evolving("left", self.storage.of()).time_to_live(left);
        let right = MapDescriptor::evolving("right", self.storage.of()).time_to_live(right);
        Ok(RegularJoining {
            kind: self.kind,
            left: ctx.register(&left)?,
            right: ctx.register(&right)?,
            numbers: ctx.register(&ValueDescriptor::new("numbers").time_to_live(of_numbers))?,
            key: PhantomData,
        })
    }
}

/// The operator of a [`RegularJoin`].
pub struct RegularJoining<K, L, R> {
    kind: JoinKind,
    left: Rows<L>,
    right: Rows<R>,
    /// The number of the next row of the key.
    numbers: ValueState<u64, (), Expiring>,
    key: PhantomData<fn(K)>,
}

/// The rows of one input, by numbers that rise.
type Rows<T> = MapState<u64, Stored<T>, (), Expiring>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored<T> {
    row: T,
    /// The number of its partners; counted where the row is emitted when it has none.
    partners: u64,
}

/// One input as seen from a row of it, with what its results look like.
struct Side<L, R, Own, Other> {
    own: Rows<Own>,
    other: Rows<Other>,
    keeps: bool,
    other_keeps: bool,
    pair: fn(&Own, &Other) -> Joined<L, R>,
    alone: fn(Own) -> Joined<L, R>,
    other_alone: fn(Other) -> Joined<L, R>,
}

impl<K, L, R> RegularJoining<K, L, R>
where
    K: StateKey,
    L: JoinRow + PartialEq,
    R: JoinRow + PartialEq,
{
    fn change<B, Own, Other>(
        &self,
        side: &Side<L, R, Own, Other>,
        change: Change<Own>,
        ctx: &mut Context<'_, B, Change<KeyedRow<K, L, R>>>,
    ) -> Result<()>
    where
        B: KeyedBackend<Key = K>,
        Own: JoinRow + PartialEq,
        Other: JoinRow,
    {
        let comes = change.is_addition();
        let row = change.into_row();
        let mut partners = Vec::new();
        ctx.state(side.other).for_each(|number, stored| {
            partners.push((*number, stored.clone()));
            Ok(())
        })?;
        // Results come in the order of the rows, whatever the order in which a backend has them.
        partners.sort_unstable_by_key(|(number, _)| *number);
        let number = ctx.state(self.numbers).update_or_default(|next| {
            *next += 1;
            *next - 1
        })?;
        let key = ctx.key();
        let result = |joined| (key.clone(), joined);
        if comes {
            let stored = Stored { row: row.clone(), partners: partners.len() as u64 };
            ctx.state(side.own).put(number, stored)?;
            if partners.is_empty() && side.keeps {
                ctx.emit(Change::Insert(result((side.alone)(row))));
                return Ok(());
            }
            for (number, partner) in partners {
                if side.other_keeps {
                    if partner.partners == 0 {
                        ctx.emit(Change::Delete(result((side.other_alone)(partner.row.clone()))));
                    }
                    ctx.state(side.other).modify(
                        number,
                        || partner.clone(),
                        |stored| stored.partners += 1,
                    )?;
                }
                ctx.emit(Change::Insert(result((side.pair)(&row, &partner.row))));
            }
            return Ok(());
        }
        self.remove(side, &row, partners.is_empty(), ctx.scope())?;
        if partners.is_empty() && side.keeps {
            ctx.emit(Change::Delete(result((side.alone)(row))));
            return Ok(());
        }
        for (number, partner) in partners {
            ctx.emit(Change::Delete(result((side.pair)(&row, &partner.row))));
            if side.other_keeps {
                let left = ctx.state(side.other).modify(
                    number,
                    || partner.clone(),
                    |stored| {
                        stored.partners = stored.partners.saturating_sub(1);
                        stored.partners
                    },
                )?;
                if left == 0 {
                    ctx.emit(Change::Insert(result((side.other_alone)(partner.row))));
                }
            }
        }
        Ok(())
    }

    /// Removes the oldest row that equals `row`; a key without rows leaves no state. `is_alone` is whether the
    /// other side has none.
    fn remove<B, Own, Other>(
        &self,
        side: &Side<L, R, Own, Other>,
        row: &Own,
        is_alone: bool,
        scope: &mut KeyScope<'_, B>,
    ) -> Result<()>
    where
        B: KeyedBackend<Key = K>,
        Own: JoinRow + PartialEq,
        Other: JoinRow,
    {
        let (mut oldest, mut rows) = (None::<u64>, 0_u64);
        scope.state(side.own).for_each(|number, stored| {
            rows += 1;
            if stored.row == *row {
                oldest = Some(oldest.map_or(*number, |oldest| oldest.min(*number)));
            }
            Ok(())
        })?;
        if let Some(number) = oldest {
            scope.state(side.own).remove(&number)?;
            rows -= 1;
        }
        if rows == 0 && is_alone {
            scope.state(self.numbers).clear()?;
        }
        Ok(())
    }
}

impl<K, L, R> Operator for RegularJoining<K, L, R>
where
    K: StateKey,
    L: JoinRow + PartialEq,
    R: JoinRow + PartialEq,
{
    type Key = K;
    type In = Either<Change<L>, Change<R>>;
    type Out = Change<KeyedRow<K, L, R>>;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        record: Self::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let (keeps_left, keeps_right) = (self.kind.keeps_left(), self.kind.keeps_right());
        match record {
            Either::Left(change) => {
                let side = Side {
                    own: self.left,
                    other: self.right,
                    keeps: keeps_left,
                    other_keeps: keeps_right,
                    pair: |l: &L, r: &R| Joined::Both(l.clone(), r.clone()),
                    alone: Joined::Left,
                    other_alone: Joined::Right,
                };
                self.change(&side, change, ctx)
            }
            Either::Right(change) => {
                let side = Side {
                    own: self.right,
                    other: self.left,
                    keeps: keeps_right,
                    other_keeps: keeps_left,
                    pair: |r: &R, l: &L| Joined::Both(l.clone(), r.clone()),
                    alone: Joined::Right,
                    other_alone: Joined::Left,
                };
                self.change(&side, change, ctx)
            }
        }
    }
}

impl<L, R> Clone for RegularJoin<L, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<L, R> Copy for RegularJoin<L, R> {}

impl<L, R> fmt::Debug for RegularJoin<L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegularJoin")
            .field("kind", &self.kind)
            .field("left_ttl", &self.left_ttl)
            .field("right_ttl", &self.right_ttl)
            .finish_non_exhaustive()
    }
}

impl<K, L, R> fmt::Debug for RegularJoining<K, L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegularJoining").field("kind", &self.kind).finish_non_exhaustive()
    }
}
