//! Finds out what a type writes in a wire format that has no names: fields by their order, variants by their
//! number.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_reflection::{
    ContainerFormat, Format, FormatHolder, Named, Registry, Tracer, TracerConfig, VariantFormat,
};

use super::super::form::MAX_TEXT;
use super::super::{DataType, data_type::NamedType};

/// The greatest depth of a type, so that each reader has the stack for it.
const MAX_DEPTH: usize = 48;

/// Returns the type; `None` when `Deserialize` does not reveal it, or when it contains itself.
pub(super) fn data_type<T: DeserializeOwned>() -> Option<DataType> {
    let mut tracer = Tracer::new(TracerConfig::default());
    let (mut format, _) = tracer.trace_simple_type::<T>().ok()?;
    format.normalize().ok()?;
    let registry = tracer.registry().ok()?;
    let data_type = Types { registry: &registry }.of(&format, 0)?;
    (data_type.to_string().len() <= MAX_TEXT).then_some(data_type)
}

struct Types<'r> {
    registry: &'r Registry,
}

impl Types<'_> {
    fn of(&self, format: &Format, depth: usize) -> Option<DataType> {
        // A type within itself ends here, too.
        if depth > MAX_DEPTH {
            return None;
        }
        let boxed = |format: &Format| self.of(format, depth + 1).map(Box::new);
        let int = |signed, bits| DataType::Int { signed, bits };
        Some(match format {
            Format::Variable(_) => return None,
            Format::TypeName(name) => return self.container(self.registry.get(name)?, depth + 1),
            Format::Unit => DataType::Unit,
            Format::Bool => DataType::Bool,
            Format::I8 => int(true, 8),
            Format::I16 => int(true, 16),
            Format::I32 => int(true, 32),
            Format::I64 => int(true, 64),
            Format::I128 => int(true, 128),
            Format::U8 => int(false, 8),
            Format::U16 => int(false, 16),
            Format::U32 => int(false, 32),
            Format::U64 => int(false, 64),
            Format::U128 => int(false, 128),
            Format::F32 => DataType::Float { bits: 32 },
            Format::F64 => DataType::F64,
            Format::Char => DataType::Char,
            Format::Str => DataType::Text,
            Format::Bytes => DataType::Bytes,
            // A list of bytes is stored as bytes are.
            Format::Seq(of) if **of == Format::U8 => DataType::Bytes,
            Format::Option(of) => DataType::Option(boxed(of)?),
            Format::Seq(of) => DataType::List(boxed(of)?),
            Format::Map { key, value } => DataType::Map(boxed(key)?, boxed(value)?),
            Format::Tuple(parts) => self.tuple(parts, depth)?,
            Format::TupleArray { content, size } => {
                DataType::Tuple(vec![self.of(content, depth + 1)?; (*size).min(MAX_TEXT)])
            }
        })
    }

    fn tuple(&self, parts: &[Format], depth: usize) -> Option<DataType> {
        let parts: Vec<_> = parts.iter().map(|part| self.of(part, depth + 1)).collect::<Option<_>>()?;
        Some(if parts.is_empty() { DataType::Unit } else { DataType::Tuple(parts) })
    }

    fn fields(&self, fields: &[Named<Format>], depth: usize) -> Option<DataType> {
        let field =
            |field: &Named<Format>| Some(NamedType::new(&field.name, self.of(&field.value, depth + 1)?));
        Some(DataType::Struct(fields.iter().map(field).collect::<Option<_>>()?))
    }

    fn container(&self, container: &ContainerFormat, depth: usize) -> Option<DataType> {
        match container {
            ContainerFormat::UnitStruct => Some(DataType::Unit),
            ContainerFormat::NewTypeStruct(of) => self.of(of, depth + 1),
            ContainerFormat::TupleStruct(parts) => self.tuple(parts, depth),
            ContainerFormat::Struct(fields) => self.fields(fields, depth),
            ContainerFormat::Enum(variants) => self.variants(variants, depth),
        }
    }

    fn variants(&self, variants: &BTreeMap<u32, Named<VariantFormat>>, depth: usize) -> Option<DataType> {
        let mut named = Vec::with_capacity(variants.len());
        for ((number, variant), expected) in variants.iter().zip(0..) {
            if *number != expected {
                return None;
            }
            let data_type = match &variant.value {
                VariantFormat::Variable(_) => return None,
                VariantFormat::Unit => DataType::Unit,
                VariantFormat::NewType(of) => self.of(of, depth + 1)?,
                VariantFormat::Tuple(parts) => self.tuple(parts, depth)?,
                VariantFormat::Struct(fields) => self.fields(fields, depth)?,
            };
            named.push(NamedType::new(&variant.name, data_type));
        }
        Some(DataType::Enum(named))
    }
}
