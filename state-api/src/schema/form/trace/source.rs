//! A source of values that are made up.

use std::any::type_name;
use std::fmt::{self, Display};

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::super::Form;
use super::{Node, Path, Trace};

/// Texts that are made up, the most common first: some types accept only a date, an address or the like.
const TEXTS: [&str; 9] = [
    "",
    "1",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "a:b",
];

/// Lengths of byte strings that are made up.
const LENGTHS: [usize; 6] = [0, 16, 4, 8, 32, 1];

/// The most elements of a tuple or an array that are made up.
const MOST_ELEMENTS: usize = 1 << 12;

/// Why a run failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// A type refused a value.
    Refused,
    /// A field of this name got two values, under two of its names.
    Duplicate(&'static str),
    /// A field without a default was left out.
    Missing,
    /// A field or variant that nobody knows was refused.
    Unknown,
    /// The type at this place contains itself.
    Endless(Path),
    /// The type asks for what cannot be made up.
    Unsupported,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<M: Display>(_: M) -> Self {
        Self::Refused
    }

    fn unknown_variant(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Unknown
    }

    fn missing_field(_: &'static str) -> Self {
        Self::Missing
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Duplicate(field)
    }
}

/// Makes up the value at one place.
pub(super) struct Source<'t> {
    trace: &'t mut Trace,
    path: Path,
    /// The types around this place.
    types: Vec<&'static str>,
}

impl<'t> Source<'t> {
    pub(super) fn new(trace: &'t mut Trace) -> Self {
        Self { trace, path: Path::new(), types: Vec::new() }
    }

    fn child(&mut self, step: &str) -> Source<'_> {
        let path = format!("{}{step}", self.path);
        Source { trace: &mut *self.trace, path, types: self.types.clone() }
    }

    fn note(&mut self, node: Node) {
        self.trace.visited.insert(self.path.clone());
        self.trace.nodes.entry(self.path.clone()).or_insert(node);
    }

    /// Notes a leaf; returns which value it gets.
    fn leaf(&mut self, form: Form) -> usize {
        self.note(Node::Leaf(form));
        self.trace.last_leaf.clone_from(&self.path);
        self.trace.attempts.get(&self.path).copied().unwrap_or_default()
    }

    fn is_cut(&self) -> bool {
        self.trace.cut.contains(&self.path)
    }

    /// Enters a type that may contain itself.
    fn enter<V>(&mut self) -> Result<(), Failure> {
        // The visitor of a derived implementation is a type for each type.
        let name = type_name::<V>();
        if self.types.contains(&name) {
            return Err(Failure::Endless(self.path.clone()));
        }
        self.types.push(name);
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty, $form:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
            // Some types refuse 0, some accept nothing else.
            match self.leaf($form) {
                0 => visitor.$visit(1 as $type),
                1 => visitor.$visit(0 as $type),
                _ => Err(Failure::Unsupported),
            }
        }
    )*};
}

const fn int(signed: bool, bits: u8) -> Form {
    Form::Int { signed, bits }
}

impl<'de> Deserializer<'de> for Source<'_> {
    type Error = Failure;

    numbers! {
        deserialize_u8 visit_u8 u8, int(false, 8);
        deserialize_u16 visit_u16 u16, int(false, 16);
        deserialize_u32 visit_u32 u32, int(false, 32);
        deserialize_u64 visit_u64 u64, int(false, 64);
        deserialize_u128 visit_u128 u128, int(false, 128);
        deserialize_i8 visit_i8 i8, int(true, 8);
        deserialize_i16 visit_i16 i16, int(true, 16);
        deserialize_i32 visit_i32 i32, int(true, 32);
        deserialize_i64 visit_i64 i64, int(true, 64);
        deserialize_i128 visit_i128 i128, int(true, 128);
        deserialize_f32 visit_f32 f32, Form::Float(32);
        deserialize_f64 visit_f64 f64, Form::Float(64);
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.leaf(Form::Bool) {
            attempt @ (0 | 1) => visitor.visit_bool(attempt == 1),
            _ => Err(Failure::Unsupported),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.leaf(Form::Char) {
            0 => visitor.visit_char('a'),
            _ => Err(Failure::Unsupported),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let attempt = self.leaf(Form::Str);
        visitor.visit_str(TEXTS.get(attempt).ok_or(Failure::Unsupported)?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        let attempt = self.leaf(Form::Bytes);
        visitor.visit_bytes(&vec![0; *LENGTHS.get(attempt).ok_or(Failure::Unsupported)?])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        match self.leaf(Form::Any) {
            0 => visitor.visit_unit(),
            1 => visitor.visit_u64(1),
            2 => visitor.visit_str(""),
            _ => Err(Failure::Unsupported),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Failure> {
        Err(Failure::Unsupported)
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.leaf(Form::Unit);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.enter::<V>()?;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.note(Node::Option);
        if self.is_cut() { visitor.visit_none() } else { visitor.visit_some(self.child("?")) }
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.note(Node::Seq);
        let left = usize::from(!self.is_cut());
        visitor.visit_seq(Elements { source: self, next: 0, left, numbered: false })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        // Who asks for more takes what comes, however much that is: no elements can be made up for it.
        if len > MOST_ELEMENTS {
            return Err(Failure::Unsupported);
        }
        self.note(Node::Tuple(len));
        visitor.visit_seq(Elements { source: self, next: 0, left: len, numbered: true })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.enter::<V>()?;
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Failure> {
        self.note(Node::Map);
        let left = usize::from(!self.is_cut());
        visitor.visit_map(Entries { source: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.enter::<V>()?;
        self.note(Node::Struct { fields, choices: self.trace.choices.clone() });
        let surplus = self.trace.surplus.as_ref() == Some(&self.path);
        visitor.visit_map(Fields { source: self, fields: fields.iter(), current: "", surplus })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.enter::<V>()?;
        self.trace.choices.entry(self.path.clone()).or_default();
        self.note(Node::Enum { variants, choices: self.trace.choices.clone() });
        visitor.visit_enum(self)
    }
}

/// The elements of a sequence or of a tuple.
struct Elements<'t> {
    source: Source<'t>,
    next: usize,
    left: usize,
    numbered: bool,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        if self.next == self.left {
            return Ok(None);
        }
        let step = if self.numbered { format!(".{}", self.next) } else { "[]".to_owned() };
        self.next += 1;
        seed.deserialize(self.source.child(&step)).map(Some)
    }
}

/// The entries of a map.
struct Entries<'t> {
    source: Source<'t>,
    left: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.source.child("[key]")).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(self.source.child("[]"))
    }
}

/// The fields of a struct, one name of each.
struct Fields<'t> {
    source: Source<'t>,
    fields: std::slice::Iter<'static, &'static str>,
    current: &'static str,
    /// Whether a field that nobody knows is yet to come.
    surplus: bool,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        for &name in self.fields.by_ref() {
            let at = (self.source.path.clone(), name);
            if self.source.trace.aliases.contains_key(&at) || self.source.trace.omitted.as_ref() == Some(&at)
            {
                continue;
            }
            self.current = name;
            self.source.trace.last_key = Some(at);
            return seed.deserialize(key(name)).map(Some);
        }
        if std::mem::take(&mut self.surplus) {
            self.current = "";
            return seed.deserialize(key("a field that no type has")).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let step = format!(".{}", self.current);
        seed.deserialize(self.source.child(&step))
    }
}

fn key(name: &'static str) -> StrDeserializer<'static, Failure> {
    name.into_deserializer()
}

impl<'de> EnumAccess<'de> for Source<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Failure> {
        let chosen = self.trace.choices.get(&self.path).copied().unwrap_or_default();
        let Some(Node::Enum { variants, .. }) = self.trace.nodes.get(&self.path) else {
            return Err(Failure::Unsupported);
        };
        let name = variants.get(chosen).copied().unwrap_or("a variant that no type has");
        let variant = match self.trace.numbered {
            true => {
                let number: U32Deserializer<Failure> = (chosen as u32).into_deserializer();
                seed.deserialize(number)?
            }
            false => seed.deserialize(key(name))?,
        };
        self.path.push('/');
        self.path.push_str(name);
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Source<'_> {
    type Error = Failure;

    fn unit_variant(mut self) -> Result<(), Failure> {
        self.leaf(Form::Unit);
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.note(Node::Struct { fields, choices: self.trace.choices.clone() });
        let surplus = self.trace.surplus.as_ref() == Some(&self.path);
        visitor.visit_map(Fields { source: self, fields: fields.iter(), current: "", surplus })
    }
}
