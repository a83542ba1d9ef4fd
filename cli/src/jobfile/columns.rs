//! The columns that an input of a job has.

use strandline_connectors::Column;

/// What the steps of a job see of its source, also where there are mistakes in it.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) columns: Columns,
    /// Whether rows have event times.
    pub(super) timed: bool,
    /// Whether these are timestamps, and not milliseconds.
    pub(super) moments: bool,
}

impl Input {
    /// Of a source about which nothing is known.
    pub(super) fn unknown() -> Self {
        Self { columns: Columns { known: Vec::new(), others: true }, timed: true, moments: false }
    }
}

/// Columns of rows, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    pub(super) known: Vec<Column>,
    /// Whether there may be others, because of a mistake that was noted.
    pub(super) others: bool,
}
