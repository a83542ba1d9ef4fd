//! How values become bytes in a snapshot (and in backends that keep bytes).

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind, Result};

/// Turns values of one type into bytes and back.
///
/// # Laws
/// `decode` of what `encode` appended gives an equal value. The bytes for a given [`id`](Self::id) never change their
/// meaning: snapshots store the id and refuse to be read with another.
pub trait Codec<T>: Send + Sync + 'static {
    /// The name of the byte form.
    fn id(&self) -> String;

    /// Appends the bytes of `value`.
    ///
    /// # Errors
    /// [`User`](ErrorKind::User) when the value has no byte form.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()>;

    /// Reads one value; `bytes` is exactly what `encode` appended.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when it is not.
    fn decode(&self, bytes: &[u8]) -> Result<T>;
}

/// The default: numbers in fixed-width little endian, every other serde type in the Postcard wire format.
///
/// Compact and fast, but not self-describing: fields are known by their position, so adding, removing or reordering
/// them makes old bytes unreadable.
#[derive(Clone, Copy, Debug, Default)]
pub struct SerdeCodec;

/// Runs `$then` with the number inside `$any`, when it is one. Resolved at compile time for each type.
macro_rules! if_number {
    ($any:expr, |$number:ident| $then:expr) => {
        if_number!(@each $any, |$number| $then; u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64)
    };
    (@each $any:expr, |$number:ident| $then:expr; $($type:ty)*) => {
        $(if let Some($number) = $any.downcast_ref::<$type>() { $then })*
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

fn wrong_length<T>(bytes: &[u8]) -> Error {
    Error::corrupt(format!("{} bytes are no encoded {}", bytes.len(), std::any::type_name::<T>()))
}

impl<T: Serialize + DeserializeOwned + 'static> Codec<T> for SerdeCodec {
    fn id(&self) -> String {
        macro_rules! number_name {
            ($($type:ty)*) => {
                $(if std::any::TypeId::of::<T>() == std::any::TypeId::of::<$type>() {
                    return concat!(stringify!($type), "-le").into();
                })*
            };
        }
        number_name!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64);
        "postcard".into()
    }

    #[inline]
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        if_number!((value as &dyn Any), |number| {
            out.extend_from_slice(&number.to_le_bytes());
            return Ok(());
        });
        match postcard::to_extend(value, std::mem::take(out)) {
            Ok(extended) => {
                *out = extended;
                Ok(())
            }
            Err(e) => {
                let message = format!("a {} cannot be serialized", std::any::type_name::<T>());
                Err(Error::new(ErrorKind::User, message).caused_by(e))
            }
        }
    }

    #[inline]
    fn decode(&self, bytes: &[u8]) -> Result<T> {
        decode_number!(bytes, T; u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64);
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(wrong_length::<T>(bytes).with("surplus bytes", rest.len())),
            Err(e) => Err(wrong_length::<T>(bytes).caused_by(e)),
        }
    }
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
    fn numbers_have_fixed_width_and_everything_comes_back() {
        assert_eq!(round_trip(&7u64), 8);
        assert_eq!(round_trip(&-7i32), 4);
        assert_eq!(round_trip(&1.5f64), 8);
        assert_eq!(round_trip(&String::from("strand")), 7);
        round_trip(&(1u8, Some(vec![String::from("a")])));
        assert_eq!(Codec::<u64>::id(&SerdeCodec), "u64-le");
        assert_eq!(Codec::<String>::id(&SerdeCodec), "postcard");
    }
}
