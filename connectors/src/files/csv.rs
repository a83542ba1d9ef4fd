//! Comma-separated values.

use strandline_state_api::{Batch, Result};

use super::text::not_utf8;
use super::{BadRecord, Decode, FileFormat, Framing};
use crate::row::{ColumnType, Field, Row, Value};

mod fields;

use fields::{Fields, Malformed};

/// CSV files (RFC 4180): each record is a row of the wanted columns.
///
/// With a header, the source finds columns by their names, in any order, and leaves others out; without one,
/// the columns are those of the file in order.
///
/// A quote stands at the beginning and at the end of a field, doubled within a field with quotes, and nowhere
/// else; any other place makes a bad record. An empty field without quotes is null where the column is
/// nullable, otherwise it is the empty text, and a bad record for other types. A pair of quotes is the empty
/// text. Blank lines are left out, but in a file of one column that is nullable a blank line is a null.
/// `docs/csv.md` has the whole dialect.
#[derive(Clone, Debug)]
pub struct CsvFiles {
    columns: Vec<Field>,
    delimiter: u8,
    header: bool,
    quoted_newlines: bool,
}

impl CsvFiles {
    /// Files with a header that have (at least) these columns.
    pub fn new<C: Into<Field>>(columns: Vec<C>) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, delimiter: b',', header: true, quoted_newlines: false }
    }

    /// Sets the byte between fields; the default is a comma.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Sets whether each file begins with the names of its columns; the default is `true`.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// Sets whether quoted fields may hold line ends; the default is `false`: a field that goes on over
    /// several lines then makes one bad record of these. Where they may, one subtask reads a file, from its
    /// beginning.
    #[must_use]
    pub fn quoted_newlines(mut self, allowed: bool) -> Self {
        self.quoted_newlines = allowed;
        self
    }

    /// The fields of one record, for example of a header.
    ///
    /// # Errors
    /// The reason why it is no record of CSV in UTF-8.
    pub fn split(&self, record: &[u8]) -> Result<Vec<String>, String> {
        let mut fields = Fields::new(self.delimiter);
        fields.split(record).map_err(|wrong| {
            let (field, reason) = malformed(wrong);
            format!("field {}: {reason}", field + 1)
        })?;
        let text = |i: usize| {
            let field = fields.get(record, i);
            std::str::from_utf8(field).map(str::to_owned).map_err(|e| not_utf8(&e, field))
        };
        (0..fields.len()).map(text).collect()
    }
}

/// The field, and what is wrong with it.
fn malformed(wrong: Malformed) -> (usize, &'static str) {
    match wrong {
        Malformed::Open(field) => (field, "a quote opens the field and is not closed"),
        Malformed::Behind(field) => {
            (field, "something follows the closing quote; a quote within quotes is written twice")
        }
        Malformed::Inside(field) => (
            field,
            "a quote within a field without quotes; put the field in quotes, and write the one in it twice",
        ),
    }
}

impl FileFormat for CsvFiles {
    type Record = Row;
    type Decoder = CsvDecoder;

    fn framing(&self) -> Framing {
        match self.quoted_newlines {
            true => Framing::Quoted { delimiter: self.delimiter },
            false => Framing::QuotedLines { delimiter: self.delimiter },
        }
    }

    fn has_header(&self) -> bool {
        self.header
    }

    fn layout(&self) -> String {
        let header = if self.header { " with a header" } else { " without a header" };
        let quoted = if self.quoted_newlines { ", quoted fields may hold line ends" } else { "" };
        format!("CSV{header}, {:?} between fields{quoted}", self.delimiter as char)
    }

    fn decoder(&self, header: &[u8]) -> Result<CsvDecoder, String> {
        let names = match self.header {
            true => self.split(header).map_err(|wrong| format!("the header is no record of CSV: {wrong}"))?,
            false => self.columns.iter().map(|of| of.column.name.clone()).collect(),
        };
        let wanted = |of: &Field| match names.iter().position(|name| *name == of.column.name) {
            Some(field) => Ok(Wanted { field, of: of.clone() }),
            None => Err(format!("no column {:?} in the header, which has {}", of.column.name, shown(&names))),
        };
        let wanted: Vec<_> = self.columns.iter().map(wanted).collect::<Result<_, _>>()?;
        let blank_is_null = names.len() == 1 && wanted.iter().all(|wanted| wanted.of.column.nullable);
        Ok(CsvDecoder { wanted, names, blank_is_null, fields: Fields::new(self.delimiter) })
    }
}

#[derive(Debug)]
struct Wanted {
    field: usize,
    of: Field,
}

/// Names for a message.
fn shown(names: &[String]) -> String {
    // They may be anything, for example bytes that control a terminal.
    names.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
}

/// Decodes the records of one CSV file.
#[derive(Debug)]
pub struct CsvDecoder {
    wanted: Vec<Wanted>,
    /// The columns of the file.
    names: Vec<String>,
    /// Whether a blank line is a record.
    blank_is_null: bool,
    fields: Fields,
}

impl Decode<Row> for CsvDecoder {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        if bytes.is_empty() && !self.blank_is_null {
            return Ok(());
        }
        if let Err(wrong) = self.fields.split(bytes) {
            return Err(self.malformed(wrong));
        }
        let found = self.fields.len();
        if found != self.names.len() {
            return Err(BadRecord::new(format!("expected {} fields, found {found}", self.names.len())));
        }
        let mut row = Row::with_capacity(self.wanted.len());
        for Wanted { field, of } in &self.wanted {
            row.push(parse(self.fields.get(bytes, *field), self.fields.is_quoted(*field), of)?);
        }
        output.push(row, None);
        Ok(())
    }
}

impl CsvDecoder {
    fn malformed(&self, wrong: Malformed) -> BadRecord {
        let (field, reason) = malformed(wrong);
        let mut bad = match self.names.get(field) {
            Some(name) => BadRecord::new(reason).in_column(name),
            None => BadRecord::new(format!("field {}: {reason}", field + 1)),
        };
        bad.open_quote = matches!(wrong, Malformed::Open(_));
        bad
    }
}

fn parse(field: &[u8], quoted: bool, of: &Field) -> Result<Value, BadRecord> {
    let column = &of.column;
    // Only text distinguishes an empty value from none.
    if field.is_empty() && column.nullable && !(quoted && column.kind == ColumnType::Text) {
        return Ok(Value::Null);
    }
    let bad = |reason: String| BadRecord::new(reason).in_column(&column.name);
    let text = std::str::from_utf8(field).map_err(|e| bad(not_utf8(&e, field)))?;
    of.parse(text).map_err(bad)
}
