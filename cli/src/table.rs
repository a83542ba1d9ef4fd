//! Rows of text as a table.

/// Cells are not padded beyond this width.
const MAX_WIDTH: usize = 80;

/// A table that is printed in parts: the widths of its columns are those of its first part.
#[derive(Debug)]
pub(crate) struct TextTable {
    header: Vec<String>,
    widths: Option<Vec<usize>>,
}

impl TextTable {
    pub(crate) fn new(header: impl IntoIterator<Item = String>) -> Self {
        Self { header: header.into_iter().map(|name| escaped(&name)).collect(), widths: None }
    }

    /// Returns the lines of some rows, the header above the first.
    pub(crate) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
        let mut lines = String::new();
        let widths = self.widths.get_or_insert_with(|| {
            let width = |column: usize| {
                let all = cells.iter().chain([&self.header]);
                let widest = all.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
                widest.unwrap_or(0).min(MAX_WIDTH)
            };
            let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
            line(&self.header, &widths, &mut lines);
            widths
        });
        cells.iter().for_each(|row| line(row, widths, &mut lines));
        lines
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

/// Text without characters that would break a line of a table, or control a terminal.
fn escaped(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}
