//! The columns that a `CREATE TABLE` declares.

use datafusion::sql::sqlparser::ast::{CreateTable, DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use strandline_state_api::schema::DataType;
use strandline_state_api::{Error, Result};

use crate::layout::Column;

/// The names and types of columns.
#[derive(Debug)]
pub(super) struct Declared(Vec<(String, DataType)>);

impl Declared {
    pub(super) fn of(statement: &CreateTable) -> Result<Self> {
        let mut columns: Vec<(String, DataType)> = Vec::new();
        for column in &statement.columns {
            let name = column.name.value.clone();
            if columns.iter().any(|(known, _)| *known == name) {
                return Err(Error::invalid(format!("the column {name} is declared twice")));
            }
            columns.push((name, data_type(&column.data_type)?));
        }
        if columns.is_empty() {
            return Err(Error::invalid("the table declares no column"));
        }
        Ok(Self(columns))
    }

    pub(super) fn columns(&self) -> &[(String, DataType)] {
        &self.0
    }

    pub(super) fn into_columns(self) -> Vec<(String, DataType)> {
        self.0
    }

    /// Returns the column that an option names.
    pub(super) fn named(&self, name: &str) -> Result<(String, DataType)> {
        self.0.iter().find(|(known, _)| known == name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            Error::invalid(format!("an option names the column {name}, and there are {}", known.join(", ")))
        })
    }

    /// Returns the column of the state that a declared one shows by its name.
    pub(super) fn native<'c>(&self, name: &str, native: &'c [Column]) -> Result<&'c Column> {
        native.iter().find(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<_> = native.iter().map(|column| column.name.as_str()).collect();
            Error::invalid(format!(
                "the column {name} receives nothing: name it in 'key' or 'value', or call it as one of the state: {}",
                known.join(", ")
            ))
        })
    }
}

/// Returns the type that a declaration asks for.
fn data_type(sql: &SqlType) -> Result<DataType> {
    let int = |signed, bits| DataType::Int { signed, bits };
    Ok(match sql {
        SqlType::Boolean | SqlType::Bool => DataType::Bool,
        SqlType::TinyInt(_) => int(true, 8),
        SqlType::SmallInt(_) | SqlType::Int2(_) => int(true, 16),
        SqlType::Int(_) | SqlType::Integer(_) | SqlType::Int4(_) => int(true, 32),
        SqlType::BigInt(_) | SqlType::Int8(_) => int(true, 64),
        SqlType::TinyIntUnsigned(_) => int(false, 8),
        SqlType::SmallIntUnsigned(_) | SqlType::Int2Unsigned(_) => int(false, 16),
        SqlType::IntUnsigned(_) | SqlType::IntegerUnsigned(_) | SqlType::Int4Unsigned(_) => int(false, 32),
        SqlType::BigIntUnsigned(_) | SqlType::Int8Unsigned(_) => int(false, 64),
        // All digits that integers of 128 bits have.
        SqlType::Decimal(ExactNumberInfo::None) | SqlType::Numeric(ExactNumberInfo::None) => int(true, 128),
        SqlType::Float(_) | SqlType::Real | SqlType::Float4 => DataType::Float { bits: 32 },
        SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Float8 => DataType::F64,
        SqlType::String(_)
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Character(_) => DataType::Text,
        SqlType::Bytea
        | SqlType::Bytes(_)
        | SqlType::Binary(_)
        | SqlType::Varbinary(_)
        | SqlType::Blob(_) => DataType::Bytes,
        SqlType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            DataType::Timestamp
        }
        other => {
            return Err(Error::invalid(format!(
                "a column of state is no {other}: there are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT (each also \
                 UNSIGNED), DECIMAL, FLOAT, DOUBLE, STRING, BYTEA and TIMESTAMP"
            )));
        }
    })
}

/// Whether a declared type holds some value of a stored type.
pub(super) fn may_hold(declared: &DataType, stored: &DataType) -> bool {
    match (declared, stored) {
        (DataType::Text, _) => true,
        (declared, DataType::Option(of)) => may_hold(declared, of),
        (declared, DataType::Struct(fields)) => {
            matches!(&fields[..], [only] if may_hold(declared, &only.data_type))
        }
        (DataType::Int { .. } | DataType::Float { .. }, DataType::Int { .. }) => true,
        (DataType::Float { .. }, DataType::Float { .. }) => true,
        (declared, stored) => declared == stored,
    }
}
