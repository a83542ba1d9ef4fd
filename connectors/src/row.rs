//! The dynamic record of declarative jobs: a few typed values, cheap to move.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use strandline_state_api::Timestamp;

mod field;
mod key;
mod moment;

pub use field::{Field, JsonPath, JsonStep};
pub use key::RowKey;
pub use moment::{Moment, TimeFormat};

/// The type of the values in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnType {
    /// `true` or `false`.
    Bool,
    /// A signed integer of 64 bits.
    Int,
    /// An unsigned integer of 64 bits.
    UInt,
    /// A floating-point number of 64 bits.
    Float,
    /// UTF-8 text.
    Text,
    /// A point in time.
    Timestamp,
}

impl ColumnType {
    /// All types, by the name that job files use.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("bool", Self::Bool),
        ("int", Self::Int),
        ("uint", Self::UInt),
        ("float", Self::Float),
        ("text", Self::Text),
        ("timestamp", Self::Timestamp),
    ];

    /// The name that job files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::UInt => "uint",
            Self::Float => "float",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
        }
    }

    /// Whether sums and averages of it exist.
    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Float)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A named and typed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique within a row.
    pub name: String,
    /// The type of its values.
    pub kind: ColumnType,
    /// Whether a value may be missing ([`Value::Null`]).
    pub nullable: bool,
}

impl Column {
    /// A column whose value is never missing.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self { name: name.into(), kind, nullable: false }
    }

    /// The same column, whose value may be missing.
    #[must_use]
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }
}

/// One value of a row: 24 bytes, and text up to that length needs no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// None.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(CompactString),
    /// A point in time.
    Timestamp(Moment),
}

impl Value {
    /// Text.
    pub fn text(text: &str) -> Self {
        Self::Text(CompactString::new(text))
    }

    /// Whether there is none.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// As a signed integer, if it is an integer in that range.
    #[inline]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(v) => Some(*v),
            Self::UInt(v) => i64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// As an unsigned integer, if it is an integer in that range.
    #[inline]
    pub fn as_uint(&self) -> Option<u64> {
        match self {
            Self::UInt(v) => Some(*v),
            Self::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// As a floating-point number (rounded), if it is a number.
    #[inline]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::UInt(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// The value in the form in which it is a key: 0 for -0, and one NaN for all.
    #[inline]
    #[must_use]
    pub fn normalized(self) -> Self {
        match self {
            Self::Float(v) if v.is_nan() => Self::Float(f64::NAN),
            // The sum is 0 for -0, too.
            Self::Float(v) => Self::Float(v + 0.0),
            other => other,
        }
    }

    /// As a point in time, if it is one.
    pub fn as_moment(&self) -> Option<Moment> {
        match self {
            Self::Timestamp(moment) => Some(*moment),
            _ => None,
        }
    }

    /// As an event time, if it is a point in time or an integer of milliseconds.
    #[inline]
    pub fn as_event_time(&self) -> Option<Timestamp> {
        match self {
            Self::Timestamp(moment) => moment.timestamp(),
            other => other.as_int().and_then(Timestamp::from_stored),
        }
    }

    /// As text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::UInt(v) => v.fmt(f),
            Self::Float(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
            Self::Timestamp(v) => v.fmt(f),
        }
    }
}

/// A record: the values of its columns in order. Up to three of them need no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row(pub SmallVec<[Value; 3]>);

impl Row {
    /// A row without values, with room for `columns`.
    #[inline]
    pub fn with_capacity(columns: usize) -> Self {
        Self(SmallVec::with_capacity(columns))
    }

    /// Adds a value at the end.
    #[inline]
    pub fn push(&mut self, value: Value) {
        self.0.push(value);
    }

    /// The value of column `index`; null where there is no such column.
    #[inline]
    pub fn get(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&Value::Null)
    }

    /// Takes the value of column `index` out and leaves null.
    #[inline]
    pub fn take(&mut self, index: usize) -> Value {
        self.0.get_mut(index).map(std::mem::take).unwrap_or_default()
    }
}

impl FromIterator<Value> for Row {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compact() {
        assert_eq!(size_of::<Value>(), 24);
        assert!(size_of::<Row>() <= 80, "{}", size_of::<Row>());
    }

    #[test]
    fn numbers_convert_only_where_nothing_is_lost() {
        assert_eq!(Value::UInt(u64::MAX).as_int(), None);
        assert_eq!(Value::Int(-1).as_uint(), None);
        assert_eq!(Value::Int(7).as_uint(), Some(7));
        assert_eq!(Value::text("7").as_float(), None);
    }

    #[test]
    fn a_missing_column_reads_as_null() {
        let mut row: Row = [Value::Int(1), Value::text("a")].into_iter().collect();
        assert_eq!(row.take(1), Value::text("a"));
        assert!(row.get(1).is_null() && row.get(9).is_null());
    }
}
