//! Values as the types that a `CREATE TABLE` declares.

use strandline_state_api::schema::DataType;
use strandline_state_api::{Error, Result};
use strandline_state_reader::{Typed, Value};

/// The least integer that 64-bit floating-point numbers do not hold, less one: all below it, they hold.
const EXACT: i128 = 1 << 53;

/// Returns a value as one of a declared type: the only field of a struct for the struct, an integer of another width
/// that holds it, and anything as text.
///
/// # Errors
/// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the type does not hold the value: nothing is wrapped,
/// rounded or left out.
pub(crate) fn convert(value: Value, from: &DataType, to: &DataType) -> Result<Value> {
    match (value, from, to) {
        (Value::Null, ..) => Ok(Value::Null),
        (value, DataType::Option(from), to) => convert(value, from, to),
        (Value::Record(mut values), DataType::Struct(fields), to)
            if fields.len() == 1 && values.len() == 1 =>
        {
            convert(values.remove(0), &fields[0].data_type, to)
        }
        (value @ Value::Text(_), _, DataType::Text) => Ok(value),
        (value, from, DataType::Text) => Ok(Value::Text(text(&value, from))),
        (Value::Float(number), _, DataType::Float { bits: 32 }) if is_rounded(number) => {
            Err(refused(&Value::Float(number), from, to))
        }
        (value, from, DataType::Float { .. })
            if integer(&value).is_some_and(|number| number.abs() > EXACT) =>
        {
            Err(refused(&value, from, to))
        }
        (value, from, to) => {
            let converted = value.clone().into_type(to);
            converted.map_err(|_| refused(&value, from, to))
        }
    }
}

fn is_rounded(number: f64) -> bool {
    !number.is_nan() && f64::from(number as f32) != number
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(v) => Some((*v).into()),
        Value::UInt(v) => Some((*v).into()),
        Value::BigInt(v) => Some(*v),
        Value::BigUInt(v) => Some(i128::try_from(*v).unwrap_or(i128::MAX)),
        _ => None,
    }
}

fn text(value: &Value, of: &DataType) -> String {
    let shown = Typed::new(value, of);
    match value {
        Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Variant(..) => {
            serde_json::to_string(&shown).unwrap_or_else(|_| shown.to_string())
        }
        _ => shown.to_string(),
    }
}

#[cold]
fn refused(value: &Value, from: &DataType, to: &DataType) -> Error {
    let shown: String = Typed::new(value, from).to_string().chars().take(200).collect();
    Error::invalid(format!("the declared type {to} does not hold {shown}, of type {from}"))
}
