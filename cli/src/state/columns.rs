//! The columns that rows of state are printed in: fields of structs under their names.

use serde_json::{Value as Json, json};
use strandline_state_api::schema::DataType;
use strandline_state_reader::{
    OperatorElement, OperatorStateInfo, PartColumn, Parts, Row, StatePart, StoredState, Typed, Value,
};

/// A column: its name, and what a row has there.
pub(super) struct Column<R> {
    pub(super) name: String,
    cell: Box<dyn Fn(&R) -> Json>,
}

impl<R: 'static> Column<R> {
    pub(super) fn json(name: impl Into<String>, cell: impl Fn(&R) -> Json + 'static) -> Self {
        Self { name: name.into(), cell: Box::new(cell) }
    }

    pub(super) fn text(name: impl Into<String>, cell: impl Fn(&R) -> String + 'static) -> Self {
        Self::json(name, move |row| Json::String(cell(row)))
    }

    /// What a row has in the column.
    pub(super) fn cell(&self, row: &R) -> Json {
        (self.cell)(row)
    }
}

/// The columns of a keyed state.
pub(super) fn of_state(state: &StoredState, parts: Parts) -> Vec<Column<Row>> {
    let mut columns = Columns::default();
    if state.kind().is_timers() {
        columns.push("time", |row: &Row| json!(row.time.map(|time| time.as_millis())));
    }
    columns.part("key", Some(state.key()), |row| row.key.as_ref());
    columns.part("namespace", state.namespace(), |row| row.namespace.as_ref());
    columns.part("map_key", state.map_key(), |row| row.map_key.as_ref());
    if state.kind() == strandline_state_api::schema::StateKind::List {
        columns.push("index", |row: &Row| json!(row.index));
    }
    if parts.value {
        columns.part("value", state.value(), |row| row.value.as_ref());
    }
    if state.is_stamped() {
        columns.push("stamp", |row: &Row| json!(row.stamp.map(|stamp| stamp.as_millis())));
    }
    columns.0
}

/// The columns of an operator state.
pub(super) fn of_elements(state: &OperatorStateInfo) -> Vec<Column<OperatorElement>> {
    let mut columns = Columns::default();
    columns.push("subtask", |element: &OperatorElement| json!(element.subtask));
    columns.push("index", |element: &OperatorElement| json!(element.index));
    columns.part("map_key", state.map_key.as_ref(), |element| element.map_key.as_ref());
    columns.part("value", Some(&state.value), |element| Some(&element.value));
    columns.0
}

struct Columns<R>(Vec<Column<R>>);

impl<R> Default for Columns<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: 'static> Columns<R> {
    fn push(&mut self, name: &str, cell: impl Fn(&R) -> Json + 'static) {
        let mut name = name.to_owned();
        while self.0.iter().any(|column| column.name == name) {
            name.push('_');
        }
        self.0.push(Column::json(name, cell));
    }

    /// Adds the columns of a part.
    fn part(
        &mut self,
        part: &'static str,
        of: Option<&StatePart>,
        value: impl Fn(&R) -> Option<&Value> + Copy + 'static,
    ) {
        let Some(of) = of else { return };
        let taken: Vec<_> = self.0.iter().map(|column| column.name.clone()).collect();
        for PartColumn { name, field, data_type } in of.columns(part, taken) {
            self.push(&name, move |row| match (value(row), field) {
                (Some(value), None) => cell(value, &data_type),
                (Some(Value::Record(values)), Some(index)) => {
                    values.get(index).map_or(Json::Null, |value| cell(value, &data_type))
                }
                _ => Json::Null,
            });
        }
    }
}

fn cell(value: &Value, data_type: &DataType) -> Json {
    serde_json::to_value(Typed::new(value, data_type)).unwrap_or(Json::Null)
}
