//! Rows as a table, as CSV, or as JSON.

use serde_json::{Map, Value as Json};
use strandline_state_api::Result;

use super::columns::Column;
use crate::cli::Format;
use crate::table::TextTable;
use crate::terminal::{print_bytes, unprintable};

/// Prints rows batch by batch.
pub(super) struct Printer<'c, R> {
    columns: &'c [Column<R>],
    format: Format,
    has_header: bool,
    table: Option<TextTable>,
}

impl<'c, R: 'static> Printer<'c, R> {
    pub(super) fn new(columns: &'c [Column<R>], format: Format) -> Self {
        Self { columns, format, has_header: false, table: None }
    }

    pub(super) fn print(&mut self, rows: &[R]) -> Result<()> {
        let cells = rows.iter().map(|row| self.columns.iter().map(|column| column.cell(row)).collect());
        let cells: Vec<Vec<Json>> = cells.collect();
        match self.format {
            Format::Json => self.json(cells),
            Format::Csv => self.csv(&cells),
            Format::Table => {
                self.table(&cells);
                Ok(())
            }
        }
    }

    /// Prints the header where no row came.
    pub(super) fn finish(mut self) -> Result<()> {
        let is_begun = self.has_header || self.table.is_some();
        if !is_begun && self.format != Format::Json { self.print(&[]) } else { Ok(()) }
    }

    fn json(&self, rows: Vec<Vec<Json>>) -> Result<()> {
        let mut lines = Vec::new();
        for row in rows {
            let names = self.columns.iter().map(|column| column.name.clone());
            let object: Map<String, Json> = names.zip(row).collect();
            serde_json::to_writer(&mut lines, &object).map_err(unprintable)?;
            lines.push(b'\n');
        }
        print_bytes(&lines);
        Ok(())
    }

    fn csv(&mut self, rows: &[Vec<Json>]) -> Result<()> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        if !std::mem::replace(&mut self.has_header, true) {
            writer.write_record(self.columns.iter().map(|column| &column.name)).map_err(unprintable)?;
        }
        for row in rows {
            writer.write_record(row.iter().map(text)).map_err(unprintable)?;
        }
        print_bytes(&writer.into_inner().map_err(|e| unprintable(e.into_error()))?);
        Ok(())
    }

    fn table(&mut self, rows: &[Vec<Json>]) {
        let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let names = || self.columns.iter().map(|column| column.name.clone());
        let table = self.table.get_or_insert_with(|| TextTable::new(names()));
        print_bytes(table.lines(&cells).as_bytes());
    }
}

/// A cell as text; null is empty.
fn text(cell: &Json) -> String {
    match cell {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
