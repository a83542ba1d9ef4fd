//! Decoded values.

use strandline_state_api::schema::DataType;
use strandline_state_api::{Error, Result};

/// A decoded key or value; its [`DataType`] has the names of its parts.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// A value that is missing.
    #[default]
    Null,
    /// The value of [`DataType::Unit`].
    Unit,
    /// A truth value.
    Bool(bool),
    /// A signed integer of at most 64 bits.
    Int(i64),
    /// An unsigned integer of at most 64 bits.
    UInt(u64),
    /// A signed integer of 128 bits.
    BigInt(i128),
    /// An unsigned integer of 128 bits.
    BigUInt(u128),
    /// A floating-point number of 32 or 64 bits.
    Float(f64),
    /// A character.
    Char(char),
    /// Text.
    Text(String),
    /// Bytes; also whatever no decoder is known for.
    Bytes(Vec<u8>),
    /// A point in time, in nanoseconds since 1970.
    Timestamp(i128),
    /// The elements of a list.
    List(Vec<Self>),
    /// The entries of a map, in their stored order.
    Map(Vec<(Self, Self)>),
    /// The parts of a tuple or a struct, in the order of its type.
    Record(Vec<Self>),
    /// A variant of an enum by its position in the type, and what follows it.
    Variant(u32, Box<Self>),
}

impl Value {
    /// Returns the value as one of `data_type`: an integer of another width or sign that holds it, text for a
    /// character.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the type does not hold the value.
    pub fn into_type(self, data_type: &DataType) -> Result<Self> {
        let refused = |value: &Self| Error::invalid(format!("{value:?} is no {data_type}"));
        Ok(match (data_type, self) {
            (DataType::Option(_), Self::Null) => Self::Null,
            (DataType::Option(of), value) => value.into_type(of)?,
            (DataType::Any, value) => value,
            (DataType::Int { signed, bits }, value) => match value.integer() {
                Some(Ok(number)) => integer(*signed, *bits, number).ok_or_else(|| refused(&value))?,
                Some(Err(big)) if !signed && *bits == 128 => Self::BigUInt(big),
                _ => return Err(refused(&value)),
            },
            (DataType::Float { .. }, value) => match value.integer() {
                Some(Ok(number)) => Self::Float(number as f64),
                _ if matches!(value, Self::Float(_)) => value,
                _ => return Err(refused(&value)),
            },
            (DataType::Char, Self::Text(text)) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(only), None) => Self::Char(only),
                    _ => return Err(refused(&Self::Text(text))),
                }
            }
            (DataType::Tuple(parts), Self::Record(values)) if parts.len() == values.len() => {
                let each = values.into_iter().zip(parts).map(|(value, of)| value.into_type(of));
                Self::Record(each.collect::<Result<_>>()?)
            }
            (DataType::Struct(fields), Self::Record(values)) if fields.len() == values.len() => {
                let each = values.into_iter().zip(fields).map(|(value, of)| value.into_type(&of.data_type));
                Self::Record(each.collect::<Result<_>>()?)
            }
            // A key of one column is written as its value.
            (DataType::Struct(fields), value) if fields.len() == 1 && !matches!(value, Self::Record(_)) => {
                Self::Record(vec![value.into_type(&fields[0].data_type)?])
            }
            (DataType::List(of), Self::List(values)) => {
                Self::List(values.into_iter().map(|value| value.into_type(of)).collect::<Result<_>>()?)
            }
            (DataType::Bool, value @ Self::Bool(_))
            | (DataType::Char, value @ Self::Char(_))
            | (DataType::Text, value @ Self::Text(_))
            | (DataType::Bytes, value @ Self::Bytes(_))
            | (DataType::Unit, value @ Self::Unit)
            | (DataType::Timestamp, value @ Self::Timestamp(_))
            | (DataType::Map(..), value @ Self::Map(_))
            | (DataType::Enum(_), value @ Self::Variant(..)) => value,
            (_, value) => return Err(refused(&value)),
        })
    }

    /// Returns an integer; `Err` for one that only `u128` holds.
    fn integer(&self) -> Option<Result<i128, u128>> {
        match self {
            Self::Int(v) => Some(Ok((*v).into())),
            Self::UInt(v) => Some(Ok((*v).into())),
            Self::BigInt(v) => Some(Ok(*v)),
            Self::BigUInt(v) => Some(i128::try_from(*v).map_err(|_| *v)),
            _ => None,
        }
    }
}

/// Returns an integer as the value of a type, if the type holds it.
pub(crate) fn integer(signed: bool, bits: u8, number: i128) -> Option<Value> {
    if bits == 128 {
        return if signed { Some(Value::BigInt(number)) } else { number.try_into().ok().map(Value::BigUInt) };
    }
    let (least, greatest) = match signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1),
        false => (0, (1_i128 << bits) - 1),
    };
    if !(least..=greatest).contains(&number) {
        return None;
    }
    Some(if signed { Value::Int(number as i64) } else { Value::UInt(number as u64) })
}

/// Turns a value of an older form of a type into one of a newer form, where their names show how: fields that
/// both have, wider integers, and null for a new field that may be missing.
pub(crate) fn adapt(value: Value, from: &DataType, to: &DataType) -> Option<Value> {
    if from == to {
        return Some(value);
    }
    Some(match (from, to, value) {
        (DataType::Option(_), DataType::Option(_), Value::Null) => Value::Null,
        (DataType::Option(from), DataType::Option(to), value) => adapt(value, from, to)?,
        (from, DataType::Option(to), value) => adapt(value, from, to)?,
        (DataType::List(from), DataType::List(to), Value::List(values)) => {
            Value::List(values.into_iter().map(|value| adapt(value, from, to)).collect::<Option<_>>()?)
        }
        (DataType::Struct(from), DataType::Struct(to), Value::Record(values)) => {
            let mut values: Vec<Option<Value>> = values.into_iter().map(Some).collect();
            let field = |to: &strandline_state_api::schema::NamedType| match from
                .iter()
                .position(|field| field.name == to.name)
            {
                Some(index) => adapt(values.get_mut(index)?.take()?, &from[index].data_type, &to.data_type),
                None => matches!(to.data_type, DataType::Option(_)).then_some(Value::Null),
            };
            Value::Record(to.iter().map(field).collect::<Option<_>>()?)
        }
        (DataType::Int { .. }, DataType::Int { .. } | DataType::Float { .. }, value) => {
            value.into_type(to).ok()?
        }
        (DataType::Float { .. }, DataType::Float { bits: 64 }, value) => value,
        (DataType::Char, DataType::Text, Value::Char(c)) => Value::Text(c.into()),
        _ => return None,
    })
}
