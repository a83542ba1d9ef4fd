//! JSON lines.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use strandline_state_api::{Batch, Result};

use super::{BadRecord, Decode, FileFormat, Framing};
use crate::row::{Column, ColumnType, Row, Value};

/// Files with one JSON object on each line: each is a row of the wanted columns.
///
/// A missing or null member is null where the column is nullable, and an error otherwise. Members that are no
/// column are left out, and so are blank lines. An integer is accepted for a float, not the reverse.
#[derive(Clone, Debug)]
pub struct JsonLines {
    columns: Vec<Column>,
}

impl JsonLines {
    /// Files whose objects have (at least) these members.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns }
    }
}

impl FileFormat for JsonLines {
    type Record = Row;
    type Decoder = Self;

    fn layout(&self) -> String {
        "JSON lines".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

impl Decode<Row> for JsonLines {
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let current = Cell::new(None);
        let seed = RowSeed { columns: &self.columns, current: &current };
        let row = seed.deserialize(&mut json).and_then(|row| json.end().map(|()| row));
        let row = row.map_err(|e| {
            let bad = BadRecord::new(format!("expected a JSON object: {}", without_line(&e)));
            match current.get().and_then(|index: usize| self.columns.get(index)) {
                Some(column) => bad.in_column(&column.name),
                None => bad,
            }
        })?;
        for (i, column) in self.columns.iter().enumerate() {
            if row.get(i).is_null() && !column.nullable {
                let reason = format!(
                    "expected {}, found none; declare it nullable if values may be missing",
                    column.kind
                );
                return Err(BadRecord::new(reason).in_column(&column.name));
            }
        }
        output.push(row, None);
        Ok(())
    }
}

/// The message without its line, which is always 1 here.
fn without_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((text, _)) => format!("{text} at column {}", error.column()),
        None => message,
    }
}

struct RowSeed<'a> {
    columns: &'a [Column],
    /// The column whose value is being read.
    current: &'a Cell<Option<usize>>,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Row, M::Error> {
        let mut row: Row = self.columns.iter().map(|_| Value::Null).collect();
        while let Some(member) = map.next_key_seed(MemberSeed(self.columns))? {
            let known = member.and_then(|i| self.columns.get(i).map(|column| (i, column)));
            let Some((index, column)) = known else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.current.set(Some(index));
            let value = map.next_value_seed(ValueSeed(column))?;
            self.current.set(None);
            if let Some(slot) = row.0.get_mut(index) {
                *slot = value;
            }
        }
        Ok(row)
    }
}

/// The name of a member, as the index of its column.
struct MemberSeed<'a>(&'a [Column]);

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|column| column.name == name))
    }
}

struct ValueSeed<'a>(&'a Column);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ValueSeed<'_> {
    /// Returns the value where the column's type accepts it, and otherwise an error that names `found`.
    fn checked<E: serde::de::Error>(
        &self,
        value: Option<Value>,
        found: serde::de::Unexpected<'_>,
    ) -> Result<Value, E> {
        value.ok_or_else(|| E::invalid_type(found, self))
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in column {:?}", self.0.kind, self.0.name)
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        let value = (self.0.kind == ColumnType::Bool).then_some(Value::Bool(v));
        self.checked(value, serde::de::Unexpected::Bool(v))
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        let value = match self.0.kind {
            ColumnType::Int => Some(Value::Int(v)),
            ColumnType::UInt => u64::try_from(v).ok().map(Value::UInt),
            ColumnType::Float => Some(Value::Float(v as f64)),
            ColumnType::Bool | ColumnType::Text => None,
        };
        self.checked(value, serde::de::Unexpected::Signed(v))
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        let value = match self.0.kind {
            ColumnType::Int => i64::try_from(v).ok().map(Value::Int),
            ColumnType::UInt => Some(Value::UInt(v)),
            ColumnType::Float => Some(Value::Float(v as f64)),
            ColumnType::Bool | ColumnType::Text => None,
        };
        self.checked(value, serde::de::Unexpected::Unsigned(v))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        let value = (self.0.kind == ColumnType::Float).then_some(Value::Float(v));
        self.checked(value, serde::de::Unexpected::Float(v))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        let value = (self.0.kind == ColumnType::Text).then(|| Value::text(v));
        self.checked(value, serde::de::Unexpected::Str(v))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<M: MapAccess<'de>>(self, _: M) -> Result<Value, M::Error> {
        Err(M::Error::invalid_type(serde::de::Unexpected::Map, &self))
    }

    fn visit_seq<S: serde::de::SeqAccess<'de>>(self, _: S) -> Result<Value, S::Error> {
        Err(S::Error::invalid_type(serde::de::Unexpected::Seq, &self))
    }
}
