//! Keys of groups: one integer where the key is one, rows of values otherwise.

use strandline_connectors::{Column, ColumnType, Row, RowKey, Value};
use strandline_state_api::StateKey;
use strandline_state_api::schema::{DataType, Description, Encoding};

/// A key that is made of columns of a row and becomes columns again.
pub(super) trait GroupKey: StateKey + Sync {
    /// The key of a row.
    fn of(row: &Row, columns: &[(usize, Column)]) -> Self;

    /// Appends the key's columns to a result.
    fn append_to(&self, columns: &[(usize, Column)], row: &mut Row);

    /// How the stored keys are encoded.
    const ENCODING: Encoding;

    /// The key as a program sees it that reads a checkpoint: its columns under their names.
    fn description_of(columns: &[(usize, Column)]) -> Description {
        let columns = columns.iter().map(|(_, column)| (&column.name, data_type(column)));
        Description::new(Self::ENCODING, DataType::of_fields(columns))
    }
}

/// The type of a column in a checkpoint.
pub(super) fn data_type(column: &Column) -> DataType {
    let of = match column.kind {
        ColumnType::Bool => DataType::Bool,
        ColumnType::Int => DataType::I64,
        ColumnType::UInt => DataType::U64,
        ColumnType::Float => DataType::F64,
        ColumnType::Text => DataType::Text,
        ColumnType::Timestamp => DataType::Timestamp,
    };
    if column.nullable { DataType::Option(Box::new(of)) } else { of }
}

/// The bits of a signed or an unsigned integer, by the type of its column.
impl GroupKey for u64 {
    const ENCODING: Encoding = Encoding::BigEndian;

    #[inline]
    fn of(row: &Row, columns: &[(usize, Column)]) -> Self {
        match columns.first().map(|(index, _)| row.get(*index)) {
            Some(Value::UInt(key)) => *key,
            Some(Value::Int(key)) => *key as u64,
            _ => 0,
        }
    }

    #[inline]
    fn append_to(&self, columns: &[(usize, Column)], row: &mut Row) {
        row.push(match columns.first().map(|(_, column)| column.kind) {
            Some(ColumnType::Int) => Value::Int(*self as i64),
            _ => Value::UInt(*self),
        });
    }
}

impl GroupKey for RowKey {
    const ENCODING: Encoding = Encoding::RowKey;

    #[inline]
    fn of(row: &Row, columns: &[(usize, Column)]) -> Self {
        Self::new(columns.iter().map(|(index, _)| row.get(*index).clone()))
    }

    #[inline]
    fn append_to(&self, _: &[(usize, Column)], row: &mut Row) {
        row.0.extend(self.0.iter().cloned());
    }
}

/// Whether [`u64`] can be the key: one integer column that is never null.
pub(super) fn is_integer(columns: &[(usize, Column)]) -> bool {
    let [(_, column)] = columns else { return false };
    matches!(column.kind, ColumnType::Int | ColumnType::UInt) && !column.nullable
}
