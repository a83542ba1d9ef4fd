//! The columns that a step of a job file may name.

use std::cell::RefCell;

use strandline_connectors::{Column, ColumnType};

use super::columns::Columns;
use super::problem::{Location, Problem};

/// The columns that a step sees. It records which of them the step uses.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    columns: &'a [Column],
    /// Whether there may be more columns, because of a mistake that was noted.
    others: bool,
    pub(super) used: RefCell<Vec<usize>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(columns: &'a Columns) -> Self {
        Self { columns: &columns.known, others: columns.others, used: RefCell::default() }
    }

    /// Whether there may be columns that are not known.
    pub(super) fn has_others(&self) -> bool {
        self.others
    }

    pub(super) fn column(&self, index: usize) -> Option<&'a Column> {
        self.columns.get(index)
    }

    /// The index of a column.
    pub(super) fn find(&self, name: &str, location: &Location) -> Result<usize, Problem> {
        let Some(index) = self.columns.iter().position(|column| column.name == name) else {
            if self.others {
                return Err(Problem::follows());
            }
            let known: Vec<_> = self.columns.iter().map(|column| column.name.as_str()).collect();
            return Err(Problem::unknown(location, "column", name, &known));
        };
        self.used.borrow_mut().push(index);
        Ok(index)
    }

    pub(super) fn find_column(&self, name: &str, location: &Location) -> Result<(usize, Column), Problem> {
        let index = self.find(name, location)?;
        let column = self.columns.get(index).cloned();
        Ok((index, column.unwrap_or_else(|| Column::new(name, ColumnType::Text))))
    }
}
