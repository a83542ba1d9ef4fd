//! Keys, and numbers of fixed width: one part behind the other.

use strandline_state_api::encoding::{push_escaped, split_escaped};
use strandline_state_api::schema::{DataType, Encoding};
use strandline_state_api::{Error, Result};

use super::wrong;
use crate::Value;
use crate::value::integer;

/// The tags of values in keys of rows.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const BOOL: u8 = 1;
    pub(super) const INT: u8 = 2;
    pub(super) const UINT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const TEXT: u8 = 5;
    pub(super) const TIMESTAMP: u8 = 6;
}

/// Returns whether this module reads the encoding.
pub(super) fn is_columns(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Ordered | Encoding::BigEndian | Encoding::LittleEndian | Encoding::RowKey)
}

/// Returns whether values of a type can lie in an encoding.
pub(super) fn has_type(encoding: Encoding, data_type: &DataType) -> bool {
    match (encoding, data_type) {
        (Encoding::Ordered, DataType::Tuple(parts)) => parts.iter().all(|part| has_type(encoding, part)),
        (_, DataType::Struct(fields)) => fields.iter().all(|field| has_type(encoding, &field.data_type)),
        (
            Encoding::Ordered,
            DataType::Bool | DataType::Int { .. } | DataType::Text | DataType::Bytes | DataType::Unit,
        )
        | (Encoding::BigEndian, DataType::Int { .. })
        | (Encoding::LittleEndian, DataType::Int { .. } | DataType::Float { .. }) => true,
        (Encoding::RowKey, DataType::Option(of)) => {
            !matches!(**of, DataType::Struct(_) | DataType::Option(_)) && has_type(encoding, of)
        }
        (Encoding::RowKey, of) => {
            matches!(of, DataType::Bool | DataType::Text | DataType::Timestamp)
                || matches!(*of, DataType::U64 | DataType::I64 | DataType::F64)
        }
        _ => false,
    }
}

pub(super) fn decode(encoding: Encoding, data_type: &DataType, bytes: &[u8]) -> Result<Value> {
    let decoded = match encoding {
        Encoding::Ordered => last(data_type, bytes),
        encoding => match each(encoding, data_type, bytes) {
            Some((value, [])) => Some(value),
            _ => None,
        },
    };
    decoded.ok_or_else(|| wrong(bytes, data_type))
}

/// Returns the number of bytes that all encodings of a type have, if they have the same.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Bool => Some(1),
        DataType::Unit => Some(0),
        DataType::Int { bits, .. } => Some(usize::from(*bits) / 8),
        DataType::Tuple(parts) => parts.iter().map(width).sum(),
        DataType::Struct(fields) => fields.iter().map(|field| width(&field.data_type)).sum(),
        _ => None,
    }
}

/// Reads an ordered value that takes all of the bytes.
fn last(data_type: &DataType, bytes: &[u8]) -> Option<Value> {
    match data_type {
        DataType::Text => Some(Value::Text(std::str::from_utf8(bytes).ok()?.to_owned())),
        DataType::Bytes => Some(Value::Bytes(bytes.to_vec())),
        DataType::Unit => bytes.is_empty().then_some(Value::Unit),
        DataType::Bool => match bytes {
            [0] => Some(Value::Bool(false)),
            [1] => Some(Value::Bool(true)),
            _ => None,
        },
        DataType::Int { signed, bits } => {
            let number = big_endian(bytes, *bits)?;
            // The flipped sign bit makes negative numbers sort before positive ones.
            let flipped = if *signed { number ^ 1 << (bits - 1) } else { number };
            int(*signed, *bits, flipped)
        }
        DataType::Tuple(parts) => record(parts.iter(), bytes),
        DataType::Struct(fields) => record(fields.iter().map(|field| &field.data_type), bytes),
        _ => None,
    }
}

fn record<'t>(parts: impl ExactSizeIterator<Item = &'t DataType>, bytes: &[u8]) -> Option<Value> {
    let (mut values, mut rest) = (Vec::with_capacity(parts.len()), bytes);
    let count = parts.len();
    for (part, number) in parts.zip(1..) {
        if number == count {
            values.push(last(part, rest)?);
            return Some(Value::Record(values));
        }
        if let Some(width) = width(part) {
            let (front, more) = rest.split_at_checked(width)?;
            values.push(last(part, front)?);
            rest = more;
        } else {
            let (front, more) = split_escaped(rest)?;
            values.push(last(part, &front)?);
            rest = more;
        }
    }
    rest.is_empty().then_some(Value::Record(values))
}

/// Reads one value of the other encodings from the front.
fn each<'b>(encoding: Encoding, data_type: &DataType, bytes: &'b [u8]) -> Option<(Value, &'b [u8])> {
    match (encoding, data_type) {
        (_, DataType::Struct(fields)) => {
            let (mut values, mut rest) = (Vec::with_capacity(fields.len()), bytes);
            for field in fields {
                let (value, more) = each(encoding, &field.data_type, rest)?;
                values.push(value);
                rest = more;
            }
            Some((Value::Record(values), rest))
        }
        (Encoding::RowKey, of) => {
            let (value, rest) = cell(bytes)?;
            Some((value.into_type(of).ok()?, rest))
        }
        (Encoding::LittleEndian, DataType::Float { bits: 32 }) => {
            let (front, rest) = bytes.split_first_chunk()?;
            Some((Value::Float(f32::from_le_bytes(*front).into()), rest))
        }
        (Encoding::LittleEndian, DataType::Float { .. }) => {
            let (front, rest) = bytes.split_first_chunk()?;
            Some((Value::Float(f64::from_le_bytes(*front)), rest))
        }
        (encoding, DataType::Int { signed, bits }) => {
            let (front, rest) = bytes.split_at_checked(usize::from(*bits) / 8)?;
            let number = match encoding {
                Encoding::LittleEndian => {
                    let mut padded = [0; 16];
                    padded[..front.len()].copy_from_slice(front);
                    u128::from_le_bytes(padded)
                }
                _ => big_endian(front, *bits)?,
            };
            Some((int(*signed, *bits, number)?, rest))
        }
        _ => None,
    }
}

fn big_endian(bytes: &[u8], bits: u8) -> Option<u128> {
    let width = usize::from(bits) / 8;
    if bytes.len() != width || width > 16 {
        return None;
    }
    let mut padded = [0; 16];
    padded[16 - width..].copy_from_slice(bytes);
    Some(u128::from_be_bytes(padded))
}

/// Returns the integer with these bits.
fn int(signed: bool, bits: u8, number: u128) -> Option<Value> {
    if bits == 128 {
        return Some(if signed { Value::BigInt(number as i128) } else { Value::BigUInt(number) });
    }
    let extended = if signed { (number << (128 - bits)) as i128 >> (128 - bits) } else { number as i128 };
    integer(signed, bits, extended)
}

/// Reads a column of a key of a row.
fn cell(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let number = || rest.split_first_chunk::<8>().map(|(front, rest)| (u64::from_be_bytes(*front), rest));
    Some(match *tag {
        tag::NULL => (Value::Null, rest),
        tag::BOOL => match rest {
            [0, rest @ ..] => (Value::Bool(false), rest),
            [1, rest @ ..] => (Value::Bool(true), rest),
            _ => return None,
        },
        tag::INT => number().map(|(bits, rest)| (Value::Int(bits as i64 ^ i64::MIN), rest))?,
        tag::UINT => number().map(|(bits, rest)| (Value::UInt(bits), rest))?,
        tag::FLOAT => number().map(|(bits, rest)| {
            let bits = if bits >> 63 == 1 { bits ^ 1 << 63 } else { !bits };
            (Value::Float(f64::from_bits(bits)), rest)
        })?,
        tag::TEXT => {
            let (text, rest) = split_escaped(rest)?;
            (Value::Text(String::from_utf8(text).ok()?), rest)
        }
        tag::TIMESTAMP => {
            let (front, rest) = rest.split_first_chunk::<16>()?;
            (Value::Timestamp(i128::from_be_bytes(*front) ^ i128::MIN), rest)
        }
        _ => return None,
    })
}

/// Encodes a value that has the type.
pub(super) fn encode(encoding: Encoding, data_type: &DataType, value: &Value) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let pushed = match encoding {
        Encoding::Ordered => push_last(data_type, value, &mut out),
        encoding => push_each(encoding, data_type, value, &mut out),
    };
    pushed.map(|()| out).ok_or_else(|| Error::invalid(format!("{value:?} is no {data_type}")))
}

/// The bits of an integer in two's complement, as many as the type has.
fn bits_of(value: &Value) -> Option<u128> {
    Some(match value {
        Value::Int(v) => i128::from(*v) as u128,
        Value::UInt(v) => u128::from(*v),
        Value::BigInt(v) => *v as u128,
        Value::BigUInt(v) => *v,
        _ => return None,
    })
}

fn push_last(data_type: &DataType, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match (data_type, value) {
        (DataType::Text, Value::Text(text)) => out.extend_from_slice(text.as_bytes()),
        (DataType::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (DataType::Unit, Value::Unit) => {}
        (DataType::Bool, Value::Bool(v)) => out.push(u8::from(*v)),
        (DataType::Int { signed, bits }, value) => {
            let flip = if *signed { 1 << (bits - 1) } else { 0 };
            let bytes = (bits_of(value)? ^ flip).to_be_bytes();
            out.extend_from_slice(&bytes[16 - usize::from(*bits) / 8..]);
        }
        (DataType::Tuple(parts), Value::Record(values)) => push_record(parts.iter(), values, out)?,
        (DataType::Struct(fields), Value::Record(values)) => {
            push_record(fields.iter().map(|field| &field.data_type), values, out)?;
        }
        _ => return None,
    }
    Some(())
}

fn push_record<'t>(
    parts: impl ExactSizeIterator<Item = &'t DataType>,
    values: &[Value],
    out: &mut Vec<u8>,
) -> Option<()> {
    let count = parts.len();
    for ((part, value), number) in parts.zip(values).zip(1..) {
        if number == count || width(part).is_some() {
            push_last(part, value, out)?;
        } else {
            let mut plain = Vec::new();
            push_last(part, value, &mut plain)?;
            push_escaped(&plain, out);
        }
    }
    Some(())
}

fn push_each(encoding: Encoding, data_type: &DataType, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match (encoding, data_type, value) {
        (_, DataType::Struct(fields), Value::Record(values)) => {
            let mut each = fields.iter().zip(values);
            each.try_for_each(|(field, value)| push_each(encoding, &field.data_type, value, out))?;
        }
        (Encoding::RowKey, _, value) => push_cell(value, out)?,
        (Encoding::LittleEndian, DataType::Float { bits: 32 }, Value::Float(v)) => {
            out.extend_from_slice(&(*v as f32).to_le_bytes());
        }
        (Encoding::LittleEndian, DataType::Float { .. }, Value::Float(v)) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        (Encoding::LittleEndian, DataType::Int { bits, .. }, value) => {
            out.extend_from_slice(&bits_of(value)?.to_le_bytes()[..usize::from(*bits) / 8]);
        }
        (Encoding::BigEndian, DataType::Int { bits, .. }, value) => {
            out.extend_from_slice(&bits_of(value)?.to_be_bytes()[16 - usize::from(*bits) / 8..]);
        }
        _ => return None,
    }
    Some(())
}

fn push_cell(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    let mut number = |tag: u8, bits: u64| {
        out.push(tag);
        out.extend_from_slice(&bits.to_be_bytes());
    };
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(v) => out.extend_from_slice(&[tag::BOOL, u8::from(*v)]),
        Value::Int(v) => number(tag::INT, (*v ^ i64::MIN) as u64),
        Value::UInt(v) => number(tag::UINT, *v),
        Value::Float(v) => {
            // All zeros are one key, and all values that are no number.
            let bits = if *v == 0.0 { 0 } else { if v.is_nan() { f64::NAN } else { *v }.to_bits() };
            number(tag::FLOAT, if bits >> 63 == 1 { !bits } else { bits ^ 1 << 63 });
        }
        Value::Text(text) => {
            out.push(tag::TEXT);
            push_escaped(text.as_bytes(), out);
        }
        Value::Timestamp(nanos) => {
            out.push(tag::TIMESTAMP);
            out.extend_from_slice(&(nanos ^ i128::MIN).to_be_bytes());
        }
        _ => return None,
    }
    Some(())
}
