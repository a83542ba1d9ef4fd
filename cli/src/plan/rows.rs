//! The steps that work on each row alone.

use std::sync::Arc;

use strandline_connectors::{Row, Value};
use strandline_runtime::{Emitter, Stream};
use strandline_state_api::backend::BackendFactory;

use crate::jobfile::Expression;

/// A step without state. All steps are one type, so that the compiler sees one stage of a chain.
#[derive(Clone, Debug)]
pub(super) enum RowStep {
    /// Keeps the rows for which the condition holds.
    Filter(Arc<Expression>),
    /// Keeps these columns, in this order.
    Project(Arc<[usize]>),
    /// Makes a row of each word in this text column. ASCII white space separates words.
    Words(usize),
}

impl RowStep {
    /// Adds the step behind `rows`.
    pub(super) fn add_to<F: BackendFactory>(self, rows: Stream<F, Row>) -> Stream<F, Row> {
        rows.flat_map(move |row, out| self.apply(row, out))
    }

    #[inline]
    fn apply(&self, row: Row, out: &mut Emitter<'_, Row>) {
        match self {
            Self::Filter(condition) => {
                if condition.holds(&row) {
                    out.emit(row);
                }
            }
            Self::Project(columns) => out.emit(columns.iter().map(|&i| row.get(i).clone()).collect()),
            Self::Words(column) => {
                let separates = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
                let text = row.get(*column).as_text().unwrap_or_default();
                for word in text.split(separates).filter(|word| !word.is_empty()) {
                    out.emit([Value::text(word)].into_iter().collect());
                }
            }
        }
    }
}
