//! Columns that are built of encoded rows directly, where the types have no parts.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, PrimitiveBuilder, RecordBatch,
    StringBuilder,
};
use datafusion::arrow::datatypes::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use strandline_state_api::schema::DataType;
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_reader::{Decoder, EncodedRow, Parts, Scalar, StatePart, StoredState};

use crate::layout::{Column, Origin};
use crate::scan::{BATCH_BYTES, batch};

/// Rows on their way into columns without parts.
pub(crate) struct FlatRows {
    state: StoredState,
    columns: Arc<[Column]>,
    builders: Vec<Builder>,
    /// Which columns show which field of which part of a row.
    fields: Vec<PartFields>,
    /// The columns that show none.
    others: Vec<usize>,
    parts: Parts,
    /// The form of the state whose values have the types of the columns.
    newest: usize,
    rows: usize,
    bytes: usize,
}

/// The columns of one part of a row.
struct PartFields {
    part: Part,
    decoder: Decoder,
    /// The column of each field that has one.
    columns: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    Namespace,
    MapKey,
    Value,
}

impl Part {
    fn of(origin: Origin) -> Option<(Self, usize)> {
        Some(match origin {
            Origin::Key(field) => (Self::Key, field.unwrap_or(0)),
            Origin::Namespace(field) => (Self::Namespace, field.unwrap_or(0)),
            Origin::MapKey(field) => (Self::MapKey, field.unwrap_or(0)),
            Origin::Value(field) => (Self::Value, field.unwrap_or(0)),
            _ => return None,
        })
    }

    fn in_state(self, state: &StoredState) -> Option<&StatePart> {
        match self {
            Self::Key => Some(state.key()),
            Self::Namespace => state.namespace(),
            Self::MapKey => state.map_key(),
            Self::Value => state.value(),
        }
    }

    fn in_row<'a>(self, row: &EncodedRow<'a>) -> &'a [u8] {
        match self {
            Self::Key => row.key,
            Self::Namespace => row.namespace,
            Self::MapKey => row.map_key,
            Self::Value => row.value,
        }
    }
}

impl FlatRows {
    /// The rows of a state; `None` where a column has parts, or other types than the state, or two show the same.
    pub(crate) fn new(state: &StoredState, columns: &Arc<[Column]>, parts: Parts) -> Option<Self> {
        let mut fields: Vec<PartFields> = Vec::new();
        let (mut builders, mut others) = (Vec::new(), Vec::new());
        for (at, column) in columns.iter().enumerate() {
            if column.stored != column.data_type {
                return None;
            }
            builders.push(Builder::new(&column.data_type)?);
            let Some((part, field)) = Part::of(column.origin) else {
                others.push(at);
                continue;
            };
            let decoder = part.in_state(state)?.decoder();
            if !decoder.is_flat() {
                return None;
            }
            let of_part = match fields.iter().position(|known| known.part == part) {
                Some(at) => &mut fields[at],
                None => {
                    let count = match decoder.data_type() {
                        DataType::Struct(fields) => fields.len(),
                        _ => 1,
                    };
                    fields.push(PartFields { part, decoder: decoder.clone(), columns: vec![None; count] });
                    fields.last_mut()?
                }
            };
            if of_part.columns.get_mut(field)?.replace(at).is_some() {
                return None;
            }
        }
        let (state, columns, newest) =
            (state.clone(), Arc::clone(columns), state.forms().len().checked_sub(1)?);
        Some(Self { state, columns, builders, fields, others, parts, newest, rows: 0, bytes: 0 })
    }

    /// Adds a row.
    #[inline]
    pub(crate) fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        if self.parts.value && row.form != self.newest {
            return self.push_decoded(row);
        }
        let Self { builders, fields, .. } = self;
        let mut wrong = None;
        let is_whole = fields.iter().all(|PartFields { part, decoder, columns }| {
            decoder.decode_flat(part.in_row(row), |field, scalar| {
                if let Some(Some(column)) = columns.get(field)
                    && !builders[*column].append(scalar)
                {
                    wrong = Some(*column);
                }
            })
        });
        if !is_whole {
            return Err(self.undecodable(row));
        }
        for at in &self.others {
            if !self.builders[*at].append(other(self.columns[*at].origin, row)) {
                wrong = Some(*at);
            }
        }
        if let Some(at) = wrong {
            return Err(mismatch(&self.columns[at]));
        }
        self.added(row);
        Ok(())
    }

    /// Why a row is none: some of its columns are there.
    #[cold]
    fn undecodable(&self, row: &EncodedRow<'_>) -> Error {
        row.decode(&self.state, self.parts).err().unwrap_or_else(|| {
            Error::new(ErrorKind::Internal, "the decoders of whole values and of columns differ")
        })
    }

    /// Adds a row whose value is of an older form.
    fn push_decoded(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        let decoded = row.decode(&self.state, self.parts)?;
        for (column, builder) in self.columns.iter().zip(&mut self.builders) {
            let value = column.of_row(&decoded)?;
            if !Scalar::of(&value).is_some_and(|scalar| builder.append(scalar)) {
                return Err(mismatch(column));
            }
        }
        self.added(row);
        Ok(())
    }

    fn added(&mut self, row: &EncodedRow<'_>) {
        self.rows += 1;
        self.bytes += row.key.len() + row.namespace.len() + row.map_key.len() + row.value.len();
    }

    pub(crate) fn is_full(&self, max_rows: usize) -> bool {
        self.rows >= max_rows || self.bytes >= BATCH_BYTES
    }

    /// Takes the rows as a batch; `None` if there are none.
    pub(crate) fn take(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        batch(schema, self.builders.iter_mut().map(Builder::finish).collect(), rows).map(Some)
    }
}

#[cold]
fn mismatch(column: &Column) -> Error {
    let message = format!("a value is none of the type {} of its column", column.data_type);
    Error::invalid(message).with("column", &column.name)
}

/// What a row has that is no encoded part of it.
fn other(origin: Origin, row: &EncodedRow<'_>) -> Scalar<'static> {
    let millis = |time: Option<i64>| time.map_or(Scalar::Null, Scalar::Int);
    match origin {
        Origin::Index => row.index.map_or(Scalar::Null, Scalar::UInt),
        Origin::Stamp => millis(row.stamp.map(|stamp| stamp.as_millis())),
        Origin::Expiry(ttl) => millis(row.stamp.map(|stamp| stamp.as_millis().saturating_add(ttl))),
        Origin::Time => millis(row.time.map(|time| time.as_millis())),
        Origin::KeyGroup => Scalar::UInt(row.key_group.index().into()),
        Origin::Subtask => Scalar::UInt(row.subtask.into()),
        Origin::Key(_) | Origin::Namespace(_) | Origin::MapKey(_) | Origin::Value(_) => Scalar::Null,
    }
}

/// A column that grows.
enum Builder {
    Bool(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    UInt8(PrimitiveBuilder<UInt8Type>),
    UInt16(PrimitiveBuilder<UInt16Type>),
    UInt32(PrimitiveBuilder<UInt32Type>),
    UInt64(PrimitiveBuilder<UInt64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

/// Does the same with whichever builder there is.
macro_rules! each {
    ($of:expr, $builder:ident => $then:expr) => {
        match $of {
            Self::Bool($builder) => $then,
            Self::Int8($builder) => $then,
            Self::Int16($builder) => $then,
            Self::Int32($builder) => $then,
            Self::Int64($builder) => $then,
            Self::UInt8($builder) => $then,
            Self::UInt16($builder) => $then,
            Self::UInt32($builder) => $then,
            Self::UInt64($builder) => $then,
            Self::Float32($builder) => $then,
            Self::Float64($builder) => $then,
            Self::Text($builder) => $then,
            Self::Bytes($builder) => $then,
        }
    };
}

impl Builder {
    fn new(of: &DataType) -> Option<Self> {
        Some(match of {
            DataType::Option(of) => Self::new(of)?,
            DataType::Bool => Self::Bool(BooleanBuilder::new()),
            DataType::Int { signed: true, bits } => match bits {
                8 => Self::Int8(PrimitiveBuilder::new()),
                16 => Self::Int16(PrimitiveBuilder::new()),
                32 => Self::Int32(PrimitiveBuilder::new()),
                64 => Self::Int64(PrimitiveBuilder::new()),
                _ => return None,
            },
            DataType::Int { signed: false, bits } => match bits {
                8 => Self::UInt8(PrimitiveBuilder::new()),
                16 => Self::UInt16(PrimitiveBuilder::new()),
                32 => Self::UInt32(PrimitiveBuilder::new()),
                64 => Self::UInt64(PrimitiveBuilder::new()),
                _ => return None,
            },
            DataType::Float { bits: 32 } => Self::Float32(PrimitiveBuilder::new()),
            DataType::Float { .. } => Self::Float64(PrimitiveBuilder::new()),
            DataType::Text => Self::Text(StringBuilder::new()),
            DataType::Bytes => Self::Bytes(BinaryBuilder::new()),
            _ => return None,
        })
    }

    /// Appends a value; returns `false` and leaves it out where the column has another type.
    #[inline]
    fn append(&mut self, scalar: Scalar<'_>) -> bool {
        match (self, scalar) {
            (Self::UInt64(builder), Scalar::UInt(v)) => builder.append_value(v),
            (Self::Int64(builder), Scalar::Int(v)) => builder.append_value(v),
            (Self::Bool(builder), Scalar::Bool(v)) => builder.append_value(v),
            (Self::Int8(builder), Scalar::Int(v)) => return narrow(builder, v),
            (Self::Int16(builder), Scalar::Int(v)) => return narrow(builder, v),
            (Self::Int32(builder), Scalar::Int(v)) => return narrow(builder, v),
            (Self::UInt8(builder), Scalar::UInt(v)) => return narrow(builder, v),
            (Self::UInt16(builder), Scalar::UInt(v)) => return narrow(builder, v),
            (Self::UInt32(builder), Scalar::UInt(v)) => return narrow(builder, v),
            (Self::Float32(builder), Scalar::Float(v)) => builder.append_value(v as f32),
            (Self::Float64(builder), Scalar::Float(v)) => builder.append_value(v),
            (Self::Text(builder), Scalar::Text(v)) => builder.append_value(v),
            (Self::Bytes(builder), Scalar::Bytes(v)) => builder.append_value(v),
            (builder, Scalar::Null) => each!(builder, builder => builder.append_null()),
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        each!(self, builder => ArrayBuilder::finish(builder))
    }
}

fn narrow<T: ArrowPrimitiveType, V: TryInto<T::Native>>(builder: &mut PrimitiveBuilder<T>, value: V) -> bool {
    value.try_into().map(|value| builder.append_value(value)).is_ok()
}
