//! Steps whose results change: deduplication, the top rows of a key, and changes taken together.

use std::time::Duration;

use strandline_connectors::{Column, Row, RowKey, Value};
use strandline_operators::{Change, Coalesce as Coalescing, Deduplicate as Deduplicating, TopN};
use strandline_runtime::{KeyedStream, Stream};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{SerdeCodec, Ttl};

use super::fold::layout_of_top;
use super::key::GroupKey as _;
use super::layout::Layout;
use super::order::Order;
use crate::jobfile::{Coalesce, Deduplicate, Emit, Group, Top};

/// What the column `change` of a row that comes holds.
const INSERT: &str = "insert";
/// What that of a row that goes holds.
const DELETE: &str = "delete";

/// What the column `change` holds.
fn word_of(change: &Change<Row>) -> Value {
    Value::text(if change.is_addition() { INSERT } else { DELETE })
}

/// Adds what happens to a row.
pub(super) fn with_change(change: Change<Row>) -> Row {
    let word = word_of(&change);
    let mut row = change.into_row();
    row.push(word);
    row
}

/// What happens to a row, by the column at `index`; a row without one comes.
pub(super) fn of_row(mut row: Row, index: Option<usize>) -> Change<Row> {
    match index.map(|index| row.take(index)) {
        Some(Value::Text(word)) if word == DELETE => Change::Delete(row),
        _ => Change::Insert(row),
    }
}

fn keyed<F: BackendFactory>(rows: Stream<F, Row>, keys: &[(usize, Column)]) -> KeyedStream<F, RowKey, Row> {
    let keys = keys.to_vec();
    rows.key_by(move |row| (RowKey::of(&row, &keys), row)).codec(SerdeCodec)
}

/// Keeps one row of each key.
pub(super) fn deduplicate<F: BackendFactory>(rows: Stream<F, Row>, of: &Deduplicate) -> Stream<F, Row> {
    let mut one = if of.last { Deduplicating::<Row>::last() } else { Deduplicating::first() };
    if of.emit == Emit::End {
        one = one.only_final();
    }
    if let Some(ttl) = of.ttl {
        one = one.time_to_live(Ttl::event_time(ttl));
    }
    let what = if of.last { "last" } else { "first" };
    let layout =
        Layout::new(what).columns("by", of.keys.iter().map(|(_, column)| column)).columns("of", &of.input);
    let changes = keyed(rows, &of.keys).process(&of.id, move |ctx| {
        layout.register(ctx)?;
        one.open(ctx)
    });
    match of.emit {
        Emit::End => changes.map(|change| change.into_row().1),
        Emit::Changes => changes.map(|change| with_change(change.map(|(_, row)| row))),
    }
}

/// Takes the changes of each key that come within a time together.
pub(super) fn coalesce<F: BackendFactory>(rows: Stream<F, Row>, of: &Coalesce) -> Stream<F, Row> {
    let mut together = Coalescing::changes(Duration::from_millis(of.every.unsigned_abs()));
    if of.processing {
        together = together.in_processing_time();
    }
    let layout = Layout::new("changes")
        .columns("by", of.keys.iter().map(|(_, column)| column))
        .columns("of", &of.input);
    let (keys, index) = (of.keys.clone(), of.changes);
    rows.key_by(move |row| (RowKey::of(&row, &keys), of_row(row, Some(index))))
        .codec(SerdeCodec)
        .process(&of.id, move |ctx| {
            layout.register(ctx)?;
            together.open(ctx)
        })
        .map(move |change| {
            let word = word_of(&change);
            let mut row = change.into_row();
            if let Some(place) = row.0.get_mut(index) {
                *place = word;
            }
            row
        })
}

/// Keeps the top rows of each key, and emits each change of them.
pub(super) fn top<F: BackendFactory>(rows: Stream<F, Row>, group: &Group, top: &Top) -> Stream<F, Row> {
    let (order, layout) = (Order::new(top), layout_of_top(group, top));
    let rows_of_key = TopN::new(top.n, move |row: &Row| order.score(row));
    let changes = keyed(rows, &group.keys).process(&group.id, move |ctx| {
        layout.register(ctx)?;
        rows_of_key.open(ctx)
    });
    let rest = top.rest.clone();
    changes.map(move |change| {
        with_change(change.map(|(RowKey(key), row)| {
            let rest = rest.iter().map(|index| row.get(*index).clone());
            key.into_iter().chain(rest).collect()
        }))
    })
}
