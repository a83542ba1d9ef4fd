//! Keys, namespaces and map keys: native values with one byte form that is injective and keeps their order.

use std::fmt::Debug;
use std::sync::Arc;

use crate::schema::Description;
use crate::{Error, KeyGroup, KeyHash, Result};

mod tuple;

pub use tuple::{push_escaped, split_escaped};

/// A type that can be a key, a namespace or the key of a map entry.
///
/// # Laws
/// * *Injective*: `a == b` exactly when their encodings are equal.
/// * *Ordered*: where the type has an order that users rely on in ranges (numbers, strings, tuples of them),
///   encodings compare as bytes like the values do.
/// * *Stable*: the encoding never changes for a given [`codec`](Self::codec) name; it is part of the
///   snapshot format.
///
/// The trait is implemented for integers, `bool`, `String`, `Arc<str>`, `Vec<u8>`, `()`, tuples of two to
/// four, and [`TimeWindow`](crate::TimeWindow). Map a type of your own to one of these:
///
/// ```
/// use strandline_state_api::{Result, StateKey};
///
/// #[derive(Clone, Debug, PartialEq, Eq)]
/// struct Account { bank: u32, number: String }
///
/// impl StateKey for Account {
///     const WIDTH: Option<usize> = None;
///     fn codec() -> String { <(u32, String)>::codec() }
///     fn encode(&self, out: &mut Vec<u8>) { (self.bank, self.number.clone()).encode(out) }
///     fn decode(bytes: &[u8]) -> Result<Self> {
///         <(u32, String)>::decode(bytes).map(|(bank, number)| Account { bank, number })
///     }
/// }
/// ```
pub trait StateKey: Clone + Eq + Debug + Send + 'static {
    /// The length of every encoding in bytes, if all have the same length.
    const WIDTH: Option<usize>;

    /// Returns the name of the encoding, which snapshots store and a restore compares.
    fn codec() -> String;

    /// Returns how a program reads the encoding that does not have the type. By default what the name of the
    /// [codec](Self::codec) reveals: so a type that is mapped to one of those above, with its codec, is described,
    /// too, but for the names of its parts.
    fn description() -> Option<Description> {
        Description::of_key_codec(&Self::codec())
    }

    /// Appends the encoding.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads back what [`encode`](Self::encode) appended; `bytes` is exactly one encoding.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) when `bytes` is no encoding of this type.
    fn decode(bytes: &[u8]) -> Result<Self>;

    /// Returns the stable hash of the encoding.
    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut encoded = Vec::with_capacity(Self::WIDTH.unwrap_or(32));
        self.encode(&mut encoded);
        KeyHash::of_encoded(&encoded)
    }
}

/// A key with its hash, which is computed once and travels with the record.
#[derive(Debug)]
pub struct Keyed<'a, K> {
    key: &'a K,
    hash: KeyHash,
}

impl<'a, K: StateKey> Keyed<'a, K> {
    /// Hashes `key`.
    #[inline]
    pub fn new(key: &'a K) -> Self {
        Self { key, hash: key.key_hash() }
    }

    /// Pairs `key` with a hash that was computed before. If the hash differs from `key.key_hash()`, accesses
    /// do not find the state of the key.
    #[inline]
    pub fn with_hash(key: &'a K, hash: KeyHash) -> Self {
        debug_assert_eq!(hash, key.key_hash(), "hash of another key than {key:?}");
        Self { key, hash }
    }

    /// Returns the key.
    #[inline]
    pub fn key(&self) -> &'a K {
        self.key
    }

    /// Returns the hash of the key.
    #[inline]
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// Returns the key group of the key.
    #[inline]
    pub fn group(&self) -> KeyGroup {
        KeyGroup::of(self.hash)
    }
}

impl<K> Clone for Keyed<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Keyed<'_, K> {}

pub(crate) fn wrong_encoding(codec: &str, bytes: &[u8]) -> Error {
    Error::corrupt(format!("{} bytes are no encoded {codec}", bytes.len()))
}

macro_rules! integer_key {
    ($($unsigned:ty, $signed:ty, $name:literal, $signed_name:literal;)*) => {$(
        impl StateKey for $unsigned {
            const WIDTH: Option<usize> = Some(size_of::<Self>());

            fn codec() -> String {
                $name.into()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn decode(bytes: &[u8]) -> Result<Self> {
                let bytes = bytes.try_into().map_err(|_| wrong_encoding($name, bytes))?;
                Ok(Self::from_be_bytes(bytes))
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                KeyHash::of_encoded(&self.to_be_bytes())
            }
        }

        // Flipping the sign bit makes negative numbers sort before positive ones.
        impl StateKey for $signed {
            const WIDTH: Option<usize> = Some(size_of::<Self>());

            fn codec() -> String {
                $signed_name.into()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                ((*self ^ Self::MIN) as $unsigned).encode(out);
            }

            #[inline]
            fn decode(bytes: &[u8]) -> Result<Self> {
                let bytes = bytes.try_into().map_err(|_| wrong_encoding($signed_name, bytes))?;
                Ok(Self::from_be_bytes(bytes) ^ Self::MIN)
            }

            #[inline]
            fn key_hash(&self) -> KeyHash {
                ((*self ^ Self::MIN) as $unsigned).key_hash()
            }
        }
    )*};
}

integer_key! {
    u8, i8, "u8", "i8";
    u16, i16, "u16", "i16";
    u32, i32, "u32", "i32";
    u64, i64, "u64", "i64";
    u128, i128, "u128", "i128";
}

impl StateKey for () {
    const WIDTH: Option<usize> = Some(0);

    fn codec() -> String {
        String::new()
    }

    #[inline]
    fn encode(&self, _: &mut Vec<u8>) {}

    #[inline]
    fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() { Ok(()) } else { Err(wrong_encoding("()", bytes)) }
    }
}

impl StateKey for bool {
    const WIDTH: Option<usize> = Some(1);

    fn codec() -> String {
        "bool".into()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(wrong_encoding("bool", bytes)),
        }
    }
}

impl StateKey for String {
    const WIDTH: Option<usize> = None;

    fn codec() -> String {
        "string".into()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes);
        text.map(Self::from).map_err(|e| wrong_encoding("string", bytes).caused_by(e))
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash::of_encoded(self.as_bytes())
    }
}

impl StateKey for Arc<str> {
    const WIDTH: Option<usize> = None;

    fn codec() -> String {
        String::codec()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        String::decode(bytes).map(Self::from)
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash::of_encoded(self.as_bytes())
    }
}

impl StateKey for Vec<u8> {
    const WIDTH: Option<usize> = None;

    fn codec() -> String {
        "bytes".into()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        KeyHash::of_encoded(self)
    }
}

#[cfg(test)]
mod tests;
