//! Finds the records of one split.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::memchr;
use strandline_state_api::{Error, Result};

use super::listing::unreadable;

/// The rule by which records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// At each line end.
    Lines,
    /// At each line end outside of quotes. Only a reader that begins at the beginning of the file knows where
    /// a quote opens, so a file is one split.
    Quoted {
        /// The byte between fields.
        delimiter: u8,
    },
}

impl Framing {
    /// The length of the first record including its line end, if all of it is in `bytes`.
    #[inline]
    fn record(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => memchr(b'\n', bytes).map(|at| at + 1),
            Self::Quoted { delimiter } => quoted_record(bytes, delimiter),
        }
    }
}

/// A quote opens at the beginning of a field only, and a doubled quote within quotes stands for itself.
fn quoted_record(bytes: &[u8], delimiter: u8) -> Option<usize> {
    let mut field_begins = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' && field_begins {
            at += 1;
            loop {
                at += memchr(b'"', bytes.get(at..)?)? + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
            field_begins = false;
            continue;
        }
        at += 1;
        if byte == b'\n' {
            return Some(at);
        }
        field_begins = byte == delimiter;
    }
    None
}

/// A longer record means a broken file.
const MAX_RECORD: usize = 64 << 20;
const BUFFER: usize = 256 << 10;

/// Reads the records whose first byte lies in one byte range of a file.
#[derive(Debug)]
pub(super) struct SplitReader {
    path: PathBuf,
    file: File,
    framing: Framing,
    /// The unread bytes are `buffer[head..tail]`; in the file they begin at `offset`.
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
    offset: u64,
    end: u64,
    at_end_of_file: bool,
}

impl SplitReader {
    /// Opens the split from `start` to before `end` at `offset`: `start` itself, or the beginning of a later
    /// record.
    pub(super) fn open(path: &Path, framing: Framing, start: u64, offset: u64, end: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        // A record begins at `start` only if a line ends just before it: begin with that byte and drop the
        // first line.
        let cut = offset == start && start > 0;
        let from = if cut { start - 1 } else { offset };
        file.seek(SeekFrom::Start(from)).map_err(|e| unreadable(path, e))?;
        let mut reader = Self {
            path: path.to_owned(),
            file,
            framing,
            buffer: vec![0; BUFFER],
            head: 0,
            tail: 0,
            offset: from,
            end,
            at_end_of_file: false,
        };
        if cut {
            reader.skip_line()?;
        } else if offset == 0 {
            reader.skip_byte_order_mark()?;
        }
        Ok(reader)
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record without its line end, and where it begins; `None` at the end of the split.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let len = loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            if let Some(len) = self.framing.record(unread) {
                break len;
            }
            if self.at_end_of_file {
                if unread.is_empty() {
                    return Ok(None);
                }
                break unread.len();
            }
            self.fill()?;
        };
        let begin = self.offset;
        let mut record = self.buffer.get(self.head..self.head + len).unwrap_or(&[]);
        self.head += len;
        self.offset += len as u64;
        if let [line @ .., b'\n'] = record {
            record = line;
            if let [line @ .., b'\r'] = record {
                record = line;
            }
        }
        Ok(Some((begin, record)))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let found = memchr(b'\n', unread).map(|at| at + 1);
            let skip = found.unwrap_or(unread.len());
            self.head += skip;
            self.offset += skip as u64;
            if found.is_some() || self.at_end_of_file {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        while self.tail < 3 && !self.at_end_of_file {
            self.fill()?;
        }
        if self.buffer.get(..self.tail).is_some_and(|bytes| bytes.starts_with(b"\xEF\xBB\xBF")) {
            self.head = 3;
            self.offset = 3;
        }
        Ok(())
    }

    /// Reads more bytes behind the unread ones.
    fn fill(&mut self) -> Result<()> {
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            self.tail -= self.head;
            self.head = 0;
        }
        if self.tail == self.buffer.len() {
            if self.tail >= MAX_RECORD {
                let message =
                    format!("a record is longer than {} MiB; is this a text file?", MAX_RECORD >> 20);
                return Err(Error::invalid(message)
                    .with("file", self.path.display())
                    .with("byte", self.offset));
            }
            self.buffer.resize(2 * self.tail, 0);
        }
        let free = self.buffer.get_mut(self.tail..).unwrap_or(&mut []);
        let read = loop {
            match self.file.read(free) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| unreadable(&self.path, e).with("byte", self.offset))?,
            }
        };
        self.tail += read;
        self.at_end_of_file = read == 0;
        Ok(())
    }
}

/// The number of the line at `offset`, from 1. Reads the file up to there, so it serves messages only.
pub(super) fn line_number(path: &Path, offset: u64) -> Option<u64> {
    let mut reader = BufReader::new(File::open(path).ok()?.take(offset));
    let mut lines = 1;
    loop {
        let bytes = reader.fill_buf().ok()?;
        if bytes.is_empty() {
            return Some(lines);
        }
        lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        let len = bytes.len();
        reader.consume(len);
    }
}
