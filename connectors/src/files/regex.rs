//! Lines that a regular expression splits into columns.

use regex::{CaptureLocations, Regex};
use strandline_state_api::{Batch, Result};

use super::text::not_utf8;
use super::{BadRecord, Decode, FileFormat, Framing};
use crate::row::{Column, ColumnType, Field, Row, Value};

/// Text files whose lines a regular expression splits: each named group, such as `(?<status>\d+)`, is a
/// column.
///
/// The expression must match the whole line; a line that it does not match is a bad record. A group that
/// takes no part in the match is null where the column is nullable, and an error otherwise; so is one that
/// matches nothing, but for text. Blank lines are left out. The syntax is that of the crate `regex`, which
/// looks at each byte a bounded number of times whatever the expression.
#[derive(Clone, Debug)]
pub struct RegexLines {
    regex: Regex,
    columns: Vec<(usize, Field)>,
    locations: CaptureLocations,
}

impl RegexLines {
    /// Lines that `pattern` splits into (at least) these columns.
    ///
    /// # Errors
    /// The mistake in the pattern, or the column that is no group of it, as one sentence.
    pub fn new<C: Into<Field>>(pattern: &str, columns: Vec<C>) -> Result<Self, String> {
        if let Err(e) = Regex::new(pattern) {
            return Err(mistake(e));
        }
        // A comment at the end of a pattern in the mode `x` must not swallow the end of the group.
        let regex = Regex::new(&format!("\\A(?:{pattern}\n)\\z")).ok().filter(|_| ignores_space(pattern));
        let regex = match regex {
            Some(regex) => regex,
            None => Regex::new(&format!("\\A(?:{pattern})\\z")).map_err(mistake)?,
        };
        let group = |field: Field| {
            let name = field.column.name.as_str();
            match regex.capture_names().position(|group| group == Some(name)) {
                Some(group) => Ok((group, field)),
                None => {
                    let known: Vec<_> = regex.capture_names().flatten().collect();
                    Err(format!(
                        "the pattern has no group {name:?}, such as (?<{name}>…); its groups are {}",
                        if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                    ))
                }
            }
        };
        let columns = columns.into_iter().map(|column| group(column.into())).collect::<Result<_, _>>()?;
        let locations = regex.capture_locations();
        Ok(Self { regex, columns, locations })
    }

    /// The named groups of a pattern in order, as columns of text.
    ///
    /// # Errors
    /// The mistake in the pattern.
    pub fn groups(pattern: &str) -> Result<Vec<Column>, String> {
        let regex = Regex::new(pattern).map_err(mistake)?;
        Ok(regex.capture_names().flatten().map(|name| Column::new(name, ColumnType::Text)).collect())
    }
}

/// Whether the pattern begins in the mode in which white space and comments are no part of it.
fn ignores_space(pattern: &str) -> bool {
    let flags = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')'));
    flags.is_some_and(|(flags, _)| flags.contains('x') && flags.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// The mistake in a pattern, in words.
fn mistake(error: regex::Error) -> String {
    match error {
        regex::Error::Syntax(text) => {
            let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("");
            format!("the pattern is no regular expression: {}", last.trim().trim_start_matches("error: "))
        }
        other => format!("the pattern is no regular expression: {other}"),
    }
}

impl FileFormat for RegexLines {
    type Record = Row;
    type Decoder = Self;

    fn layout(&self) -> String {
        "lines of text".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self, _: &[u8]) -> Result<Self, String> {
        Ok(self.clone())
    }
}

impl Decode<Row> for RegexLines {
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        if bytes.is_empty() {
            return Ok(());
        }
        let line = std::str::from_utf8(bytes).map_err(|e| not_utf8(&e, bytes))?;
        if self.regex.captures_read(&mut self.locations, line).is_none() {
            return Err(BadRecord::new("the line does not match the pattern of the source"));
        }
        let mut row = Row::with_capacity(self.columns.len());
        for (group, field) in &self.columns {
            let column = &field.column;
            let found = self.locations.get(*group).and_then(|(from, to)| line.get(from..to));
            let found = found.filter(|text| !text.is_empty() || column.kind == ColumnType::Text);
            let value = match found {
                Some(text) => field.parse(text),
                None if column.nullable => Ok(Value::Null),
                None => Err(field.missing()),
            };
            row.push(value.map_err(|reason| BadRecord::new(reason).in_column(&column.name))?);
        }
        output.push(row, None);
        Ok(())
    }
}
