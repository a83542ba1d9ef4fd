//! How stored bytes are to be read: their encoding and their type.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::form::{Form, MAX_TEXT};
use super::{DataType, NamedType};
use crate::Result;

/// How a key or a value lies in its bytes. `docs/format.md` specifies each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// As [`StateKey`](crate::StateKey) encodes numbers, text and tuples of them: injective, and in their
    /// order.
    Ordered,
    /// Integers of fixed width, big-endian in two's complement, one after the other: a key of such a state is
    /// the bits of the number, whatever its sign.
    BigEndian,
    /// Numbers of fixed width, little-endian, one after the other.
    LittleEndian,
    /// The Postcard wire format.
    Postcard,
    /// MessagePack, with the names of fields.
    MessagePack,
    /// Keys that are made of columns: before each column a byte that names the type of its value.
    RowKey,
    /// Accumulators of columns: a list of values in the Postcard wire format, each behind the number of its
    /// type. A struct within the type stands for as many values as it has fields.
    Accumulators,
}

impl Encoding {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Ordered, "ordered"),
        (Self::BigEndian, "big-endian"),
        (Self::LittleEndian, "little-endian"),
        (Self::Postcard, "postcard"),
        (Self::MessagePack, "msgpack"),
        (Self::RowKey, "row-key"),
        (Self::Accumulators, "accumulators"),
    ];

    /// Returns the name of the encoding in snapshots.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(encoding, _)| *encoding == self).map_or("", |(_, name)| name)
    }

    /// Returns the encoding with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(encoding, _)| *encoding)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The description of stored keys or values, with which a program reads them that does not have the job.
///
/// It is no part of the identity of a codec: a restore compares the names of codecs and never looks at a
/// description.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Description {
    /// How the bytes are to be read.
    pub encoding: Encoding,
    /// What they are.
    pub data_type: DataType,
}

impl Description {
    /// Pairs an encoding with a type.
    pub fn new(encoding: Encoding, data_type: DataType) -> Self {
        Self { encoding, data_type }
    }

    /// Returns the description of values of type `T` in the Postcard wire format; `None` when `Deserialize` does
    /// not reveal the type, or when the type contains itself.
    pub fn postcard<T: DeserializeOwned>() -> Option<Self> {
        Form::by_position::<T>().and_then(Self::of_postcard)
    }

    fn of_postcard(form: Form) -> Option<Self> {
        if form.to_string().len() > MAX_TEXT {
            return None;
        }
        Some(Self::new(Encoding::Postcard, bytes_as_such(DataType::from(form))))
    }

    /// Returns the description of keys, namespaces or map keys that the name of their codec reveals: those of
    /// the types for which this crate implements [`StateKey`](crate::StateKey).
    ///
    /// ```
    /// use strandline_state_api::schema::Description;
    ///
    /// let key = Description::of_key_codec("(u32,string)").unwrap();
    /// assert_eq!(key.data_type.to_string(), "(u32,str,)");
    /// assert_eq!(Description::of_key_codec("account"), None);
    /// ```
    pub fn of_key_codec(codec: &str) -> Option<Self> {
        let mut rest = codec;
        let data_type = if codec.is_empty() { DataType::Unit } else { key_type(&mut rest, 0)? };
        rest.is_empty().then(|| Self::new(Encoding::Ordered, data_type))
    }

    /// Returns the description of values that the name of their codec reveals: numbers, and what
    /// [`SelfDescribingCodec`](crate::SelfDescribingCodec) wrote.
    pub fn of_value_codec(codec: &str) -> Option<Self> {
        if let Some((signed, bits)) = codec.strip_suffix("-le").and_then(integer) {
            return Some(Self::new(Encoding::LittleEndian, DataType::Int { signed, bits }));
        }
        match codec {
            "f32-le" => Some(Self::new(Encoding::LittleEndian, DataType::Float { bits: 32 })),
            "f64-le" => Some(Self::new(Encoding::LittleEndian, DataType::F64)),
            "msgpack" => Some(Self::new(Encoding::MessagePack, DataType::Any)),
            _ if codec.starts_with("msgpack#") => {
                let data_type = Form::of_codec(codec).map_or(DataType::Any, DataType::from);
                Some(Self::new(Encoding::MessagePack, data_type))
            }
            _ => None,
        }
    }
}

/// A list of bytes is stored as bytes are.
fn bytes_as_such(data_type: DataType) -> DataType {
    const BYTE: DataType = DataType::Int { signed: false, bits: 8 };
    let boxed = |of: Box<DataType>| Box::new(bytes_as_such(*of));
    let named = |named: Vec<NamedType>| {
        let each = |of: NamedType| NamedType { data_type: bytes_as_such(of.data_type), ..of };
        named.into_iter().map(each).collect()
    };
    match data_type {
        DataType::List(of) if *of == BYTE => DataType::Bytes,
        DataType::List(of) => DataType::List(boxed(of)),
        DataType::Option(of) => DataType::Option(boxed(of)),
        DataType::Map(key, value) => DataType::Map(boxed(key), boxed(value)),
        DataType::Tuple(parts) => DataType::Tuple(parts.into_iter().map(bytes_as_such).collect()),
        DataType::Struct(fields) => DataType::Struct(named(fields)),
        DataType::Enum(variants) => DataType::Enum(named(variants)),
        other => other,
    }
}

/// Reads `u8` to `i128`.
fn integer(name: &str) -> Option<(bool, u8)> {
    let (sign, bits) = name.split_at_checked(1)?;
    let bits = ["8", "16", "32", "64", "128"].contains(&bits).then(|| bits.parse().ok())??;
    match sign {
        "u" => Some((false, bits)),
        "i" => Some((true, bits)),
        _ => None,
    }
}

/// Reads the type of a key from the front of the name of its codec.
fn key_type(rest: &mut &str, depth: usize) -> Option<DataType> {
    /// Tuples of tuples nest no deeper in any program that compiles in reasonable time.
    const MAX_DEPTH: usize = 16;
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner;
        let mut parts = Vec::new();
        loop {
            let is_unit = rest.starts_with([',', ')']);
            parts.push(if is_unit { DataType::Unit } else { key_type(rest, depth + 1)? });
            match rest.split_at_checked(1)? {
                (",", more) => *rest = more,
                (")", more) => {
                    *rest = more;
                    return Some(DataType::Tuple(parts));
                }
                _ => return None,
            }
        }
    }
    let (name, more) = rest.split_at(rest.find([',', ')']).unwrap_or(rest.len()));
    *rest = more;
    Some(match name {
        "bool" => DataType::Bool,
        "string" => DataType::Text,
        "bytes" => DataType::Bytes,
        "window" => DataType::window(),
        name => integer(name).map(|(signed, bits)| DataType::Int { signed, bits })?,
    })
}

/// The descriptions of one stored form of a state, each where it is known and the name of the codec does not
/// reveal it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateTypes {
    /// The name of the state.
    pub state: String,
    /// The codec of its values, without a stamp.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value_codec: String,
    /// The schema version of its values.
    #[serde(default)]
    pub schema_version: u32,
    /// Its keys.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Description::deserialize_known"
    )]
    pub key: Option<Description>,
    /// Its namespaces.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Description::deserialize_known"
    )]
    pub namespace: Option<Description>,
    /// Its map keys.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Description::deserialize_known"
    )]
    pub map_key: Option<Description>,
    /// Its values, elements or accumulators.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Description::deserialize_known"
    )]
    pub value: Option<Description>,
    /// For how many milliseconds a value lives behind its stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<i64>,
}

impl StateTypes {
    /// Returns whether it describes nothing.
    pub fn is_empty(&self) -> bool {
        let described = [&self.key, &self.namespace, &self.map_key, &self.value];
        described.iter().all(|description| description.is_none()) && self.ttl_ms.is_none()
    }

    /// Leaves out what the names of codecs reveal.
    #[must_use]
    pub(crate) fn concise(self) -> Self {
        let revealed = Description::of_value_codec(&self.value_codec);
        Self { value: self.value.filter(|value| revealed.as_ref() != Some(value)), ..self }
    }

    /// Returns whether both describe the same stored form.
    pub fn is_of(&self, other: &Self) -> bool {
        self.state == other.state
            && self.value_codec == other.value_codec
            && self.schema_version == other.schema_version
    }
}

impl Description {
    /// Deserializes a description that may be missing. One with an encoding or a type that this version does not
    /// know is none: the bytes remain bytes. For `#[serde(deserialize_with)]`.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let Some(Stored { encoding, data_type }) = Option::deserialize(deserializer)? else {
            return Ok(None);
        };
        let known = Encoding::from_name(&encoding).zip(data_type.parse().ok());
        Ok(known.map(|(encoding, data_type)| Self { encoding, data_type }))
    }
}

/// The stored form of a description: two texts.
#[derive(Serialize, Deserialize)]
struct Stored {
    encoding: String,
    #[serde(rename = "type")]
    data_type: String,
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { encoding, data_type } = self;
        Stored { encoding: encoding.name().to_owned(), data_type: data_type.to_string() }
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
