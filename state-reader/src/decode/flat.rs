//! Values without parts, and structs of them, decoded without a [`Value`](crate::Value): a scan into columns needs no
//! allocation for each.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use strandline_state_api::schema::{DataType, Encoding};

use crate::Value;

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A value that is missing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer of at most 64 bits.
    Int(i64),
    /// An unsigned integer of at most 64 bits.
    UInt(u64),
    /// A floating-point number.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl<'a> Scalar<'a> {
    /// Returns the scalar that a value is, if it is one.
    pub fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(v) => Self::Bool(*v),
            Value::Int(v) => Self::Int(*v),
            Value::UInt(v) => Self::UInt(*v),
            Value::Float(v) => Self::Float(*v),
            Value::Text(v) => Self::Text(v),
            Value::Bytes(v) => Self::Bytes(v),
            _ => return None,
        })
    }
}

/// Returns whether [`decode`] reads values of a type in an encoding.
pub(super) fn is_flat(encoding: Encoding, data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| is_scalar(encoding, &field.data_type, false))
        }
        of => is_scalar(encoding, of, true),
    }
}

fn is_scalar(encoding: Encoding, of: &DataType, alone: bool) -> bool {
    let is_int = matches!(of, DataType::Int { bits: 8 | 16 | 32 | 64, .. });
    match encoding {
        Encoding::BigEndian => is_int,
        Encoding::LittleEndian => is_int || matches!(of, DataType::Float { .. }),
        // Text within a tuple is escaped.
        Encoding::Ordered => is_int || *of == DataType::Bool || (alone && *of == DataType::Text),
        Encoding::Postcard => match of {
            DataType::Option(of) => !matches!(**of, DataType::Option(_)) && is_scalar(encoding, of, alone),
            of => {
                is_int
                    || matches!(
                        of,
                        DataType::Bool | DataType::Float { .. } | DataType::Text | DataType::Bytes
                    )
            }
        },
        _ => false,
    }
}

/// Visits the fields of a struct, or the one value, with their positions. `None` when the bytes are no value of the
/// type, or none that is read here; some fields were visited then.
#[inline]
pub(super) fn decode<'b>(
    encoding: Encoding,
    data_type: &DataType,
    bytes: &'b [u8],
    mut visit: impl FnMut(usize, Scalar<'b>),
) -> Option<()> {
    if encoding == Encoding::Postcard {
        let mut deserializer = ::postcard::Deserializer::from_bytes(bytes);
        match data_type {
            DataType::Struct(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    visit(index, postcard(&field.data_type, &mut deserializer)?);
                }
            }
            of => visit(0, postcard(of, &mut deserializer)?),
        }
        return deserializer.finalize().ok()?.is_empty().then_some(());
    }
    let mut rest = bytes;
    match data_type {
        DataType::Struct(fields) => {
            for (index, field) in fields.iter().enumerate() {
                let (scalar, more) = fixed(encoding, &field.data_type, rest)?;
                visit(index, scalar);
                rest = more;
            }
        }
        DataType::Text => {
            visit(0, Scalar::Text(std::str::from_utf8(bytes).ok()?));
            rest = &[];
        }
        of => {
            let (scalar, more) = fixed(encoding, of, rest)?;
            visit(0, scalar);
            rest = more;
        }
    }
    rest.is_empty().then_some(())
}

type Bytes<'b> = ::postcard::Deserializer<'b, ::postcard::de_flavors::Slice<'b>>;

fn postcard<'b>(of: &DataType, from: &mut Bytes<'b>) -> Option<Scalar<'b>> {
    fn next<'b, T: Deserialize<'b>>(from: &mut Bytes<'b>) -> Option<T> {
        T::deserialize(from).ok()
    }
    fn signed<T: DeserializeOwned + Into<i64>>(from: &mut Bytes<'_>) -> Option<Scalar<'static>> {
        next::<T>(from).map(|number| Scalar::Int(number.into()))
    }
    fn unsigned<T: DeserializeOwned + Into<u64>>(from: &mut Bytes<'_>) -> Option<Scalar<'static>> {
        next::<T>(from).map(|number| Scalar::UInt(number.into()))
    }
    match of {
        DataType::Bool => next(from).map(Scalar::Bool),
        DataType::Int { signed: true, bits } => match bits {
            8 => signed::<i8>(from),
            16 => signed::<i16>(from),
            32 => signed::<i32>(from),
            _ => signed::<i64>(from),
        },
        DataType::Int { signed: false, bits } => match bits {
            8 => unsigned::<u8>(from),
            16 => unsigned::<u16>(from),
            32 => unsigned::<u32>(from),
            _ => unsigned::<u64>(from),
        },
        DataType::Float { bits: 32 } => next::<f32>(from).map(|number| Scalar::Float(number.into())),
        DataType::Float { .. } => next(from).map(Scalar::Float),
        DataType::Text => next(from).map(Scalar::Text),
        DataType::Bytes => next(from).map(Scalar::Bytes),
        // An option begins with a byte, as a number of 8 bits does.
        DataType::Option(of) => match next::<u8>(from)? {
            0 => Some(Scalar::Null),
            1 => postcard(of, from),
            _ => None,
        },
        _ => None,
    }
}

/// Reads one number or truth value of fixed width from the front.
#[inline(always)]
fn fixed<'b>(encoding: Encoding, of: &DataType, bytes: &'b [u8]) -> Option<(Scalar<'b>, &'b [u8])> {
    /// Reads an integer of one width.
    macro_rules! integer {
        ($unsigned:ty, $signed:ty, $is_signed:expr) => {{
            let (front, rest) = bytes.split_first_chunk()?;
            let number = match encoding {
                Encoding::LittleEndian => <$unsigned>::from_le_bytes(*front),
                _ => <$unsigned>::from_be_bytes(*front),
            };
            let scalar = match $is_signed {
                // The flipped sign bit makes negative numbers sort before positive ones.
                true if encoding == Encoding::Ordered => {
                    Scalar::Int((number as $signed ^ <$signed>::MIN).into())
                }
                true => Scalar::Int((number as $signed).into()),
                false => Scalar::UInt(number.into()),
            };
            (scalar, rest)
        }};
    }
    Some(match of {
        DataType::Int { signed, bits: 64 } => integer!(u64, i64, *signed),
        DataType::Int { signed, bits: 32 } => integer!(u32, i32, *signed),
        DataType::Int { signed, bits: 16 } => integer!(u16, i16, *signed),
        DataType::Int { signed, bits: 8 } => integer!(u8, i8, *signed),
        DataType::Bool => {
            let (front, rest) = bytes.split_first()?;
            (Scalar::Bool(truth(*front)?), rest)
        }
        DataType::Float { bits: 32 } => {
            let (front, rest) = bytes.split_first_chunk()?;
            (Scalar::Float(f32::from_le_bytes(*front).into()), rest)
        }
        DataType::Float { .. } => {
            let (front, rest) = bytes.split_first_chunk()?;
            (Scalar::Float(f64::from_le_bytes(*front)), rest)
        }
        _ => return None,
    })
}

fn truth(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
