//! Codecs turn values into bytes, for snapshots and for backends that keep bytes.

use std::any::{Any, type_name};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_reflection::{Format, Tracer, TracerConfig};

use crate::schema::{Description, self_describing_id};
use crate::{Error, ErrorKind, Result};

/// Turns values of one type into bytes and back.
///
/// # Laws
/// `decode` returns a value equal to the one that `encode` encoded. The bytes for a given [`id`](Self::id)
/// never change their meaning: snapshots store the id, and a restore refuses another one.
pub trait Codec<T>: Send + Sync + 'static {
    /// Returns the name of the byte form.
    fn id(&self) -> String;

    /// Appends the bytes of `value`.
    ///
    /// # Errors
    /// [`User`](ErrorKind::User) when the value has no byte form.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()>;

    /// Reads one value; `bytes` is exactly what `encode` appended.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when `bytes` is no encoded value;
    /// [`Incompatible`](ErrorKind::Incompatible) when it is one of another type, as far as the codec knows.
    fn decode(&self, bytes: &[u8]) -> Result<T>;

    /// Returns whether the codec reads what it wrote for older versions of the type: fields that were added
    /// get their default, fields that were removed are skipped. A state may then raise its schema version
    /// without a migration. Return [`self_describing_id`] from [`id`](Self::id), so that a restore refuses
    /// what the type cannot read.
    fn is_self_describing(&self) -> bool {
        false
    }

    /// Returns how a program reads the bytes that does not have the codec; `None` when that is unknown, or when
    /// the [`id`](Self::id) reveals it. Snapshots hold the description, and no restore depends on it.
    fn description(&self) -> Option<Description> {
        None
    }
}

/// The default codec: numbers in fixed-width little endian, every other serde type in the Postcard wire
/// format.
///
/// The form is compact and fast, but not self-describing: a field is known by its position, so adding,
/// removing or reordering fields, or changing the type of one, makes old bytes unreadable. The
/// [`id`](Codec::id) therefore holds a fingerprint of the type: a restore refuses a snapshot of another form
/// of the type instead of misreading it. To change the type, raise the schema version and declare how the old
/// form migrates ([`Evolution`](crate::Evolution)), or choose [`SelfDescribingCodec`] from the start.
///
/// The fingerprint covers the names of types, fields and variants, and their types, as `Deserialize` asks for
/// them (so `#[serde(rename)]` keeps the fingerprint when a field is renamed). A type whose `Deserialize`
/// cannot be asked that way (because it rejects default values) has no fingerprint; then only the schema
/// version protects the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct SerdeCodec;

/// Runs `$then` with `$value` as a number if its type `$wanted` is one. The compiler resolves this for each type: it
/// compares constants before it meets the virtual call of the downcast.
macro_rules! if_number {
    ($value:expr, $wanted:ty, |$number:ident| $then:expr) => {
        if_number!(@each $value, $wanted, |$number| $then; u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64)
    };
    (@each $value:expr, $wanted:ty, |$number:ident| $then:expr; $($type:ty)*) => {
        $(if std::any::TypeId::of::<$wanted>() == std::any::TypeId::of::<$type>()
            && let Some($number) = ($value as &dyn Any).downcast_ref::<$type>()
        {
            $then
        })*
    };
}

macro_rules! decode_number {
    ($bytes:expr, $wanted:ty; $($type:ty)*) => {
        $(if std::any::TypeId::of::<$wanted>() == std::any::TypeId::of::<$type>() {
            let array = $bytes.try_into().map_err(|_| wrong_length::<$wanted>($bytes))?;
            let mut slot: Option<$wanted> = None;
            if let Some(slot) = (&mut slot as &mut dyn Any).downcast_mut::<Option<$type>>() {
                *slot = Some(<$type>::from_le_bytes(array));
            }
            return slot.ok_or_else(|| wrong_length::<$wanted>($bytes));
        })*
    };
}

/// Whether a type may be a number, as far as its size reveals. Nothing of numbers is compiled for a type that is none.
const fn may_be_number<T>() -> bool {
    matches!(size_of::<T>(), 1 | 2 | 4 | 8 | 16) && !std::mem::needs_drop::<T>()
}

fn wrong_length<T>(bytes: &[u8]) -> Error {
    no_encoded(type_name::<T>(), bytes)
}

#[cold]
fn no_encoded(name: &str, bytes: &[u8]) -> Error {
    Error::corrupt(format!("{} bytes are no encoded {name}", bytes.len()))
}

#[cold]
fn not_serializable(name: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::User, format!("a {name} cannot be serialized")).caused_by(cause)
}

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for SerdeCodec {
    fn id(&self) -> String {
        if let Some(number) = number_id::<T>() {
            return number.into();
        }
        match fingerprint::<T>() {
            Some(fingerprint) => format!("postcard#{fingerprint:016x}"),
            None => "postcard".into(),
        }
    }

    #[inline]
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        if const { may_be_number::<T>() } {
            if_number!(value, T, |number| {
                out.extend_from_slice(&number.to_le_bytes());
                return Ok(());
            });
        }
        match postcard::to_extend(value, std::mem::take(out)) {
            Ok(extended) => {
                *out = extended;
                Ok(())
            }
            Err(e) => Err(not_serializable(type_name::<T>(), e)),
        }
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        if const { may_be_number::<T>() } {
            decode_number!(bytes, T; u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64);
        }
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(wrong_length::<T>(bytes).with("surplus bytes", rest.len())),
            Err(e) => Err(wrong_length::<T>(bytes).caused_by(e)),
        }
    }

    fn description(&self) -> Option<Description> {
        number_id::<T>().map_or_else(Description::postcard::<T>, Description::of_value_codec)
    }
}

/// Serde types in MessagePack with the names of their fields: larger and slower than [`SerdeCodec`], but able
/// to change.
///
/// Changes that serde can skip or default need no migration: added fields (with `#[serde(default)]`), removed
/// fields, reordered fields, renamed fields (with `#[serde(alias)]`), wider numbers, added variants. A field
/// that changes its type otherwise needs one. Raise the schema version with every change: a program of a lower
/// version then refuses the snapshot instead of dropping fields that it does not know.
///
/// The [`id`](Codec::id) holds the names and types of the fields, as `Deserialize` asks for them. So the plan
/// of a restore refuses what the type cannot read, before it reads anything, and a type that lacks a stored
/// field under an equal version. A type whose `Deserialize` does not reveal its fields (for example one with
/// `#[serde(flatten)]` or `#[serde(untagged)]`) is not protected so; nor is state that was stored without them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelfDescribingCodec;

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for SelfDescribingCodec {
    fn id(&self) -> String {
        self_describing_id::<T>("msgpack")
    }

    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
        value.serialize(&mut serializer).map_err(|e| not_serializable(type_name::<T>(), e))
    }

    fn decode(&self, bytes: &[u8]) -> Result<T> {
        let mut rest = bytes;
        let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))
            .map_err(|error| unreadable(type_name::<T>(), bytes, error))?;
        if !rest.is_empty() {
            return Err(wrong_length::<T>(bytes).with("surplus bytes", rest.len()));
        }
        Ok(value)
    }

    fn is_self_describing(&self) -> bool {
        true
    }
}

/// Returns the error for bytes that are cut short, or that are a value of another type.
#[cold]
fn unreadable(name: &str, bytes: &[u8], error: rmp_serde::decode::Error) -> Error {
    use rmp_serde::decode::Error as Failure;
    match error {
        Failure::InvalidMarkerRead(_) | Failure::InvalidDataRead(_) => {
            no_encoded(name, bytes).caused_by(error)
        }
        error => {
            let message = format!(
                "a stored value is no {name}; raise the schema version and declare how the type that was \
                 stored migrates (`Evolution`)"
            );
            Error::new(ErrorKind::Incompatible, message).caused_by(error)
        }
    }
}

/// Returns the id of the codec of a number; `None` for other types.
fn number_id<T: 'static>() -> Option<&'static str> {
    macro_rules! number_id {
        ($($type:ty)*) => {
            $(if std::any::TypeId::of::<T>() == std::any::TypeId::of::<$type>() {
                return Some(concat!(stringify!($type), "-le"));
            })*
        };
    }
    if const { may_be_number::<T>() } {
        number_id!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64);
    }
    None
}

/// Returns a hash of the form of a type; `None` when `Deserialize` does not reveal the form.
fn fingerprint<T: DeserializeOwned>() -> Option<u64> {
    let mut tracer = Tracer::new(TracerConfig::default());
    let (format, _) = tracer.trace_simple_type::<T>().ok()?;
    hash_of(format, tracer)
}

fn hash_of(format: Format, tracer: Tracer) -> Option<u64> {
    let registry = tracer.registry().ok()?;
    let form = postcard::to_stdvec(&(format, registry)).ok()?;
    Some(xxhash_rust::xxh3::xxh3_64(&form))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static>(
        value: &T,
    ) -> usize {
        let mut bytes = vec![0xEE];
        SerdeCodec.encode(value, &mut bytes).unwrap();
        let back: T = SerdeCodec.decode(&bytes[1..]).unwrap();
        assert_eq!(&back, value);
        let longer = [&bytes[1..], &[0]].concat();
        assert!(Codec::<T>::decode(&SerdeCodec, &longer).is_err(), "surplus bytes are an error");
        bytes.len() - 1
    }

    #[test]
    fn numbers_have_fixed_width_and_values_round_trip() {
        assert_eq!(round_trip(&7u64), 8);
        assert_eq!(round_trip(&-7i32), 4);
        assert_eq!(round_trip(&1.5f64), 8);
        assert_eq!(round_trip(&String::from("strand")), 7);
        round_trip(&(1u8, Some(vec![String::from("a")])));
        assert_eq!(Codec::<u64>::id(&SerdeCodec), "u64-le");
    }

    #[derive(Serialize, serde::Deserialize)]
    struct Old {
        cents: u32,
        gone: Vec<Option<String>>,
    }

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct New {
        #[serde(default)]
        currency: Option<String>,
        cents: u32,
    }

    #[test]
    fn forms_of_a_type_have_different_ids() {
        let id = Codec::<Old>::id(&SerdeCodec);
        assert!(id.starts_with("postcard#"), "{id}");
        assert_eq!(id, Codec::<Old>::id(&SerdeCodec));
        assert_ne!(id, Codec::<New>::id(&SerdeCodec));
        assert_ne!(Codec::<(u8, u16)>::id(&SerdeCodec), Codec::<(u16, u8)>::id(&SerdeCodec));
        assert_ne!(Codec::<Option<u8>>::id(&SerdeCodec), Codec::<Vec<u8>>::id(&SerdeCodec));
        // This id is part of the format: it must not change.
        assert_eq!(Codec::<String>::id(&SerdeCodec), "postcard#34b57fd58210115c");
    }

    #[test]
    fn a_self_describing_codec_reads_what_older_types_wrote() {
        let mut bytes = Vec::new();
        SelfDescribingCodec
            .encode(&Old { cents: 7, gone: vec![None, Some("x".into())] }, &mut bytes)
            .unwrap();
        let new: New = SelfDescribingCodec.decode(&bytes).unwrap();
        assert_eq!(new, New { currency: None, cents: 7 });
        bytes.push(0);
        assert!(Codec::<New>::decode(&SelfDescribingCodec, &bytes).is_err(), "surplus bytes are an error");
        let cut_short = Codec::<New>::decode(&SelfDescribingCodec, &bytes[..3]).unwrap_err();
        assert_eq!(cut_short.kind(), ErrorKind::Corrupt, "{cut_short}");
        let of_another_type = Codec::<Vec<u8>>::decode(&SelfDescribingCodec, &bytes).unwrap_err();
        assert_eq!(of_another_type.kind(), ErrorKind::Incompatible, "{of_another_type}");
        assert!(of_another_type.to_string().contains("Vec<u8>"), "{of_another_type}");
    }
}
