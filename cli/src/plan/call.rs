//! The step that asks a program about each row.

mod program;

use std::sync::Arc;

use strandline_connectors::{Row, RowKey, Value};
use strandline_operators::calls::{Calls, Retry};
use strandline_runtime::Stream;
use strandline_state_api::SerdeCodec;
use strandline_state_api::backend::BackendFactory;

use self::program::{Asking, Protocol};
use super::key::GroupKey as _;
use super::layout::Layout;
use crate::jobfile::Call;

/// Adds the columns of the replies to rows.
pub(super) fn call<F: BackendFactory>(rows: Stream<F, Row>, of: &Call) -> Stream<F, Row> {
    let mut calls = Calls::new(of.timeout, Asking::new(Arc::new(Protocol::new(&of.program))))
        .capacity(of.capacity)
        .retry(Retry::fixed(of.attempts, of.pause));
    if of.ordered {
        calls = calls.ordered();
    }
    if of.nulls {
        calls = calls.emit_failures();
    }
    let layout =
        Layout::new("calls").columns("by", of.keys.iter().map(|(_, column)| column)).columns("of", &of.input);
    let (keys, width) = (of.keys.clone(), of.program.reply.len());
    rows.key_by(move |row| (RowKey::of(&row, &keys), row))
        .codec(SerdeCodec)
        .process(&of.id, move |ctx| {
            layout.register(ctx)?;
            calls.open(ctx)
        })
        .map(move |answer| {
            let mut row: Row = answer.record;
            match answer.reply {
                Ok(Row(values)) => row.0.extend(values),
                Err(_) => row.0.extend(std::iter::repeat_n(Value::Null, width)),
            }
            row
        })
}
