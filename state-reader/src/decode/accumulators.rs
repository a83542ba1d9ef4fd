//! Accumulators of columns: what the groups of job files keep.

use std::sync::LazyLock;

use strandline_state_api::Result;
use strandline_state_api::schema::{DataType, NamedType};

use super::{wire, wrong};
use crate::Value;

/// The values that an accumulator may be.
static SLOTS: LazyLock<DataType> = LazyLock::new(|| {
    let wide = DataType::Tuple(vec![DataType::I64, DataType::U64]);
    let variants = [
        ("Null", DataType::Unit),
        ("Bool", DataType::Bool),
        ("Int", DataType::I64),
        ("UInt", DataType::U64),
        ("Float", DataType::F64),
        ("Text", DataType::Text),
        ("Wide", wide),
        ("Timestamp", DataType::Timestamp),
    ];
    let variants = variants.into_iter().map(|(name, of)| NamedType::new(name, of)).collect();
    DataType::List(Box::new(DataType::Enum(variants)))
});

pub(super) fn decode(data_type: &DataType, bytes: &[u8]) -> Result<Value> {
    let Value::List(slots) = wire::postcard(&SLOTS, bytes)? else { return Err(wrong(bytes, data_type)) };
    let mut slots = slots.into_iter();
    let value = take(data_type, &mut slots).filter(|_| slots.len() == 0);
    value.ok_or_else(|| wrong(bytes, data_type))
}

fn take(data_type: &DataType, slots: &mut impl Iterator<Item = Value>) -> Option<Value> {
    if let DataType::Struct(fields) = data_type {
        let values = fields.iter().map(|field| take(&field.data_type, slots)).collect::<Option<_>>()?;
        return Some(Value::Record(values));
    }
    let value = match slots.next()? {
        Value::Variant(0, _) => Value::Null,
        Value::Variant(6, wide) => {
            let Value::Record(halves) = *wide else { return None };
            let [Value::Int(high), Value::UInt(low)] = halves[..] else { return None };
            Value::BigInt(i128::from(high) << 64 | i128::from(low))
        }
        Value::Variant(_, value) => *value,
        _ => return None,
    };
    value.into_type(data_type).ok()
}
