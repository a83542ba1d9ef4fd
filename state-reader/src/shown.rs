//! Values for people and in JSON: with the names that their type has.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use strandline_state_api::schema::{DataType, NamedType};

use crate::Value;

/// A value with its type. It displays as a person reads it, and serializes as JSON has it: bytes in hexadecimal,
/// integers of 128 bits and beyond as text, variants as their name or as an object of their name.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'v> {
    value: &'v Value,
    data_type: &'v DataType,
}

impl<'v> Typed<'v> {
    /// Pairs a value with its type.
    pub fn new(value: &'v Value, data_type: &'v DataType) -> Self {
        Self { value, data_type }
    }

    fn inner(self) -> &'v DataType {
        match self.data_type {
            DataType::Option(of) => of,
            of => of,
        }
    }
}

/// The names of fields, where there are any.
fn fields(data_type: &DataType) -> Option<&[NamedType]> {
    match data_type {
        DataType::Struct(fields) => Some(fields),
        _ => None,
    }
}

fn part(data_type: &DataType, index: usize) -> &DataType {
    match data_type {
        DataType::Tuple(parts) => parts.get(index).unwrap_or(&DataType::Any),
        DataType::Struct(fields) => fields.get(index).map_or(&DataType::Any, |field| &field.data_type),
        DataType::List(of) => of,
        _ => &DataType::Any,
    }
}

struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.inner();
        let list = |f: &mut fmt::Formatter<'_>, values: &[Value], (open, close): (&str, &str)| {
            f.write_str(open)?;
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    f.write_str(", ")?;
                }
                if let Some(field) = fields(of).and_then(|fields| fields.get(index)) {
                    write!(f, "{}: ", field.name)?;
                }
                write!(f, "{}", Typed::new(value, part(of, index)))?;
            }
            f.write_str(close)
        };
        match self.value {
            Value::Null => f.write_str("null"),
            Value::Unit => f.write_str("()"),
            Value::Bool(v) => v.fmt(f),
            Value::Int(v) => v.fmt(f),
            Value::UInt(v) => v.fmt(f),
            Value::BigInt(v) => v.fmt(f),
            Value::BigUInt(v) => v.fmt(f),
            Value::Float(v) => v.fmt(f),
            Value::Char(v) => v.fmt(f),
            Value::Text(v) => f.write_str(v),
            Value::Bytes(v) => Hex(v).fmt(f),
            Value::Timestamp(nanos) => Moment(*nanos).fmt(f),
            Value::List(values) => list(f, values, ("[", "]")),
            Value::Record(values) => {
                list(f, values, if fields(of).is_some() { ("{", "}") } else { ("(", ")") })
            }
            Value::Map(entries) => {
                let (key_type, value_type) = match of {
                    DataType::Map(key, value) => (&**key, &**value),
                    _ => (&DataType::Any, &DataType::Any),
                };
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", Typed::new(key, key_type), Typed::new(value, value_type))?;
                }
                f.write_str("}")
            }
            Value::Variant(index, value) => match variant(of, *index) {
                Some(NamedType { name, data_type: DataType::Unit }) => f.write_str(name),
                Some(NamedType { name, data_type }) => write!(f, "{name}({})", Typed::new(value, data_type)),
                None => write!(f, "#{index}"),
            },
        }
    }
}

fn variant(data_type: &DataType, index: u32) -> Option<&NamedType> {
    match data_type {
        DataType::Enum(variants) => variants.get(index as usize),
        _ => None,
    }
}

impl Serialize for Typed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = self.inner();
        match self.value {
            Value::Null | Value::Unit => serializer.serialize_unit(),
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::Int(v) => serializer.serialize_i64(*v),
            Value::UInt(v) => serializer.serialize_u64(*v),
            Value::Float(v) if v.is_finite() => serializer.serialize_f64(*v),
            Value::BigInt(_)
            | Value::BigUInt(_)
            | Value::Float(_)
            | Value::Bytes(_)
            | Value::Timestamp(_) => serializer.collect_str(self),
            Value::Char(v) => serializer.serialize_char(*v),
            Value::Text(v) => serializer.serialize_str(v),
            Value::Record(values) if fields(of).is_some() => {
                let fields = fields(of).unwrap_or_default();
                serializer.collect_map(
                    fields
                        .iter()
                        .zip(values)
                        .map(|(field, value)| (&field.name, Typed::new(value, &field.data_type))),
                )
            }
            Value::List(values) | Value::Record(values) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for (index, value) in values.iter().enumerate() {
                    seq.serialize_element(&Typed::new(value, part(of, index)))?;
                }
                seq.end()
            }
            Value::Map(entries) => self.serialize_entries(entries, serializer),
            Value::Variant(index, value) => match variant(of, *index) {
                Some(NamedType { name, data_type: DataType::Unit }) => serializer.serialize_str(name),
                Some(NamedType { name, data_type }) => {
                    let mut map = serializer.serialize_map(Some(1))?;
                    map.serialize_entry(name, &Typed::new(value, data_type))?;
                    map.end()
                }
                None => serializer.serialize_u32(*index),
            },
        }
    }
}

impl Typed<'_> {
    /// A map with keys of text is an object, any other a list of pairs.
    fn serialize_entries<S: Serializer>(
        self,
        entries: &[(Value, Value)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let (key_type, value_type) = match self.inner() {
            DataType::Map(key, value) => (&**key, &**value),
            _ => (&DataType::Any, &DataType::Any),
        };
        if entries.iter().all(|(key, _)| matches!(key, Value::Text(_))) {
            return serializer.collect_map(
                entries.iter().map(|(key, value)| (Typed::new(key, key_type), Typed::new(value, value_type))),
            );
        }
        serializer.collect_seq(
            entries.iter().map(|(key, value)| (Typed::new(key, key_type), Typed::new(value, value_type))),
        )
    }
}

/// Nanoseconds since 1970 as RFC 3339 has them, in UTC.
struct Moment(i128);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01 in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date
        // Algorithms").
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i128::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos > 0 {
            write!(f, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}
