//! Decoders of stored bytes. None of them trusts a byte, or a type that came with a snapshot.

mod accumulators;
mod columns;
mod flat;
mod wire;

use std::fmt;
use std::sync::Arc;

use strandline_state_api::schema::{DataType, Description, Encoding};
use strandline_state_api::{Error, ErrorKind, Result};

pub use self::flat::Scalar;
use crate::Value;

/// The most values that a decoded value may consist of. A value of 64 MiB of text is one; one that has more
/// parts than this is refused, so that bytes that lie about their content cannot exhaust the memory.
pub(crate) const MAX_PARTS: u32 = 4 << 20;

pub(crate) type Decode = Arc<dyn Fn(&[u8]) -> Result<Value> + Send + Sync>;
pub(crate) type Encode = Arc<dyn Fn(&Value) -> Result<Vec<u8>> + Send + Sync>;

/// Turns the stored bytes of a key, a namespace, a map key or a value into a [`Value`], and values of keys into
/// bytes.
#[derive(Clone)]
pub struct Decoder {
    data_type: DataType,
    how: How,
}

#[derive(Clone)]
enum How {
    Bytes,
    Described(Encoding),
    Custom(Decode, Option<Encode>),
}

impl Decoder {
    /// The decoder of bytes that nothing is known about: they stay bytes.
    pub fn bytes() -> Self {
        Self { data_type: DataType::Bytes, how: How::Bytes }
    }

    /// The decoder that a description asks for; that of [bytes](Self::bytes) when the encoding does not have the
    /// type.
    pub fn described(description: Description) -> Self {
        let Description { encoding, data_type } = description;
        if !has_type(encoding, &data_type) {
            return Self::bytes();
        }
        Self { data_type, how: How::Described(encoding) }
    }

    pub(crate) fn custom(data_type: DataType, decode: Decode, encode: Option<Encode>) -> Self {
        Self { data_type, how: How::Custom(decode, encode) }
    }

    /// Returns the type of the values.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Returns the encoding, if it is one of those that snapshots describe.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.how {
            How::Described(encoding) => Some(encoding),
            How::Bytes | How::Custom(..) => None,
        }
    }

    /// Returns whether the bytes stay bytes because nothing describes them.
    pub fn is_unknown(&self) -> bool {
        matches!(self.how, How::Bytes)
    }

    /// Decodes one value.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when the bytes are no value of the type;
    /// [`Unsupported`](ErrorKind::Unsupported) when it has more than 4,194,304 parts; those of a decoder of your
    /// own.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value> {
        match &self.how {
            How::Bytes => Ok(Value::Bytes(bytes.to_vec())),
            How::Custom(decode, _) => decode(bytes),
            How::Described(encoding) => match encoding {
                Encoding::Postcard => wire::postcard(&self.data_type, bytes),
                Encoding::MessagePack => wire::message_pack(&self.data_type, bytes),
                Encoding::Accumulators => accumulators::decode(&self.data_type, bytes),
                encoding => columns::decode(*encoding, &self.data_type, bytes),
            },
        }
    }

    /// Returns whether [`decode_flat`](Self::decode_flat) reads the values.
    pub fn is_flat(&self) -> bool {
        match &self.how {
            How::Bytes => true,
            How::Custom(..) => false,
            How::Described(encoding) => flat::is_flat(*encoding, &self.data_type),
        }
    }

    /// Decodes a value without parts, or a struct of such, without an allocation: visits each field with its position,
    /// or the one value. Returns false where it does not read the bytes, having visited some fields:
    /// [`decode`](Self::decode) does, or returns why they are no value.
    #[inline]
    pub fn decode_flat<'b>(&self, bytes: &'b [u8], mut visit: impl FnMut(usize, Scalar<'b>)) -> bool {
        match &self.how {
            How::Bytes => {
                visit(0, Scalar::Bytes(bytes));
                true
            }
            How::Custom(..) => false,
            How::Described(encoding) => flat::decode(*encoding, &self.data_type, bytes, visit).is_some(),
        }
    }

    /// Encodes a key, as filters need it.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the type does not hold the value;
    /// [`Unsupported`](ErrorKind::Unsupported) when keys of this encoding cannot be made: ask for `Value::Bytes`,
    /// the encoded key.
    pub fn encode(&self, value: &Value) -> Result<Vec<u8>> {
        match (&self.how, value) {
            (How::Custom(_, Some(encode)), value) => encode(value),
            (How::Described(encoding), value) if columns::is_columns(*encoding) => {
                let value = value.clone().into_type(&self.data_type)?;
                columns::encode(*encoding, &self.data_type, &value)
            }
            (_, Value::Bytes(bytes)) => Ok(bytes.clone()),
            _ => {
                let message = "nothing is known that encodes such a key: take its bytes, or register a decoder \
                               of keys for its codec";
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// Returns whether encoded keys compare as bytes as their values do, so that a range of values is one of
    /// bytes.
    pub(crate) fn is_ordered(&self) -> bool {
        match &self.how {
            How::Bytes | How::Described(Encoding::Ordered | Encoding::RowKey) => true,
            How::Described(_) | How::Custom(..) => false,
        }
    }
}

/// Returns whether values of a type can lie in an encoding.
fn has_type(encoding: Encoding, data_type: &DataType) -> bool {
    match encoding {
        Encoding::Postcard => wire::is_positional(data_type),
        Encoding::MessagePack => true,
        Encoding::Accumulators => matches!(data_type, DataType::Struct(_)),
        encoding => columns::has_type(encoding, data_type),
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Bytes => f.write_str("bytes"),
            How::Described(encoding) => write!(f, "{encoding} {}", self.data_type),
            How::Custom(..) => write!(f, "custom {}", self.data_type),
        }
    }
}

/// Returns the error for bytes that are no value of a type.
#[cold]
pub(crate) fn wrong(bytes: &[u8], data_type: &DataType) -> Error {
    let mut text = data_type.to_string();
    if let Some((cut, _)) = text.char_indices().nth(100) {
        text.truncate(cut);
        text.push_str("..");
    }
    Error::corrupt(format!("{} bytes are no encoded {text}", bytes.len()))
}

/// Counts the parts of a value.
#[derive(Debug)]
pub(crate) struct Budget(std::cell::Cell<u32>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(std::cell::Cell::new(MAX_PARTS))
    }

    /// Takes one part; returns whether there was one.
    pub(crate) fn take(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// Returns the error for a value with too many parts.
#[cold]
pub(crate) fn too_many_parts() -> Error {
    Error::new(ErrorKind::Unsupported, format!("a value has more than {MAX_PARTS} parts"))
}
