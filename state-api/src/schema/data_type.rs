//! The types of stored keys and values, as a program sees them that does not have the job.

use std::fmt;
use std::str::FromStr;

use super::form::{Field, Form, MAX_TEXT};
use crate::{Error, Result};

/// The type of a stored key, namespace, map key or value: what it consists of, and the names of its parts.
///
/// A snapshot holds a type as text, the form in which [`Display`](fmt::Display) writes it and
/// [`FromStr`] reads it:
///
/// | text | type |
/// | --- | --- |
/// | `_` | anything; only encodings that describe themselves have it |
/// | `bool`, `u8` to `u128`, `i8` to `i128`, `f32`, `f64`, `char`, `str`, `bytes`, `()` | these |
/// | `time` | a point in time, in nanoseconds since 1970 |
/// | `?T`, `[T]`, `[K:V]`, `(A,B,)` | an option, a list, a map, a tuple |
/// | `{a:A,"b c":B}` | a struct; a name that is not made of letters, digits, `_` and `-` is quoted |
/// | `<A:(),B:T>` | an enum, with what follows each variant |
///
/// ```
/// use strandline_state_api::schema::DataType;
///
/// let account: DataType = "{bank:u32,number:str,limit:?i64}".parse()?;
/// let DataType::Struct(fields) = &account else { panic!() };
/// assert_eq!((fields[1].name.as_str(), &fields[1].data_type), ("number", &DataType::Text));
/// assert_eq!(account.to_string(), "{bank:u32,number:str,limit:?i64}");
/// # Ok::<(), strandline_state_api::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataType {
    /// Anything: the encoded value describes itself.
    Any,
    /// `true` or `false`.
    Bool,
    /// An integer of 8, 16, 32, 64 or 128 bits.
    Int {
        /// Whether it has a sign.
        signed: bool,
        /// Its width.
        bits: u8,
    },
    /// A floating-point number of 32 or 64 bits.
    Float {
        /// Its width.
        bits: u8,
    },
    /// A Unicode character.
    Char,
    /// UTF-8 text.
    Text,
    /// Uninterpreted bytes.
    Bytes,
    /// Nothing: the type has one value.
    Unit,
    /// A point in time, in nanoseconds since 1970.
    Timestamp,
    /// A value that may be missing.
    Option(Box<Self>),
    /// Any number of values.
    List(Box<Self>),
    /// Any number of pairs of a key and a value.
    Map(Box<Self>, Box<Self>),
    /// Values in an order, without names.
    Tuple(Vec<Self>),
    /// Values with names.
    Struct(Vec<NamedType>),
    /// One of several variants, each with what follows it: [`DataType::Unit`] for nothing.
    Enum(Vec<NamedType>),
}

/// A field of a struct, or a variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedType {
    /// The name.
    pub name: String,
    /// The type.
    pub data_type: DataType,
}

impl NamedType {
    /// Pairs a name with a type.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type }
    }
}

impl DataType {
    /// An unsigned integer of 64 bits.
    pub const U64: Self = Self::Int { signed: false, bits: 64 };
    /// A signed integer of 64 bits.
    pub const I64: Self = Self::Int { signed: true, bits: 64 };
    /// A floating-point number of 64 bits.
    pub const F64: Self = Self::Float { bits: 64 };

    /// Returns a struct of these fields.
    pub fn of_fields<N: Into<String>>(fields: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Struct(fields.into_iter().map(|(name, of)| NamedType::new(name, of)).collect())
    }

    /// Returns the type of a window of time: its start and its end in milliseconds since 1970.
    pub fn window() -> Self {
        Self::of_fields([("start", Self::I64), ("end", Self::I64)])
    }

    /// Returns the form that types of self-describing codecs are compared by, where it can be stored.
    fn form(&self) -> Form {
        let boxed = |of: &Self| Box::new(of.form());
        match self {
            Self::Any => Form::Any,
            Self::Bool => Form::Bool,
            Self::Int { signed, bits } => Form::Int { signed: *signed, bits: *bits },
            Self::Float { bits } => Form::Float(*bits),
            Self::Char => Form::Char,
            Self::Text => Form::Str,
            Self::Bytes => Form::Bytes,
            Self::Unit => Form::Unit,
            Self::Timestamp => Form::Time,
            Self::Option(of) => Form::Option(boxed(of)),
            Self::List(of) => Form::Seq(boxed(of)),
            Self::Map(key, value) => Form::Map(boxed(key), boxed(value)),
            Self::Tuple(parts) => Form::Tuple(parts.iter().map(Self::form).collect()),
            Self::Struct(fields) => {
                let field = |NamedType { name, data_type }: &NamedType| Field {
                    names: vec![name.clone()],
                    optional: false,
                    form: data_type.form(),
                };
                Form::Struct { fields: fields.iter().map(field).collect(), closed: false }
            }
            Self::Enum(variants) => {
                let variant = |of: &NamedType| (of.name.clone(), of.data_type.form());
                Form::Enum { variants: variants.iter().map(variant).collect(), open: false }
            }
        }
    }
}

impl From<Form> for DataType {
    fn from(form: Form) -> Self {
        let boxed = |form: Box<Form>| Box::new(Self::from(*form));
        match form {
            Form::Any => Self::Any,
            Form::Bool => Self::Bool,
            Form::Int { signed, bits } => Self::Int { signed, bits },
            Form::Float(bits) => Self::Float { bits },
            Form::Char => Self::Char,
            Form::Str => Self::Text,
            Form::Bytes => Self::Bytes,
            Form::Unit => Self::Unit,
            Form::Time => Self::Timestamp,
            Form::Option(of) => Self::Option(boxed(of)),
            Form::Seq(of) => Self::List(boxed(of)),
            Form::Map(key, value) => Self::Map(boxed(key), boxed(value)),
            Form::Tuple(parts) => Self::Tuple(parts.into_iter().map(Self::from).collect()),
            Form::Struct { fields, .. } => {
                let field = |Field { names, form, .. }: Field| {
                    NamedType::new(names.into_iter().next().unwrap_or_default(), Self::from(form))
                };
                Self::Struct(fields.into_iter().map(field).collect())
            }
            Form::Enum { variants, .. } => {
                let variant = |(name, form)| NamedType { name, data_type: Self::from(form) };
                Self::Enum(variants.into_iter().map(variant).collect())
            }
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form().fmt(f)
    }
}

impl FromStr for DataType {
    type Err = Error;

    /// Reads the text of a type. The text may come from anywhere: one that is long, or nested deeply, is
    /// refused.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the text is no type, is longer than 16 KiB, or has more than
    /// 64 levels.
    fn from_str(text: &str) -> Result<Self> {
        let form = if text.len() > MAX_TEXT { None } else { Form::parse(text) };
        form.map(Self::from).ok_or_else(|| {
            let start: String = text.chars().take(80).collect();
            Error::invalid(format!("{start:?} is no description of a type"))
        })
    }
}

#[cfg(test)]
mod tests;
