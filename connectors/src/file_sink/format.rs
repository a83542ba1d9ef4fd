//! How records are written.

use std::fmt;
use std::io::Write;

use crate::row::{Row, Value};

/// How a [`FileSink`](super::FileSink) writes records of type `T`.
pub trait WriteRecords<T>: Clone + fmt::Debug + Send + Sync + 'static {
    /// The end of file names, without the dot.
    fn extension(&self) -> &'static str;

    /// Appends the beginning of every file.
    fn header(&self, _out: &mut Vec<u8>) {}

    /// Appends one record.
    ///
    /// # Errors
    /// The reason why this record cannot be written; then nothing of it may have been appended.
    fn write(&self, record: &T, out: &mut Vec<u8>) -> Result<(), String>;
}

/// Rows as CSV (RFC 4180). Null is an empty field, empty text a pair of quotes; a row of a single null is a
/// blank line. [`CsvFiles`](crate::CsvFiles) with line ends in quotes reads back what this writes.
#[derive(Clone, Debug, Default)]
pub struct CsvRows {
    header: Vec<u8>,
}

impl CsvRows {
    /// Without a header.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the names of the columns at the beginning of each file.
    pub fn with_header<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let mut header = Vec::new();
        write_fields(columns, &mut header, write_csv_text);
        Self { header }
    }
}

impl WriteRecords<Row> for CsvRows {
    fn extension(&self) -> &'static str {
        "csv"
    }

    fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header);
    }

    #[inline]
    fn write(&self, record: &Row, out: &mut Vec<u8>) -> Result<(), String> {
        write_fields(&record.0, out, |value, out| match value {
            Value::Null => {}
            Value::Text(text) => write_csv_text(text, out),
            other => write_plain(other, out),
        });
        Ok(())
    }
}

fn write_fields<T>(fields: impl IntoIterator<Item = T>, out: &mut Vec<u8>, write: impl Fn(T, &mut Vec<u8>)) {
    for (i, field) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(field, out);
    }
    out.push(b'\n');
}

fn write_csv_text(text: &str, out: &mut Vec<u8>) {
    // The mark of byte order would be no part of the text at the beginning of a file.
    let quoted = text.is_empty()
        || text.starts_with('\u{feff}')
        || text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'));
    if !quoted {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Writes a value that needs no quotes.
fn write_plain(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
        Value::UInt(v) => out.extend_from_slice(itoa::Buffer::new().format(*v).as_bytes()),
        // Writing to memory cannot fail.
        other => drop(write!(out, "{other}")),
    }
}

/// Rows as JSON lines, one object each. A number that JSON cannot express (NaN, infinity) is null.
#[derive(Clone, Debug, Default)]
pub struct JsonRows {
    /// The names of the columns, quoted, each with the punctuation around it.
    names: Vec<Vec<u8>>,
}

impl JsonRows {
    /// Objects with these members, in the order of the columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let member = |(i, name): (usize, &str)| {
            let separator = if i == 0 { '{' } else { ',' };
            format!("{separator}{}:", serde_json::Value::from(name)).into_bytes()
        };
        Self { names: columns.into_iter().enumerate().map(member).collect() }
    }
}

impl WriteRecords<Row> for JsonRows {
    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn write(&self, record: &Row, out: &mut Vec<u8>) -> Result<(), String> {
        let begin = out.len();
        for (i, name) in self.names.iter().enumerate() {
            out.extend_from_slice(name);
            let written = match record.get(i) {
                Value::Float(v) => serde_json::to_writer(&mut *out, v),
                Value::Text(text) => serde_json::to_writer(&mut *out, text.as_str()),
                Value::Timestamp(moment) => serde_json::to_writer(&mut *out, &moment.to_string()),
                other => {
                    write_plain(other, out);
                    Ok(())
                }
            };
            if let Err(e) = written {
                out.truncate(begin);
                return Err(format!("a row cannot be written as JSON: {e}"));
            }
        }
        if self.names.is_empty() {
            out.push(b'{');
        }
        out.extend_from_slice(b"}\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let values =
            [Value::Int(-7), Value::Null, Value::text("a,\"b\"\nc"), Value::text(""), Value::Float(1.0)];
        values.into_iter().collect()
    }

    fn written(format: &impl WriteRecords<Row>, row: &Row) -> String {
        let mut out = Vec::new();
        format.header(&mut out);
        format.write(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_quotes_where_it_must() {
        let format = CsvRows::with_header(["id", "a,b"]);
        assert_eq!(written(&format, &row()), "id,\"a,b\"\n-7,,\"a,\"\"b\"\"\nc\",\"\",1\n");
        assert_eq!(written(&CsvRows::new(), &[Value::Bool(true)].into_iter().collect()), "true\n");
    }

    #[test]
    fn json_lines_are_json() {
        let format = JsonRows::new(["a", "b\"", "c", "d", "e", "f"]);
        let mut row = row();
        row.push(Value::Float(f64::NAN));
        let text = written(&format, &row);
        assert_eq!(
            text,
            "{\"a\":-7,\"b\\\"\":null,\"c\":\"a,\\\"b\\\"\\nc\",\"d\":\"\",\"e\":1.0,\"f\":null}\n"
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
