//! Keys as people write them.

use serde_json::Value as Json;
use strandline_state_api::schema::{DataType, NamedType};
use strandline_state_api::{Error, Result};

use crate::Value;

impl Value {
    /// Reads a key that a person wrote: text as it is, numbers and truth values as usual, bytes in hexadecimal
    /// (`0x…`), tuples and structs as JSON (`["a",7]`, `{"bank":7}`), a struct of one field also as its value.
    ///
    /// ```
    /// use strandline_state_api::schema::DataType;
    /// use strandline_state_reader::Value;
    ///
    /// assert_eq!(Value::parse("ada", &DataType::Text)?, Value::Text("ada".into()));
    /// let key: DataType = "{bank:u32,number:str}".parse()?;
    /// let expected = Value::Record(vec![Value::UInt(7), Value::Text("12".into())]);
    /// assert_eq!(Value::parse(r#"{"number": "12", "bank": 7}"#, &key)?, expected);
    /// # Ok::<(), strandline_state_api::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the text is no value of the type.
    pub fn parse(text: &str, data_type: &DataType) -> Result<Self> {
        let value = match data_type {
            DataType::Text => Some(Self::Text(text.to_owned())),
            DataType::Struct(fields) if fields.len() == 1 && !text.trim_start().starts_with(['{', '[']) => {
                Some(Self::Record(vec![Self::parse(text, &fields[0].data_type)?]))
            }
            DataType::Option(of) if text != "null" => Some(Self::parse(text, of)?),
            DataType::Struct(_) | DataType::Tuple(_) | DataType::List(_) | DataType::Option(_) => {
                serde_json::from_str(text).ok().and_then(|json| of_json(&json, data_type))
            }
            _ => of_text(text, data_type),
        };
        value.ok_or_else(|| {
            let hint = match data_type {
                DataType::Struct(_) | DataType::Tuple(_) => {
                    "; write it as JSON, with the parts in their order or by name"
                }
                DataType::Bytes => "; write the bytes in hexadecimal, as 0x00ff",
                _ => "",
            };
            Error::invalid(format!("{text:?} is no {data_type}{hint}"))
        })
    }
}

/// Reads a value that has no parts.
fn of_text(text: &str, data_type: &DataType) -> Option<Value> {
    let number = |value: Value| value.into_type(data_type).ok();
    match data_type {
        DataType::Int { signed: false, bits: 128 } => text.parse().ok().map(Value::BigUInt),
        DataType::Int { .. } => number(Value::BigInt(text.parse().ok()?)),
        DataType::Timestamp => text.parse().ok().map(Value::Timestamp),
        DataType::Float { .. } => text.parse().ok().map(Value::Float),
        DataType::Bool => text.parse().ok().map(Value::Bool),
        DataType::Char | DataType::Text => Value::Text(text.to_owned()).into_type(data_type).ok(),
        DataType::Unit => matches!(text, "" | "()").then_some(Value::Unit),
        DataType::Bytes => bytes(text.strip_prefix("0x")?).map(Value::Bytes),
        _ => None,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}

fn of_json(json: &Json, data_type: &DataType) -> Option<Value> {
    let all = |values: &[Json], types: &[&DataType]| {
        if values.len() != types.len() {
            return None;
        }
        let each = values.iter().zip(types).map(|(json, of)| of_json(json, of));
        each.collect::<Option<_>>().map(Value::Record)
    };
    match (data_type, json) {
        (DataType::Option(_), Json::Null) => Some(Value::Null),
        (DataType::Option(of), json) => of_json(json, of),
        (DataType::Struct(fields), Json::Object(object)) => {
            let known = |name: &String| fields.iter().any(|field| field.name == *name);
            if !object.keys().all(known) {
                return None;
            }
            let field = |field: &NamedType| of_json(object.get(&field.name)?, &field.data_type);
            fields.iter().map(field).collect::<Option<_>>().map(Value::Record)
        }
        (DataType::Struct(fields), Json::Array(values)) => {
            all(values, &fields.iter().map(|field| &field.data_type).collect::<Vec<_>>())
        }
        (DataType::Tuple(parts), Json::Array(values)) => all(values, &parts.iter().collect::<Vec<_>>()),
        (DataType::List(of), Json::Array(values)) => {
            values.iter().map(|json| of_json(json, of)).collect::<Option<_>>().map(Value::List)
        }
        (DataType::Unit, Json::Null) => Some(Value::Unit),
        (of, Json::String(text)) => of_text(text, of),
        (
            of @ (DataType::Int { .. } | DataType::Float { .. } | DataType::Timestamp),
            Json::Number(number),
        ) => of_text(&number.to_string(), of),
        (DataType::Bool, Json::Bool(value)) => Some(Value::Bool(*value)),
        _ => None,
    }
}
