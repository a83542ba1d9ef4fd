//! Comma-separated values.

use std::ops::Range;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::{memchr, memchr_iter};
use strandline_state_api::{Batch, Result};

use super::text::not_utf8;
use super::{Decode, FileFormat, Framing};
use crate::row::{Column, ColumnType, Row, Value};

/// CSV files (RFC 4180): each record is a row of the wanted columns.
///
/// With a header, the source finds columns by their names, in any order, and leaves others out; without one,
/// the columns are those of the file in order. An empty field is null where the column is nullable; otherwise
/// it is the empty text, and an error for other types. Blank lines are left out.
#[derive(Clone, Debug)]
pub struct CsvFiles {
    columns: Vec<Column>,
    delimiter: u8,
    header: bool,
    quoted_newlines: bool,
}

impl CsvFiles {
    /// Files with a header that have (at least) these columns.
    pub fn new(columns: Vec<Column>) -> Self {
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

    /// Sets whether quoted fields may hold line ends; the default is `false`. Where they may, one subtask
    /// reads a file, from its beginning.
    #[must_use]
    pub fn quoted_newlines(mut self, allowed: bool) -> Self {
        self.quoted_newlines = allowed;
        self
    }

    /// The fields of one record, for example of a header.
    pub fn split(&self, record: &[u8]) -> Vec<String> {
        let mut fields = Fields::new(self.delimiter);
        fields.split(record);
        (0..fields.ranges.len())
            .map(|i| String::from_utf8_lossy(fields.get(record, i)).into_owned())
            .collect()
    }
}

impl FileFormat for CsvFiles {
    type Record = Row;
    type Decoder = CsvDecoder;

    fn framing(&self) -> Framing {
        match self.quoted_newlines {
            true => Framing::Quoted { delimiter: self.delimiter },
            false => Framing::Lines,
        }
    }

    fn has_header(&self) -> bool {
        self.header
    }

    fn decoder(&self, header: &[u8]) -> Result<CsvDecoder, String> {
        let names = match self.header {
            true => self.split(header),
            false => self.columns.iter().map(|column| column.name.clone()).collect(),
        };
        let wanted = |column: &Column| match names.iter().position(|name| *name == column.name) {
            Some(field) => Ok(Wanted { field, column: column.clone() }),
            None => Err(format!("no column {:?} in the header, which has {}", column.name, names.join(", "))),
        };
        Ok(CsvDecoder {
            wanted: self.columns.iter().map(wanted).collect::<Result<_, _>>()?,
            width: names.len(),
            fields: Fields::new(self.delimiter),
        })
    }
}

#[derive(Debug)]
struct Wanted {
    field: usize,
    column: Column,
}

/// Decodes the records of one CSV file.
#[derive(Debug)]
pub struct CsvDecoder {
    wanted: Vec<Wanted>,
    width: usize,
    fields: Fields,
}

impl Decode<Row> for CsvDecoder {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.fields.split(bytes);
        let found = self.fields.ranges.len();
        if found != self.width {
            return Err(format!("expected {} fields, found {found}", self.width));
        }
        let mut row = Row::with_capacity(self.wanted.len());
        for Wanted { field, column } in &self.wanted {
            row.push(parse(self.fields.get(bytes, *field), column)?);
        }
        output.push(row, None);
        Ok(())
    }
}

fn parse(field: &[u8], column: &Column) -> Result<Value, String> {
    if field.is_empty() && column.nullable {
        return Ok(Value::Null);
    }
    let text = std::str::from_utf8(field)
        .map_err(|e| format!("column {:?}: {}", column.name, not_utf8(&e, field)))?;
    let value = match column.kind {
        ColumnType::Text => Some(Value::text(text)),
        ColumnType::Int => text.parse().ok().map(Value::Int),
        ColumnType::UInt => text.parse().ok().map(Value::UInt),
        ColumnType::Float => text.parse().ok().map(Value::Float),
        ColumnType::Bool => text.parse().ok().map(Value::Bool),
    };
    value.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let hint = if text.is_empty() { "; declare it nullable if values may be missing" } else { "" };
        format!("column {:?}: expected {}, found {shown:?}{hint}", column.name, column.kind)
    })
}

/// The places of the fields in a record. A record without quotes, as most are, is only searched and not
/// copied.
struct Fields {
    delimiter: u8,
    ranges: Vec<Range<usize>>,
    reader: Reader,
    unquoted: Vec<u8>,
    ends: Vec<usize>,
    in_unquoted: bool,
}

impl Fields {
    fn new(delimiter: u8) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        Self {
            delimiter,
            ranges: Vec::new(),
            reader,
            unquoted: Vec::new(),
            ends: Vec::new(),
            in_unquoted: false,
        }
    }

    #[inline]
    fn split(&mut self, record: &[u8]) {
        self.ranges.clear();
        self.in_unquoted = memchr(b'"', record).is_some();
        if self.in_unquoted {
            return self.split_quoted(record);
        }
        let mut start = 0;
        for end in memchr_iter(self.delimiter, record) {
            self.ranges.push(start..end);
            start = end + 1;
        }
        self.ranges.push(start..record.len());
    }

    fn split_quoted(&mut self, record: &[u8]) {
        // Removing quotes shortens a record, and each field but the first has a delimiter before it.
        self.unquoted.resize(record.len() + 1, 0);
        self.ends.resize(record.len() + 2, 0);
        self.reader.reset();
        let (mut input, mut written, mut fields) = (record, 0, 0);
        loop {
            let output = self.unquoted.get_mut(written..).unwrap_or(&mut []);
            let ends = self.ends.get_mut(fields..).unwrap_or(&mut []);
            let (result, read, wrote, ended) = self.reader.read_record(input, output, ends);
            input = input.get(read..).unwrap_or(&[]);
            written += wrote;
            fields += ended;
            // The reader takes an empty input for the end of the record.
            if !matches!(result, ReadRecordResult::InputEmpty) {
                break;
            }
        }
        let mut start = 0;
        for &end in self.ends.iter().take(fields) {
            self.ranges.push(start..end);
            start = end;
        }
    }

    #[inline]
    fn get<'a>(&'a self, record: &'a [u8], field: usize) -> &'a [u8] {
        let bytes = if self.in_unquoted { &self.unquoted } else { record };
        self.ranges.get(field).and_then(|range| bytes.get(range.clone())).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").field("ranges", &self.ranges).finish()
    }
}
