//! The state of a group: aggregates of the rows that it has seen.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use strandline_connectors::{Column, ColumnType, Row, Value};
use strandline_state_api::schema::{DataType, Description, Encoding};
use strandline_state_api::{Codec, Error, Result, SerdeCodec};

use super::key::data_type;
use super::slot::Slot;
use crate::jobfile::{Aggregate, Function, Group};

/// One or two values for each aggregate: the count, the sum, the least or the greatest; for an average sum
/// and count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Accumulators(pub(super) SmallVec<[Slot; 2]>);

/// The aggregates of a group, in the order of its arguments.
#[derive(Clone, Debug)]
pub(super) struct Aggregates(Vec<Aggregate>);

/// A result that its column cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    column: String,
    kind: ColumnType,
    sum: i128,
}

impl Overflow {
    /// The error for a job that leaves no results out; `key` is that of the group.
    pub(super) fn of_key(&self, key: &[Value]) -> Error {
        let key: Vec<_> = key.iter().map(Value::to_string).collect();
        Error::invalid(self.to_string()).with("column", &self.column).with("key", key.join(","))
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { column, kind, sum } = self;
        write!(f, "the sum of column {column:?} is {sum}, which is no {kind} of 64 bits")
    }
}

impl Aggregates {
    pub(super) fn new(group: &Group) -> Self {
        Self(group.aggregates().to_vec())
    }

    /// The part of a row that the aggregates need: the value of each one's column, in order; none for a count
    /// of rows.
    #[inline]
    pub(super) fn arguments(&self, row: &Row) -> Row {
        let columns = self.0.iter().filter_map(|aggregate| aggregate.column.as_ref());
        columns.map(|(index, _)| row.get(*index).clone()).collect()
    }

    /// The accumulators before the first row.
    pub(super) fn initial(&self) -> Accumulators {
        let mut values = SmallVec::new();
        for aggregate in &self.0 {
            match aggregate.function {
                Function::Count => values.push(Slot::UInt(0)),
                Function::Sum | Function::Min | Function::Max => values.push(Slot::Null),
                Function::Average => values.extend([Slot::Null, Slot::UInt(0)]),
            }
        }
        Accumulators(values)
    }

    /// Adds the arguments of one row.
    pub(super) fn add(&self, arguments: Row, accumulators: &mut Accumulators) -> Result<()> {
        let mut arguments = arguments.0.into_iter();
        let mut slots = accumulators.0.iter_mut();
        for aggregate in &self.0 {
            let argument = aggregate.column.as_ref().map(|_| arguments.next().unwrap_or_default());
            let Some(slot) = slots.next() else { return Err(wrong_width()) };
            let Some(value) = argument else {
                slot.increment();
                continue;
            };
            let count = if aggregate.function == Function::Average { slots.next() } else { None };
            if value.is_null() {
                continue;
            }
            match aggregate.function {
                Function::Count => slot.increment(),
                Function::Sum => slot.add(&value),
                Function::Average => {
                    slot.add(&value);
                    count.map(Slot::increment).ok_or_else(wrong_width)?;
                }
                Function::Min => slot.keep(value, Ordering::Less),
                Function::Max => slot.keep(value, Ordering::Greater),
            }
        }
        Ok(())
    }

    /// Merges the accumulators of other rows into these, as if their rows had come behind.
    pub(super) fn merge(&self, accumulators: &mut Accumulators, other: &Accumulators) -> Result<()> {
        let (mut slots, mut others) = (accumulators.0.iter_mut(), other.0.iter());
        let mut next = || slots.next().zip(others.next()).ok_or_else(wrong_width);
        for aggregate in &self.0 {
            let (slot, other) = next()?;
            match aggregate.function {
                Function::Count | Function::Sum => slot.merge(other),
                Function::Average => {
                    slot.merge(other);
                    let (count, other) = next()?;
                    count.merge(other);
                }
                Function::Min => slot.keep_slot(other, Ordering::Less),
                Function::Max => slot.keep_slot(other, Ordering::Greater),
            }
        }
        Ok(())
    }

    /// Appends the results to a row.
    ///
    /// # Errors
    /// The first result that its column cannot hold.
    pub(super) fn append_to(&self, accumulators: &Accumulators, row: &mut Row) -> Result<(), Overflow> {
        let mut slots = accumulators.0.iter();
        for aggregate in &self.0 {
            let slot = slots.next().unwrap_or(&Slot::Null);
            row.push(match aggregate.function {
                Function::Average => slot.divided_by(slots.next()),
                _ => slot.value().map_err(|sum| overflow(aggregate, sum))?,
            });
        }
        Ok(())
    }

    /// How many values a result has.
    pub(super) fn width(&self) -> usize {
        self.0.len()
    }
}

#[cold]
fn overflow(aggregate: &Aggregate, sum: i128) -> Overflow {
    let unknown = || Column::new("", ColumnType::Int);
    let Column { name, kind, .. } = aggregate.column.as_ref().map_or_else(unknown, |(_, of)| of.clone());
    Overflow { column: name, kind, sum }
}

fn wrong_width() -> Error {
    Error::corrupt("the state of a group has another number of values than the group has aggregates")
}

/// The type of an aggregate in a checkpoint. Sums of integers are kept in 128 bits, and all but counts are null
/// before the first value.
fn stored_type(aggregate: &Aggregate) -> DataType {
    let of_column = aggregate
        .column
        .as_ref()
        .map_or(DataType::U64, |(_, column)| data_type(&Column { nullable: false, ..column.clone() }));
    let widened = |of| match of {
        DataType::Int { .. } => DataType::Int { signed: true, bits: 128 },
        of => of,
    };
    let optional = |of| DataType::Option(Box::new(of));
    match aggregate.function {
        Function::Count => DataType::U64,
        Function::Sum => optional(widened(of_column)),
        Function::Average => {
            DataType::of_fields([("sum", optional(widened(of_column))), ("count", DataType::U64)])
        }
        Function::Min | Function::Max => optional(of_column),
    }
}

/// The codec of a group's state. Its name lists keys and aggregates, so a job never takes the state of one
/// group for that of another.
#[derive(Clone, Debug)]
pub(super) struct GroupCodec {
    name: String,
    /// The aggregates, under the names of their results.
    data_type: DataType,
}

impl GroupCodec {
    pub(super) fn new(group: &Group) -> Self {
        let keys: Vec<_> = group.keys.iter().map(|(_, key)| format!("{}:{}", key.name, key.kind)).collect();
        let aggregate = |aggregate: &Aggregate| match &aggregate.column {
            Some((_, column)) => format!("{}({}:{})", aggregate.function.name(), column.name, column.kind),
            None => aggregate.function.name().to_owned(),
        };
        let aggregates: Vec<_> = group.aggregates().iter().map(aggregate).collect();
        let window = group.windows.map_or_else(String::new, |windows| format!(" in {windows}"));
        let name = format!("{} by {}{window}", aggregates.join(","), keys.join(","));
        let stored = group.aggregates().iter().map(|aggregate| (&aggregate.name, stored_type(aggregate)));
        Self { name, data_type: DataType::of_fields(stored) }
    }
}

impl Codec<Accumulators> for GroupCodec {
    fn id(&self) -> String {
        self.name.clone()
    }

    fn encode(&self, value: &Accumulators, out: &mut Vec<u8>) -> Result<()> {
        SerdeCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Accumulators> {
        SerdeCodec.decode(bytes)
    }

    fn description(&self) -> Option<Description> {
        Some(Description::new(Encoding::Accumulators, self.data_type.clone()))
    }
}

impl Codec<u64> for GroupCodec {
    fn id(&self) -> String {
        self.name.clone()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        SerdeCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        SerdeCodec.decode(bytes)
    }

    fn description(&self) -> Option<Description> {
        Some(Description::new(Encoding::LittleEndian, self.data_type.clone()))
    }
}
