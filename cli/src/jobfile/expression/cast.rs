//! Values as values of another type.

use compact_str::{CompactString, ToCompactString};
use strandline_connectors::{ColumnType, TimeFormat, Value};

use super::arithmetic::as_kind;
use super::integer;

/// Whether values of one type can be cast to another; those of one that cannot are never looked at.
pub(super) fn is_possible(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType::{Bool, Float, Int, Text, Timestamp, UInt};
    match (from, to) {
        (_, Text) | (Text, _) | (Int | UInt | Float, Int | UInt | Float) => true,
        (Bool, Int | UInt) => true,
        (from @ (Bool | Timestamp), to) => from == to,
        (Int | UInt | Float, Bool | Timestamp) => false,
    }
}

/// The value as one of the type `kind`.
///
/// # Errors
/// Why it is none.
pub(super) fn cast(value: &Value, kind: ColumnType) -> Result<Value, String> {
    let none = || format!("{} is no {kind}", shown(value));
    match (value, kind) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Text(text), ColumnType::Timestamp) => {
            TimeFormat::default().parse(text).map(Value::Timestamp).map_err(|_| none())
        }
        (Value::Text(text), kind) => {
            let parsed = match kind {
                ColumnType::Int => text.parse().ok().map(Value::Int),
                ColumnType::UInt => text.parse().ok().map(Value::UInt),
                ColumnType::Float => text.parse().ok().map(Value::Float),
                ColumnType::Bool => text.parse().ok().map(Value::Bool),
                ColumnType::Text | ColumnType::Timestamp => Some(value.clone()),
            };
            parsed.ok_or_else(none)
        }
        (other, ColumnType::Text) => Ok(Value::Text(text(other))),
        (Value::Bool(v), ColumnType::Int) => Ok(Value::Int(i64::from(*v))),
        (Value::Bool(v), ColumnType::UInt) => Ok(Value::UInt(u64::from(*v))),
        (number, ColumnType::Float) => number.as_float().map(Value::Float).ok_or_else(none),
        (Value::Float(v), ColumnType::Int | ColumnType::UInt) => whole(*v, kind).ok_or_else(none),
        (number, ColumnType::Int | ColumnType::UInt) => {
            integer(number).and_then(|v| as_kind(v, kind)).ok_or_else(none)
        }
        // The types exclude others.
        (other, ColumnType::Bool | ColumnType::Timestamp) => Ok(other.clone()),
    }
}

/// A float without its decimal places, as an integer of this type.
pub(super) fn whole(v: f64, kind: ColumnType) -> Option<Value> {
    // Every float below 2^100 is exact as an integer of 128 bits.
    (v.abs() < 1e30).then(|| as_kind(v.trunc() as i128, kind)).flatten()
}

/// A value as text.
pub(super) fn text(value: &Value) -> CompactString {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_compact_string(),
    }
}

/// A value for a message.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        other => other.to_string(),
    }
}
