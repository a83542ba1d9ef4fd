//! Types and values of state as types and arrays of Arrow.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal256Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, ListArray, MapArray, NullArray, StringArray, StructArray,
    TimestampNanosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, FieldRef, Fields, TimeUnit, i256};
use strandline_state_api::schema::{DataType, NamedType};
use strandline_state_api::{Error, Result};
use strandline_state_reader::{Typed, Value};

/// The digits of the greatest integer of 128 bits.
const DIGITS: u8 = 39;
/// The field of an enum that names its variant.
const VARIANT: &str = "variant";

/// Returns the Arrow type that holds the values of a type.
///
/// Integers of 128 bits are decimals without fraction. The fields of a tuple are `c0`, `c1` and so on. An enum is its
/// variant as text; where something follows a variant, it is a struct with the text as `variant` and a field for
/// each variant that something follows. A map whose keys are no text is a list of structs with `key` and `value`.
/// What describes itself is JSON.
pub(crate) fn arrow_type(of: &DataType) -> ArrowType {
    match of {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int { signed: true, bits: 8 } => ArrowType::Int8,
        DataType::Int { signed: true, bits: 16 } => ArrowType::Int16,
        DataType::Int { signed: true, bits: 32 } => ArrowType::Int32,
        DataType::Int { signed: true, bits: 64 } => ArrowType::Int64,
        DataType::Int { signed: false, bits: 8 } => ArrowType::UInt8,
        DataType::Int { signed: false, bits: 16 } => ArrowType::UInt16,
        DataType::Int { signed: false, bits: 32 } => ArrowType::UInt32,
        DataType::Int { signed: false, bits: 64 } => ArrowType::UInt64,
        DataType::Int { .. } => ArrowType::Decimal256(DIGITS, 0),
        DataType::Float { bits: 32 } => ArrowType::Float32,
        DataType::Float { .. } => ArrowType::Float64,
        DataType::Bytes => ArrowType::Binary,
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        DataType::Option(of) => arrow_type(of),
        DataType::List(of) => ArrowType::List(element(of)),
        DataType::Map(key, value) if is_map_key(key) => ArrowType::Map(entries(key, value), false),
        DataType::Map(key, value) => ArrowType::List(element(&pair(key, value))),
        DataType::Enum(variants) if !has_content(variants) => ArrowType::Utf8,
        DataType::Tuple(_) | DataType::Struct(_) | DataType::Enum(_) => {
            let fields = parts(of);
            if fields.is_empty() { ArrowType::Null } else { ArrowType::Struct(fields_of(&fields)) }
        }
        DataType::Unit => ArrowType::Null,
        // Char, Text, Any, and what is new.
        _ => ArrowType::Utf8,
    }
}

/// Returns the field of a column, which may be null: a value that is missing is.
pub(crate) fn field(name: &str, of: &DataType) -> Field {
    Field::new(name, arrow_type(of), true)
}

fn element(of: &DataType) -> FieldRef {
    Arc::new(field("item", of))
}

fn entries(key: &DataType, value: &DataType) -> FieldRef {
    let fields = vec![Field::new("key", arrow_type(key), false), field("value", value)];
    Arc::new(Field::new("entries", ArrowType::Struct(fields.into()), false))
}

fn pair(key: &DataType, value: &DataType) -> DataType {
    DataType::of_fields([("key", key.clone()), ("value", value.clone())])
}

/// Whether a map with such keys is one of Arrow: none may be missing, and only text is a key in JSON.
fn is_map_key(of: &DataType) -> bool {
    !matches!(of, DataType::Option(_)) && arrow_type(of) == ArrowType::Utf8
}

fn has_content(variants: &[NamedType]) -> bool {
    variants.iter().any(|variant| variant.data_type != DataType::Unit)
}

/// The names and types of the fields that a tuple, a struct or an enum has.
fn parts(of: &DataType) -> Vec<NamedType> {
    match of {
        DataType::Tuple(parts) => {
            parts.iter().zip(0..).map(|(of, n)| NamedType::new(format!("c{n}"), of.clone())).collect()
        }
        DataType::Struct(fields) => fields.clone(),
        DataType::Enum(variants) => {
            let mut name = VARIANT.to_owned();
            while variants.iter().any(|variant| variant.name == name) {
                name.push('_');
            }
            let with_content = variants.iter().filter(|variant| variant.data_type != DataType::Unit);
            std::iter::once(NamedType::new(name, DataType::Text)).chain(with_content.cloned()).collect()
        }
        _ => Vec::new(),
    }
}

fn fields_of(parts: &[NamedType]) -> Fields {
    parts.iter().map(|part| field(&part.name, &part.data_type)).collect()
}

/// Returns the array of some values of a type.
///
/// # Errors
/// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a point in time outside of the years 1677 to 2262, which
/// Arrow has no nanoseconds for, and for a value that is not of the type, as a decoder of a user's own may return.
pub(crate) fn array(of: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    macro_rules! integers {
        ($array:ty) => {
            Arc::new(<$array>::from(each(of, values, |value| match value {
                Value::Int(v) => (*v).try_into().ok(),
                Value::UInt(v) => (*v).try_into().ok(),
                _ => None,
            })?))
        };
    }
    Ok(match of {
        DataType::Option(of) => array(of, values)?,
        DataType::Bool => Arc::new(BooleanArray::from(each(of, values, |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })?)),
        DataType::Int { signed: true, bits: 8 } => integers!(Int8Array),
        DataType::Int { signed: true, bits: 16 } => integers!(Int16Array),
        DataType::Int { signed: true, bits: 32 } => integers!(Int32Array),
        DataType::Int { signed: true, bits: 64 } => integers!(Int64Array),
        DataType::Int { signed: false, bits: 8 } => integers!(UInt8Array),
        DataType::Int { signed: false, bits: 16 } => integers!(UInt16Array),
        DataType::Int { signed: false, bits: 32 } => integers!(UInt32Array),
        DataType::Int { signed: false, bits: 64 } => integers!(UInt64Array),
        DataType::Int { .. } => decimals(each(of, values, |value| match value {
            Value::Int(v) => Some(i256::from_i128((*v).into())),
            Value::UInt(v) => Some(i256::from_i128((*v).into())),
            Value::BigInt(v) => Some(i256::from_i128(*v)),
            Value::BigUInt(v) => Some(i256::from_parts(*v, 0)),
            _ => None,
        })?)?,
        DataType::Float { bits: 32 } => {
            Arc::new(Float32Array::from(each(of, values, |value| match value {
                Value::Float(v) => Some(*v as f32),
                _ => None,
            })?))
        }
        DataType::Float { .. } => Arc::new(Float64Array::from(each(of, values, |value| match value {
            Value::Float(v) => Some(*v),
            _ => None,
        })?)),
        DataType::Bytes => Arc::new(BinaryArray::from_iter(each(of, values, |value| match value {
            Value::Bytes(v) => Some(v),
            _ => None,
        })?)),
        DataType::Text => Arc::new(StringArray::from_iter(each(of, values, |value| match value {
            Value::Text(v) => Some(v),
            _ => None,
        })?)),
        DataType::Timestamp => {
            let nanos = each(of, values, |value| match value {
                Value::Timestamp(v) => i64::try_from(*v).ok(),
                _ => None,
            })?;
            Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"))
        }
        DataType::List(of) => lists(of, values)?,
        DataType::Map(key, value) => maps((key, value), values)?,
        DataType::Enum(variants) if !has_content(variants) => {
            Arc::new(StringArray::from_iter(each(of, values, |value| variant_name(variants, value))?))
        }
        DataType::Tuple(_) | DataType::Struct(_) | DataType::Enum(_) => structs(of, values)?,
        DataType::Unit => Arc::new(NullArray::new(values.len())),
        // A character, and what describes itself.
        _ => Arc::new(StringArray::from_iter(each(of, values, |value| match (of, value) {
            (DataType::Char, Value::Char(v)) => Some(v.to_string()),
            (DataType::Char, _) => None,
            _ => serde_json::to_string(&Typed::new(value, of)).ok(),
        })?)),
    })
}

/// Applies `map` to each value that is not missing.
fn each<'v, T>(
    of: &DataType,
    values: &[Option<&'v Value>],
    map: impl Fn(&'v Value) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    let one = |value: &Option<&'v Value>| match present(*value) {
        None => Ok(None),
        Some(value) => map(value).map(Some).ok_or_else(|| mismatch(of, value)),
    };
    values.iter().map(one).collect()
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !matches!(value, Value::Null))
}

#[cold]
fn mismatch(of: &DataType, value: &Value) -> Error {
    let shown = Typed::new(value, of);
    let found: String = format!("{value:?}").chars().take(200).collect();
    match (of, value) {
        (DataType::Timestamp, Value::Timestamp(_)) => Error::invalid(format!(
            "SQL has points in time of the years 1677 to 2262 only, and this is {shown}"
        )),
        _ => Error::invalid(format!("the decoder of a column of type {of} returned {found}")),
    }
}

#[cold]
fn malformed(error: datafusion::arrow::error::ArrowError) -> Error {
    Error::new(strandline_state_api::ErrorKind::Internal, "values do not make a column").caused_by(error)
}

fn decimals(values: Vec<Option<i256>>) -> Result<ArrayRef> {
    let array = Decimal256Array::from(values).with_precision_and_scale(DIGITS, 0);
    Ok(Arc::new(array.map_err(malformed)?))
}

fn variant_name<'t>(variants: &'t [NamedType], value: &Value) -> Option<&'t str> {
    let Value::Variant(index, _) = value else { return None };
    variants.get(usize::try_from(*index).ok()?).map(|variant| variant.name.as_str())
}

/// Which of the values are not missing.
fn nulls(values: &[Option<&Value>]) -> NullBuffer {
    values.iter().map(|value| present(*value).is_some()).collect::<Vec<bool>>().into()
}

fn structs(of: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let fields = parts(of);
    if fields.is_empty() {
        return Ok(Arc::new(NullArray::new(values.len())));
    }
    let mut columns = Vec::with_capacity(fields.len());
    if let DataType::Enum(variants) = of {
        let names = each(of, values, |value| variant_name(variants, value))?;
        columns.push(Arc::new(StringArray::from_iter(names)) as ArrayRef);
        for (variant, index) in
            variants.iter().zip(0..).filter(|(variant, _)| variant.data_type != DataType::Unit)
        {
            let content = values.iter().map(|value| match value {
                Some(Value::Variant(of, value)) if *of == index => Some(&**value),
                _ => None,
            });
            columns.push(array(&variant.data_type, &content.collect::<Vec<_>>())?);
        }
    } else {
        let records = each(of, values, |value| match value {
            Value::Record(values) if values.len() == fields.len() => Some(values),
            _ => None,
        })?;
        for (index, field) in fields.iter().enumerate() {
            let of_field: Vec<_> =
                records.iter().map(|record| record.and_then(|values| values.get(index))).collect();
            columns.push(array(&field.data_type, &of_field)?);
        }
    }
    let made = StructArray::try_new(fields_of(&fields), columns, Some(nulls(values)));
    Ok(Arc::new(made.map_err(malformed)?))
}

fn lists(of: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let list = DataType::List(Box::new(of.clone()));
    let rows = each(&list, values, |value| match value {
        Value::List(elements) => Some(elements.as_slice()),
        _ => None,
    })?;
    let flat: Vec<Option<&Value>> = rows.iter().flatten().copied().flatten().map(Some).collect();
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.map_or(0, <[Value]>::len)));
    let made = ListArray::try_new(element(of), offsets, array(of, &flat)?, Some(nulls(values)));
    Ok(Arc::new(made.map_err(malformed)?))
}

fn maps((key, value): (&DataType, &DataType), values: &[Option<&Value>]) -> Result<ArrayRef> {
    let map = DataType::Map(Box::new(key.clone()), Box::new(value.clone()));
    let rows = each(&map, values, |value| match value {
        Value::Map(entries) => Some(entries.as_slice()),
        _ => None,
    })?;
    let flat: Vec<&(Value, Value)> = rows.iter().flatten().copied().flatten().collect();
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.map_or(0, <[_]>::len)));
    let keys = array(key, &flat.iter().map(|(key, _)| Some(key)).collect::<Vec<_>>())?;
    let contents = array(value, &flat.iter().map(|(_, value)| Some(value)).collect::<Vec<_>>())?;
    if !is_map_key(key) {
        let pair = pair(key, value);
        let pairs =
            StructArray::try_new(fields_of(&parts(&pair)), vec![keys, contents], None).map_err(malformed)?;
        let made = ListArray::try_new(element(&pair), offsets, Arc::new(pairs), Some(nulls(values)));
        return Ok(Arc::new(made.map_err(malformed)?));
    }
    let field = entries(key, value);
    let ArrowType::Struct(fields) = field.data_type() else {
        return Err(Error::invalid("a map has no entries"));
    };
    let pairs = StructArray::try_new(fields.clone(), vec![keys, contents], None).map_err(malformed)?;
    let made = MapArray::try_new(field, offsets, pairs, Some(nulls(values)), false);
    Ok(Arc::new(made.map_err(malformed)?))
}
