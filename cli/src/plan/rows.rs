//! The steps that work on each row alone.

use std::sync::Arc;

use strandline_connectors::{Row, Value};
use strandline_runtime::Stream;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Error, Result};

use crate::jobfile::{Expression, Fault, Step};

/// A step without state. All steps are one type, so that the compiler sees one stage of a chain.
#[derive(Clone, Debug)]
pub(super) enum RowStep {
    /// Keeps the rows for which the condition holds.
    Filter(Arc<Expression>),
    /// Keeps these columns, in this order.
    Project(Arc<[usize]>),
    /// Makes rows of these values.
    Select(Arc<[Expression]>),
    /// Adds values to a row, or replaces that of a column.
    Compute(Arc<[(Option<usize>, Expression)]>),
    /// Makes a row of each word in this text column. ASCII white space separates words.
    Words(usize),
    /// Drops the rows that the steps within the source have left without columns.
    Live,
}

impl RowStep {
    /// The step, where it is one without state.
    pub(super) fn new(step: &Step) -> Option<Self> {
        Some(match step {
            Step::Filter(condition) => Self::Filter(Arc::new(condition.clone())),
            Step::Project(columns) => Self::Project(columns.as_slice().into()),
            Step::Select(values) => Self::Select(values.as_slice().into()),
            Step::Compute(values) => Self::Compute(values.as_slice().into()),
            Step::Words(column) => Self::Words(*column),
            Step::Group(_)
            | Step::Deduplicate(_)
            | Step::Coalesce(_)
            | Step::Call(_)
            | Step::Union(_)
            | Step::Join(_) => return None,
        })
    }

    /// Whether it may fail for some rows.
    pub(super) fn may_fail(&self) -> bool {
        match self {
            Self::Filter(condition) => condition.may_fail(),
            Self::Select(values) => values.iter().any(Expression::may_fail),
            Self::Compute(values) => values.iter().any(|(_, value)| value.may_fail()),
            Self::Project(_) | Self::Words(_) | Self::Live => false,
        }
    }

    /// Adds the step behind `rows`. A row for which it fails is counted and left out where `skip` is true, and
    /// fails the job otherwise.
    pub(super) fn add_to<F: BackendFactory>(self, rows: Stream<F, Row>, skip: bool) -> Stream<F, Row> {
        rows.try_flat_map(move |row, out| {
            let applied = self.apply(row, &mut |row| {
                out.emit(row);
                Ok(())
            });
            match applied {
                Err(_) if skip => out.count_left_out(),
                Err(fault) => return Err(failed(&fault)),
                Ok(()) => {}
            }
            Ok(())
        })
    }

    /// Hands the rows that the step makes of one to `out`.
    #[inline]
    pub(super) fn apply(
        &self,
        mut row: Row,
        out: &mut impl FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match self {
            Self::Filter(condition) => match condition.holds(&row)? {
                true => out(row),
                false => Ok(()),
            },
            Self::Project(columns) => out(columns.iter().map(|&i| row.get(i).clone()).collect()),
            Self::Select(values) => {
                let values: Result<Row, Fault> =
                    values.iter().map(|value| Ok(value.value(&row)?.into_owned())).collect();
                out(values?)
            }
            Self::Compute(values) => {
                // Each sees the columns before the step.
                let computed: Result<Row, Fault> =
                    values.iter().map(|(_, value)| Ok(value.value(&row)?.into_owned())).collect();
                for ((index, _), value) in values.iter().zip(computed?.0) {
                    match index.and_then(|index| row.0.get_mut(index)) {
                        Some(slot) => *slot = value,
                        None => row.push(value),
                    }
                }
                out(row)
            }
            Self::Words(column) => {
                let separates = |c: char| c.is_ascii_whitespace() || c == '\u{b}';
                let text = row.get(*column).as_text().unwrap_or_default();
                let mut words = text.split(separates).filter(|word| !word.is_empty());
                words.try_for_each(|word| out([Value::text(word)].into_iter().collect()))
            }
            Self::Live => {
                if row.0.is_empty() {
                    return Ok(());
                }
                out(row)
            }
        }
    }
}

/// Hands the rows that all steps, one after another, make of one to `out`.
pub(super) fn apply_all(steps: &[RowStep], row: Row, out: &mut dyn FnMut(Row)) -> Result<(), Fault> {
    let [first, rest @ ..] = steps else {
        out(row);
        return Ok(());
    };
    first.apply(row, &mut |row| apply_all(rest, row, out))
}

#[cold]
fn failed(fault: &Fault) -> Error {
    let error = Error::invalid(format!("a step cannot compute a value of a result: {fault}"));
    match fault.column() {
        Some(column) => error.with("column", column),
        None => error,
    }
}
