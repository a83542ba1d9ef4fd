//! The state of a group: aggregates of the rows that it has seen.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use strandline_connectors::{Row, Value};
use strandline_state_api::{Codec, Error, ErrorKind, Result, SerdeCodec};

use crate::jobfile::{Aggregate, Function, Group, compare};

/// One or two values for each aggregate: the count, the sum, the least or the greatest; for an average sum
/// and count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Accumulators(pub(super) SmallVec<[Value; 2]>);

/// The aggregates of a group, in the order of its arguments.
#[derive(Clone, Debug)]
pub(super) struct Aggregates(Vec<Aggregate>);

impl Aggregates {
    pub(super) fn new(group: &Group) -> Self {
        Self(group.aggregates.clone())
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
                Function::Count => values.push(Value::UInt(0)),
                Function::Sum | Function::Min | Function::Max => values.push(Value::Null),
                Function::Average => values.extend([Value::Null, Value::UInt(0)]),
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
                increment(slot);
                continue;
            };
            let count = if aggregate.function == Function::Average { slots.next() } else { None };
            if value.is_null() {
                continue;
            }
            match aggregate.function {
                Function::Count => increment(slot),
                Function::Sum => *slot = sum(slot, &value).ok_or_else(|| overflow(aggregate))?,
                Function::Average => {
                    *slot = sum(slot, &value).ok_or_else(|| overflow(aggregate))?;
                    count.map(increment).ok_or_else(wrong_width)?;
                }
                Function::Min => keep(slot, value, Ordering::Less),
                Function::Max => keep(slot, value, Ordering::Greater),
            }
        }
        Ok(())
    }

    /// Appends the results to a row.
    pub(super) fn append_to(&self, accumulators: &Accumulators, row: &mut Row) {
        let mut slots = accumulators.0.iter();
        for aggregate in &self.0 {
            let value = slots.next().cloned().unwrap_or_default();
            row.push(match aggregate.function {
                Function::Average => average(&value, slots.next()),
                _ => value,
            });
        }
    }

    /// How many values a result has.
    pub(super) fn width(&self) -> usize {
        self.0.len()
    }
}

fn increment(slot: &mut Value) {
    if let Value::UInt(count) = slot {
        *count += 1;
    }
}

/// The sum of two numbers of one type; `None` when it overflows.
fn sum(sum: &Value, value: &Value) -> Option<Value> {
    match (sum, value) {
        (Value::Null, value) => Some(value.clone()),
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int),
        (Value::UInt(a), Value::UInt(b)) => a.checked_add(*b).map(Value::UInt),
        (a, b) => Some(Value::Float(a.as_float()? + b.as_float()?)),
    }
}

fn keep(slot: &mut Value, value: Value, wanted: Ordering) {
    if slot.is_null() || compare(&value, slot) == Some(wanted) {
        *slot = value;
    }
}

fn average(sum: &Value, count: Option<&Value>) -> Value {
    match (sum.as_float(), count.and_then(Value::as_float)) {
        (Some(sum), Some(count)) if count > 0.0 => Value::Float(sum / count),
        _ => Value::Null,
    }
}

fn overflow(aggregate: &Aggregate) -> Error {
    let column = aggregate.column.as_ref().map_or("", |(_, column)| column.name.as_str());
    let message =
        format!("a sum of column {column:?} is larger than its type holds; declare the column as float");
    Error::new(ErrorKind::User, message)
}

fn wrong_width() -> Error {
    Error::corrupt("the state of a group has another number of values than the group has aggregates")
}

/// The codec of a group's state. Its name lists keys and aggregates, so a job never takes the state of one
/// group for that of another.
#[derive(Clone, Debug)]
pub(super) struct GroupCodec(String);

impl GroupCodec {
    pub(super) fn new(group: &Group) -> Self {
        let keys: Vec<_> = group.keys.iter().map(|(_, key)| format!("{}:{}", key.name, key.kind)).collect();
        let aggregate = |aggregate: &Aggregate| match &aggregate.column {
            Some((_, column)) => format!("{}({}:{})", aggregate.function.name(), column.name, column.kind),
            None => aggregate.function.name().to_owned(),
        };
        let aggregates: Vec<_> = group.aggregates.iter().map(aggregate).collect();
        let window = group.window_ms.map_or_else(String::new, |ms| format!(" in {ms} ms"));
        Self(format!("{} by {}{window}", aggregates.join(","), keys.join(",")))
    }
}

impl Codec<Accumulators> for GroupCodec {
    fn id(&self) -> String {
        self.0.clone()
    }

    fn encode(&self, value: &Accumulators, out: &mut Vec<u8>) -> Result<()> {
        SerdeCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Accumulators> {
        SerdeCodec.decode(bytes)
    }
}

impl Codec<u64> for GroupCodec {
    fn id(&self) -> String {
        self.0.clone()
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<()> {
        SerdeCodec.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64> {
        SerdeCodec.decode(bytes)
    }
}
