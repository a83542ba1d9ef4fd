//! Postcard and MessagePack, by the libraries that write them.

use std::fmt;

use serde::Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use strandline_state_api::Result;
use strandline_state_api::schema::{DataType, NamedType};

use super::{Budget, too_many_parts, wrong};
use crate::Value;
use crate::value::integer;

/// The most levels of a value in MessagePack.
const MAX_DEPTH: usize = 128;

/// Decodes a value in the Postcard wire format.
pub(super) fn postcard(data_type: &DataType, bytes: &[u8]) -> Result<Value> {
    let budget = Budget::new();
    let mut deserializer = ::postcard::Deserializer::from_bytes(bytes);
    let seed = Seed { data_type, budget: &budget, named: false };
    let decoded = seed.deserialize(&mut deserializer).and_then(|value| match deserializer.finalize()? {
        [] => Ok(value),
        _ => Err(::postcard::Error::SerdeDeCustom),
    });
    decoded.map_err(|error| failed(data_type, bytes, &budget, error))
}

/// Decodes a value in MessagePack.
pub(super) fn message_pack(data_type: &DataType, bytes: &[u8]) -> Result<Value> {
    let budget = Budget::new();
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(MAX_DEPTH);
    let seed = Seed { data_type, budget: &budget, named: true };
    let value =
        seed.deserialize(&mut deserializer).map_err(|error| failed(data_type, bytes, &budget, error))?;
    if rest.is_empty() { Ok(value) } else { Err(wrong(bytes, data_type)) }
}

#[cold]
fn failed(
    data_type: &DataType,
    bytes: &[u8],
    budget: &Budget,
    error: impl std::error::Error + Send + Sync + 'static,
) -> strandline_state_api::Error {
    if budget.is_spent() { too_many_parts() } else { wrong(bytes, data_type).caused_by(error) }
}

/// Returns whether values of a type can be read where nothing has a name.
pub(super) fn is_positional(data_type: &DataType) -> bool {
    let all = |named: &[NamedType]| named.iter().all(|named| is_positional(&named.data_type));
    match data_type {
        DataType::Any => false,
        DataType::Option(of) | DataType::List(of) => is_positional(of),
        DataType::Map(key, value) => is_positional(key) && is_positional(value),
        DataType::Tuple(parts) => parts.iter().all(is_positional),
        DataType::Struct(named) | DataType::Enum(named) => all(named),
        _ => true,
    }
}

/// Deserializes a value of a type.
#[derive(Clone, Copy)]
struct Seed<'t> {
    data_type: &'t DataType,
    budget: &'t Budget,
    /// Whether structs have the names of their fields, and variants their names.
    named: bool,
}

impl<'t> Seed<'t> {
    fn of(self, data_type: &'t DataType) -> Self {
        Self { data_type, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if !self.budget.take() {
            return Err(D::Error::custom("too many parts"));
        }
        match self.data_type {
            DataType::Option(_) => deserializer.deserialize_option(self),
            DataType::Enum(_) => deserializer.deserialize_enum("", &[], self),
            DataType::Int { bits: 128, signed: true } => deserializer.deserialize_i128(self),
            DataType::Int { bits: 128, signed: false } => deserializer.deserialize_u128(self),
            // MessagePack names the type of everything else.
            _ if self.named => deserializer.deserialize_any(self),
            DataType::Bool => deserializer.deserialize_bool(self),
            DataType::Int { signed: true, bits } => match bits {
                8 => deserializer.deserialize_i8(self),
                16 => deserializer.deserialize_i16(self),
                32 => deserializer.deserialize_i32(self),
                _ => deserializer.deserialize_i64(self),
            },
            DataType::Int { signed: false, bits } => match bits {
                8 => deserializer.deserialize_u8(self),
                16 => deserializer.deserialize_u16(self),
                32 => deserializer.deserialize_u32(self),
                _ => deserializer.deserialize_u64(self),
            },
            DataType::Float { bits: 32 } => deserializer.deserialize_f32(self),
            DataType::Float { .. } => deserializer.deserialize_f64(self),
            DataType::Char => deserializer.deserialize_char(self),
            DataType::Text => deserializer.deserialize_str(self),
            DataType::Bytes => deserializer.deserialize_bytes(self),
            DataType::Unit => deserializer.deserialize_unit(self),
            DataType::Timestamp => deserializer.deserialize_tuple(2, self),
            DataType::List(_) => deserializer.deserialize_seq(self),
            DataType::Map(..) => deserializer.deserialize_map(self),
            DataType::Tuple(parts) => deserializer.deserialize_tuple(parts.len(), self),
            DataType::Struct(fields) => deserializer.deserialize_tuple(fields.len(), self),
            _ => Err(D::Error::custom("a value of an unknown type does not describe itself")),
        }
    }
}

impl Seed<'_> {
    fn number<E: serde::de::Error>(self, number: i128) -> Result<Value, E> {
        let value = match self.data_type {
            DataType::Int { signed, bits } => integer(*signed, *bits, number),
            DataType::Float { .. } => Some(Value::Float(number as f64)),
            DataType::Any => integer(number < 0, 64, number),
            _ => None,
        };
        value.ok_or_else(|| E::invalid_type(Unexpected::Other("an integer"), &self))
    }

    /// Reads exactly these parts of a sequence.
    fn parts<'de, 't, A: SeqAccess<'de>>(
        self,
        types: impl ExactSizeIterator<Item = &'t DataType>,
        mut access: A,
    ) -> Result<Value, A::Error> {
        let mut values = Vec::with_capacity(types.len());
        for data_type in types {
            let seed = Seed { data_type, budget: self.budget, named: self.named };
            match access.next_element_seed(seed)? {
                Some(value) => values.push(value),
                None => return Err(A::Error::invalid_length(values.len(), &self)),
            }
        }
        match access.size_hint() {
            Some(more @ 1..) => Err(A::Error::invalid_length(values.len() + more, &self)),
            _ => Ok(Value::Record(values)),
        }
    }

    /// Reads a struct whose fields have names. Unknown ones are skipped, missing options are null.
    fn fields<'de, A: MapAccess<'de>>(self, fields: &[NamedType], mut access: A) -> Result<Value, A::Error> {
        let mut values: Vec<Option<Value>> = Vec::new();
        values.resize_with(fields.len(), || None);
        while let Some(name) = access.next_key::<String>()? {
            match fields.iter().position(|field| field.name == name) {
                Some(index) => {
                    values[index] = Some(access.next_value_seed(Seed {
                        data_type: &fields[index].data_type,
                        budget: self.budget,
                        named: self.named,
                    })?);
                }
                None => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        let complete = values.into_iter().zip(fields).map(|(value, field)| match value {
            None if !matches!(field.data_type, DataType::Option(_)) => {
                Err(A::Error::custom(format_args!("the field {:?} is missing", field.name)))
            }
            value => Ok(value.unwrap_or_default()),
        });
        complete.collect::<Result<_, _>>().map(Value::Record)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {}", self.data_type)
    }

    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Value, E> {
        match self.data_type {
            DataType::Bool | DataType::Any => Ok(Value::Bool(v)),
            _ => Err(E::invalid_type(Unexpected::Bool(v), &self)),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        self.number(v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        self.number(v.into())
    }

    fn visit_i128<E: serde::de::Error>(self, v: i128) -> Result<Value, E> {
        self.number(v)
    }

    fn visit_u128<E: serde::de::Error>(self, v: u128) -> Result<Value, E> {
        match (self.data_type, i128::try_from(v)) {
            (_, Ok(v)) => self.number(v),
            (DataType::Int { signed: false, bits: 128 }, Err(_)) => Ok(Value::BigUInt(v)),
            _ => Err(E::invalid_type(Unexpected::Other("an integer"), &self)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        match self.data_type {
            DataType::Float { .. } | DataType::Any => Ok(Value::Float(v)),
            _ => Err(E::invalid_type(Unexpected::Float(v), &self)),
        }
    }

    fn visit_char<E: serde::de::Error>(self, v: char) -> Result<Value, E> {
        Ok(Value::Char(v))
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Value, E> {
        let mut chars = v.chars();
        match (self.data_type, chars.next(), chars.next()) {
            (DataType::Text | DataType::Any, ..) => Ok(Value::Text(v.to_owned())),
            (DataType::Char, Some(only), None) => Ok(Value::Char(only)),
            _ => Err(E::invalid_type(Unexpected::Str(v), &self)),
        }
    }

    fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Value, E> {
        match self.data_type {
            DataType::Bytes | DataType::Any => Ok(Value::Bytes(v.to_vec())),
            _ => Err(E::invalid_type(Unexpected::Bytes(v), &self)),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        match self.data_type {
            DataType::Option(_) | DataType::Any => Ok(Value::Null),
            DataType::Unit => Ok(Value::Unit),
            _ => Err(E::invalid_type(Unexpected::Unit, &self)),
        }
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let DataType::Option(of) = self.data_type else {
            return Err(D::Error::invalid_type(Unexpected::Option, &self));
        };
        self.of(of).deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        match self.data_type {
            DataType::List(_) | DataType::Any => {
                let of = match self.data_type {
                    DataType::List(of) => of,
                    any => any,
                };
                let mut values = Vec::new();
                while let Some(value) = access.next_element_seed(self.of(of))? {
                    values.push(value);
                }
                Ok(Value::List(values))
            }
            DataType::Bytes => {
                let mut bytes = Vec::new();
                while let Some(byte) = access.next_element()? {
                    bytes.push(byte);
                }
                Ok(Value::Bytes(bytes))
            }
            DataType::Unit => match access.next_element::<IgnoredAny>()? {
                None => Ok(Value::Unit),
                Some(_) => Err(A::Error::invalid_length(1, &self)),
            },
            DataType::Timestamp => {
                let (seconds, nanos): (i64, i32) = match (access.next_element()?, access.next_element()?) {
                    (Some(seconds), Some(nanos)) => (seconds, nanos),
                    _ => return Err(A::Error::invalid_length(0, &self)),
                };
                Ok(Value::Timestamp(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)))
            }
            DataType::Tuple(parts) => self.parts(parts.iter(), access),
            DataType::Struct(fields) => self.parts(fields.iter().map(|field| &field.data_type), access),
            _ => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let (key, value) = match self.data_type {
            DataType::Map(key, value) => (&**key, &**value),
            DataType::Any => (self.data_type, self.data_type),
            DataType::Struct(fields) => return self.fields(fields, access),
            _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
        };
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(self.of(key))? {
            entries.push((key, access.next_value_seed(self.of(value))?));
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let DataType::Enum(variants) = self.data_type else {
            return Err(A::Error::invalid_type(Unexpected::Enum, &self));
        };
        let (index, access) = access.variant_seed(Variants(variants))?;
        let Some(variant) = variants.get(index) else {
            return Err(A::Error::custom(format_args!("there is no variant {index}")));
        };
        let value = match &variant.data_type {
            DataType::Unit => access.unit_variant().map(|()| Value::Unit)?,
            of => access.newtype_variant_seed(self.of(of))?,
        };
        Ok(Value::Variant(index as u32, Box::new(value)))
    }
}

/// Reads which variant of an enum a value is.
struct Variants<'t>(&'t [NamedType]);

impl<'de> DeserializeSeed<'de> for Variants<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Variants<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or the number of a variant")
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<usize, E> {
        usize::try_from(v).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<usize, E> {
        let known = self.0.iter().position(|variant| variant.name == v);
        known.ok_or_else(|| E::custom(format_args!("there is no variant {v:?}")))
    }

    fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<usize, E> {
        self.visit_str(&String::from_utf8_lossy(v))
    }
}
