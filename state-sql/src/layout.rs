//! The columns of a table, and what a row of state has in them.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use strandline_state_api::Result;
use strandline_state_api::schema::{DataType, StateKind};
use strandline_state_reader::{
    OperatorElement, OperatorStateInfo, Parts, Row, StatePart, StoredState, Value,
};

use crate::arrow::field;
use crate::convert::convert;

/// Where the value of a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A part of the row, or a field of it.
    Key(Option<usize>),
    Namespace(Option<usize>),
    MapKey(Option<usize>),
    Value(Option<usize>),
    /// The number of the element in its list.
    Index,
    /// When the time-to-live was last reset.
    Stamp,
    /// When the time-to-live ends, so many milliseconds later.
    Expiry(i64),
    /// When the timer is due.
    Time,
    KeyGroup,
    Subtask,
}

impl Origin {
    /// Whether two rows with equal columns of this kind, and an equal key, are the same entry of a state.
    pub(crate) fn is_identity(self) -> bool {
        matches!(
            self,
            Self::Key(_) | Self::Namespace(_) | Self::MapKey(_) | Self::Index | Self::Time | Self::KeyGroup
        )
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type as which the column is shown.
    pub(crate) data_type: DataType,
    /// The type of the stored value.
    pub(crate) stored: DataType,
    pub(crate) origin: Origin,
}

impl Column {
    /// Returns what a row has in the column.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the type of the column does not hold the value.
    pub(crate) fn of_row(&self, row: &Row) -> Result<Value> {
        let millis = |time: Option<i64>| time.map_or(Value::Null, Value::Int);
        let value = match self.origin {
            Origin::Key(part) => part_of(row.key.as_ref(), part),
            Origin::Namespace(part) => part_of(row.namespace.as_ref(), part),
            Origin::MapKey(part) => part_of(row.map_key.as_ref(), part),
            Origin::Value(part) => part_of(row.value.as_ref(), part),
            Origin::Index => row.index.map_or(Value::Null, Value::UInt),
            Origin::Stamp => millis(row.stamp.map(|stamp| stamp.as_millis())),
            Origin::Expiry(ttl) => millis(row.stamp.map(|stamp| stamp.as_millis().saturating_add(ttl))),
            Origin::Time => millis(row.time.map(|time| time.as_millis())),
            Origin::KeyGroup => Value::UInt(row.key_group.index().into()),
            Origin::Subtask => Value::UInt(row.subtask.into()),
        };
        self.shown(value)
    }

    /// Returns what an element of an operator state has in the column.
    ///
    /// # Errors
    /// As [`of_row`](Self::of_row).
    pub(crate) fn of_element(&self, element: &OperatorElement) -> Result<Value> {
        let value = match self.origin {
            Origin::MapKey(part) => part_of(element.map_key.as_ref(), part),
            Origin::Value(part) => part_of(Some(&element.value), part),
            Origin::Index => Value::UInt(element.index),
            Origin::Subtask => Value::UInt(element.subtask.into()),
            _ => Value::Null,
        };
        self.shown(value)
    }

    fn shown(&self, value: Value) -> Result<Value> {
        if self.stored == self.data_type {
            return Ok(value);
        }
        convert(value, &self.stored, &self.data_type)
    }
}

fn part_of(value: Option<&Value>, part: Option<usize>) -> Value {
    match (value, part) {
        (Some(Value::Record(values)), Some(part)) => values.get(part).cloned().unwrap_or_default(),
        (_, Some(_)) | (None, None) => Value::Null,
        (Some(value), None) => value.clone(),
    }
}

/// Returns the schema of a table with these columns.
pub(crate) fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(
        columns.iter().map(|column| field(&column.name, &column.data_type)).collect::<Vec<_>>(),
    ))
}

/// Returns which parts of a row some columns need.
pub(crate) fn parts<'c>(columns: impl IntoIterator<Item = &'c Column>) -> Parts {
    let mut parts = Parts::NONE;
    for column in columns {
        match column.origin {
            Origin::Key(_) => parts.key = true,
            Origin::Namespace(_) => parts.namespace = true,
            Origin::MapKey(_) => parts.map_key = true,
            Origin::Value(_) => parts.value = true,
            _ => {}
        }
    }
    parts
}

/// The columns of a keyed state or of timers, as `docs/sql.md` describes them.
pub(crate) fn of_state(state: &StoredState) -> Vec<Column> {
    let mut columns = Columns::default();
    if state.kind().is_timers() {
        columns.push("time", DataType::I64, Origin::Time);
    }
    columns.part("key", Some(state.key()), Origin::Key);
    columns.part("namespace", state.namespace(), Origin::Namespace);
    columns.part("map_key", state.map_key(), Origin::MapKey);
    if state.kind() == StateKind::List {
        columns.push("index", DataType::U64, Origin::Index);
    }
    columns.part("value", state.value(), Origin::Value);
    if state.is_stamped() {
        columns.push("stamp", DataType::I64, Origin::Stamp);
        if let Some(ttl) = state.ttl_ms() {
            columns.push("expiry", DataType::I64, Origin::Expiry(ttl));
        }
    }
    columns.push("key_group", DataType::Int { signed: false, bits: 16 }, Origin::KeyGroup);
    columns.0
}

/// The columns of an operator state.
pub(crate) fn of_elements(state: &OperatorStateInfo) -> Vec<Column> {
    let mut columns = Columns::default();
    columns.push("subtask", DataType::Int { signed: false, bits: 32 }, Origin::Subtask);
    columns.push("index", DataType::U64, Origin::Index);
    columns.part("map_key", state.map_key.as_ref(), Origin::MapKey);
    columns.part("value", Some(&state.value), Origin::Value);
    columns.0
}

#[derive(Default)]
struct Columns(Vec<Column>);

impl Columns {
    fn push(&mut self, name: &str, data_type: DataType, origin: Origin) {
        let mut name = name.to_owned();
        while self.0.iter().any(|column| column.name == name) {
            name.push('_');
        }
        self.0.push(Column { name, stored: data_type.clone(), data_type, origin });
    }

    /// Adds the columns of a part.
    fn part(&mut self, part: &str, of: Option<&StatePart>, origin: fn(Option<usize>) -> Origin) {
        let Some(of) = of else { return };
        let taken: Vec<_> = self.0.iter().map(|column| column.name.clone()).collect();
        for column in of.columns(part, taken) {
            self.push(&column.name, column.data_type, origin(column.field));
        }
    }
}
