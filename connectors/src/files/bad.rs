//! Records that cannot be decoded.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use strandline_state_api::{Batch, Result};

use super::place::{InputPath, unreadable};
use super::reader::Framing;
use super::{Decode, FileFormat};
use crate::row::{Column, ColumnType, Row, Value};

/// What a [`FileSource`](super::FileSource) does with records that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job fails with an error that names file and line.
    #[default]
    Fail,
    /// The source leaves it out and [counts](super::FileSource::bad_records) it.
    Skip,
    /// The source emits a [`DeadLetter`] in its place and counts it. The format makes a record of it
    /// ([`Decode::dead_letter`]); with one that does not, the job fails.
    Keep,
}

/// Why a record cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    column: Option<String>,
    reason: String,
    /// A quote opens its last field and does not close, so that the next lines may belong to it.
    pub(super) open_quote: bool,
}

impl BadRecord {
    /// A reason: one sentence with the expected and the found.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { column: None, reason: reason.into(), open_quote: false }
    }

    /// Adds the column whose value is wrong.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// The column whose value is wrong, where that is known.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// What is wrong, without the column.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The open field goes on over the next lines.
    pub(super) fn over_lines(mut self) -> Self {
        self.reason += " in its line but in a later one: allow line ends within quotes (quoted_newlines)";
        self
    }
}

/// A record that is longer than `most` bytes.
#[cold]
pub(super) fn too_long(most: usize) -> BadRecord {
    BadRecord::new(format!(
        "the record is longer than {most} bytes, the most that the source reads (max_record)"
    ))
}

impl From<String> for BadRecord {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column {column:?}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// A record that cannot be decoded, with its place and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The path of its file.
    pub file: String,
    /// The line in which it begins, from 1.
    pub line: u64,
    /// The byte at which it begins.
    pub byte: u64,
    /// The column whose value is wrong, where that is known.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// Its bytes without the last line end; of a very long one the first.
    pub record: Vec<u8>,
}

impl DeadLetter {
    /// The columns of [`into_row`](Self::into_row).
    pub fn columns() -> Vec<Column> {
        let text = |name: &str| Column::new(name, ColumnType::Text);
        let number = |name: &str| Column::new(name, ColumnType::UInt);
        vec![
            text("file"),
            number("line"),
            number("byte"),
            text("column").nullable(),
            text("reason"),
            text("record").nullable(),
            text("record_base64").nullable(),
        ]
    }

    /// A row of the [columns](Self::columns). A record that is UTF-8 stands in `record`, another one in
    /// `record_base64`.
    pub fn into_row(self) -> Row {
        let text = |text: String| Value::Text(CompactString::from(text));
        let (record, encoded) = match String::from_utf8(self.record) {
            Ok(record) => (text(record), Value::Null),
            Err(e) => (Value::Null, text(STANDARD.encode(e.as_bytes()))),
        };
        [
            text(self.file),
            Value::UInt(self.line),
            Value::UInt(self.byte),
            self.column.map_or(Value::Null, text),
            text(self.reason),
            record,
            encoded,
        ]
        .into_iter()
        .collect()
    }
}

/// The records of a format and, in the place of those that cannot be decoded, their [`DeadLetter`]s. For
/// [`OnBadRecord::Keep`].
#[derive(Clone, Debug)]
pub struct WithDeadLetters<F>(pub F);

/// The decoder of [`WithDeadLetters`].
#[derive(Debug)]
pub struct LetterDecoder<D, T> {
    decoder: D,
    decoded: Batch<T>,
}

impl<F: FileFormat> FileFormat for WithDeadLetters<F> {
    type Record = Result<F::Record, DeadLetter>;
    type Decoder = LetterDecoder<F::Decoder, F::Record>;

    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn has_header(&self) -> bool {
        self.0.has_header()
    }

    fn layout(&self) -> String {
        self.0.layout()
    }

    fn decoder(&self, header: &[u8]) -> Result<Self::Decoder, String> {
        Ok(LetterDecoder { decoder: self.0.decoder(header)?, decoded: Batch::new() })
    }
}

impl<T: Send, D: Decode<T>> Decode<Result<T, DeadLetter>> for LetterDecoder<D, T> {
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Result<T, DeadLetter>>) -> Result<(), BadRecord> {
        self.decoder.decode(bytes, &mut self.decoded)?;
        output.extend(self.decoded.drain().map(|(record, timestamp)| (Ok(record), timestamp)));
        Ok(())
    }

    fn dead_letter(&self, letter: DeadLetter) -> Option<Result<T, DeadLetter>> {
        Some(Err(letter))
    }
}

/// The longest part of a record that a dead letter holds.
const LONGEST: u64 = 16 << 20;

/// What a dead letter holds of a record.
pub(super) fn most_of(record: &[u8]) -> &[u8] {
    record.get(..LONGEST as usize).unwrap_or(record)
}

/// The bytes of the record from `start` to before `end`, without its line end.
pub(super) fn raw_record(path: &InputPath, start: u64, end: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = path.open().and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take((end - start).min(LONGEST)).read_to_end(&mut bytes)
    });
    read.map_err(|e| unreadable(path, e))?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(bytes)
}
