//! Lines of text.

use compact_str::CompactString;
use strandline_state_api::{Batch, Result};

use super::{BadRecord, Decode, FileFormat, Framing};
use crate::row::{Row, Value};

/// Text files: each line is a row with one text column.
#[derive(Clone, Copy, Debug, Default)]
pub struct TextLines;

impl FileFormat for TextLines {
    type Record = Row;
    type Decoder = Self;

    fn layout(&self) -> String {
        "lines of text".to_owned()
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self, _: &[u8]) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Decode<Row> for TextLines {
    #[inline]
    fn decode(&mut self, bytes: &[u8], output: &mut Batch<Row>) -> Result<(), BadRecord> {
        let line = CompactString::from_utf8(bytes).map_err(|e| not_utf8(&e, bytes))?;
        output.push([Value::Text(line)].into_iter().collect(), None);
        Ok(())
    }
}

/// The error message for text that is not UTF-8.
pub(super) fn not_utf8(error: &std::str::Utf8Error, text: &[u8]) -> String {
    let at = error.valid_up_to();
    let byte = text.get(at).copied().unwrap_or_default();
    format!("expected UTF-8 text, found the byte 0x{byte:02x} after {at} bytes of it")
}
