//! Rows as a table, as CSV, or as JSON.

use serde_json::{Map, Value as Json};
use strandline_state_api::{Error, ErrorKind, Result};

use super::columns::Column;
use crate::cli::Format;
use crate::terminal::print_bytes;

/// Cells of a table are not padded beyond this width.
const MAX_WIDTH: usize = 60;

/// Prints rows batch by batch. The widths of a table's columns are those of its first batch.
pub(super) struct Printer<'c, R> {
    columns: &'c [Column<R>],
    format: Format,
    widths: Option<Vec<usize>>,
}

impl<'c, R: 'static> Printer<'c, R> {
    pub(super) fn new(columns: &'c [Column<R>], format: Format) -> Self {
        Self { columns, format, widths: None }
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
        if self.widths.is_none() && self.format != Format::Json { self.print(&[]) } else { Ok(()) }
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
        if self.widths.replace(Vec::new()).is_none() {
            writer.write_record(self.columns.iter().map(|column| &column.name)).map_err(unprintable)?;
        }
        for row in rows {
            writer.write_record(row.iter().map(text)).map_err(unprintable)?;
        }
        print_bytes(&writer.into_inner().map_err(|e| unprintable(e.into_error()))?);
        Ok(())
    }

    fn table(&mut self, rows: &[Vec<Json>]) {
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| escaped(&text(cell))).collect()).collect();
        let mut lines = String::new();
        let widths = match &self.widths {
            Some(widths) => widths.clone(),
            None => {
                let header: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
                let width = |column: usize| {
                    let all = cells.iter().chain([&header]);
                    let widest = all.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
                    widest.unwrap_or(0).min(MAX_WIDTH)
                };
                let widths: Vec<usize> = (0..header.len()).map(width).collect();
                line(&header, &widths, &mut lines);
                widths
            }
        };
        cells.iter().for_each(|row| line(row, &widths, &mut lines));
        self.widths = Some(widths);
        print_bytes(lines.as_bytes());
    }
}

fn line(cells: &[String], widths: &[usize], out: &mut String) {
    let mut line = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            line.push_str("  ");
        }
        line.push_str(&format!("{cell:<width$}"));
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A cell as text; null is empty.
fn text(cell: &Json) -> String {
    match cell {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text without characters that would break a line of a table, or control a terminal.
fn escaped(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

fn unprintable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "a row cannot be printed").caused_by(error)
}
