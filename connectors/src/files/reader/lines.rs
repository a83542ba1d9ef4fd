//! The numbers of lines, for messages.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use super::super::place::InputPath;
use super::BUFFER;

/// Counts the lines of a file, for messages. It reads the file up to each place that it is asked for, but no
/// part twice while these rise.
#[derive(Debug, Default)]
pub(in super::super) struct LineCounter {
    offset: u64,
    line_ends: u64,
}

impl LineCounter {
    /// The number of the line at `offset`, from 1.
    pub(in super::super) fn line(&mut self, path: &InputPath, offset: u64) -> Option<u64> {
        if offset < self.offset {
            *self = Self::default();
        }
        let mut file = path.open().ok()?;
        file.seek(SeekFrom::Start(self.offset)).ok()?;
        let mut reader = BufReader::with_capacity(BUFFER, file.take(offset - self.offset));
        loop {
            let bytes = reader.fill_buf().ok()?;
            if bytes.is_empty() {
                return Some(self.line_ends + 1);
            }
            self.line_ends += memchr::memchr_iter(b'\n', bytes).count() as u64;
            let len = bytes.len();
            self.offset += len as u64;
            reader.consume(len);
        }
    }
}
