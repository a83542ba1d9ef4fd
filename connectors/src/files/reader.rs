//! Finds the records of one split.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use memchr::memchr;
use strandline_state_api::Result;

use super::listing::unreadable;
use super::quotes::{self, Continued, Endless};

/// The rule by which records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// At each line end.
    Lines,
    /// At each line end. Fields may have quotes; where one goes on over several lines, these are one bad
    /// record.
    QuotedLines {
        /// The byte between fields.
        delimiter: u8,
    },
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
    fn record(self, bytes: &[u8]) -> Result<usize, Endless> {
        match self {
            Self::Lines | Self::QuotedLines { .. } => {
                memchr(b'\n', bytes).map(|at| at + 1).ok_or(Endless::InLine)
            }
            Self::Quoted { delimiter } => quotes::record(bytes, delimiter),
        }
    }
}

/// The longest record, unless another length is set: a longer one means a broken file.
pub(super) const MAX_RECORD: usize = 64 << 20;
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
    max_record: usize,
    /// The beginning of a record that is longer than that.
    long: Vec<u8>,
}

impl SplitReader {
    /// Opens the split from `start` to before `end` at `offset`: `start` itself, or the beginning of a later
    /// record.
    pub(super) fn open(
        path: &Path,
        framing: Framing,
        max_record: usize,
        (start, offset, end): (u64, u64, u64),
    ) -> Result<Self> {
        // A record begins at `start` only if a line ends just before it: begin with that byte and drop the
        // first line.
        let cut = offset == start && start > 0;
        let from = if cut { start - 1 } else { offset };
        let mut reader = Self::open_at(path, framing, max_record, from, end)?;
        if cut {
            reader.skip_line()?;
            reader.skip_field_of_earlier_lines()?;
        } else if offset == 0 {
            reader.skip_byte_order_mark()?;
        }
        Ok(reader)
    }

    /// Opens a file at `from`, where a record begins.
    fn open_at(path: &Path, framing: Framing, max_record: usize, from: u64, end: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| unreadable(path, e))?;
        file.seek(SeekFrom::Start(from)).map_err(|e| unreadable(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            framing,
            buffer: vec![0; BUFFER],
            head: 0,
            tail: 0,
            offset: from,
            end,
            at_end_of_file: false,
            max_record: max_record.clamp(1, usize::MAX - 1),
            long: Vec::new(),
        })
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record without its line end, and where it begins; `None` at the end of the split. Of a record
    /// that is longer than records may be, only a beginning that is longer, too.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        let len = loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let found = self.framing.record(unread);
            match found {
                Ok(len) if len <= self.max_record => break len,
                Err(_) if !self.at_end_of_file && unread.len() <= self.max_record + 1 => self.fill()?,
                Err(_) if unread.is_empty() => return Ok(None),
                Ok(_) | Err(_) => return self.unusual(found),
            }
        };
        Ok(Some(self.take(len)))
    }

    /// A record that is long, or the last one of a file.
    #[cold]
    fn unusual(&mut self, found: Result<usize, Endless>) -> Result<Option<(u64, &[u8])>> {
        let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
        let len = match found {
            // With so long a record the field that goes on over its lines counts as one that never closes.
            Ok(len) if matches!(self.framing, Framing::Quoted { .. }) => {
                memchr(b'\n', unread).map_or(len, |at| at + 1)
            }
            Ok(len) => len,
            Err(Endless::InQuotes) => memchr(b'\n', unread).map_or(unread.len(), |at| at + 1),
            Err(Endless::InLine) => unread.len(),
        };
        if self.at_end_of_file || unread.get(len.wrapping_sub(1)) == Some(&b'\n') {
            return Ok(Some(self.take(len)));
        }
        let begin = self.offset;
        self.long = unread.to_vec();
        self.skip_line()?;
        Ok(Some((begin, &self.long)))
    }

    #[inline]
    fn take(&mut self, len: usize) -> (u64, &[u8]) {
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
        (begin, record)
    }

    /// The last record left a field open: skips the lines over which it goes on, if it does and records are
    /// lines. Returns whether it does.
    pub(super) fn skip_open_field(&mut self) -> Result<bool> {
        let Framing::QuotedLines { delimiter } = self.framing else { return Ok(false) };
        let reach = usize::try_from(self.reach()).unwrap_or(usize::MAX);
        loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let near = unread.get(..reach).unwrap_or(unread);
            match quotes::continued(near, delimiter, self.at_end_of_file && near.len() == unread.len()) {
                Continued::Until(len) => {
                    self.head += len;
                    self.offset += len as u64;
                    return Ok(true);
                }
                Continued::Unknown if unread.len() < reach && !self.at_end_of_file => self.fill()?,
                Continued::No | Continued::Unknown => return Ok(false),
            }
        }
    }

    fn reach(&self) -> u64 {
        quotes::REACH.min(self.max_record as u64)
    }

    /// The reader stands at the beginning of a line: skips what a field takes of it that an earlier line left
    /// open, and that the reader of the split before takes with that line.
    fn skip_field_of_earlier_lines(&mut self) -> Result<()> {
        let Framing::QuotedLines { delimiter } = self.framing else { return Ok(()) };
        let before = quotes::record_before(&self.path, self.offset, delimiter, self.reach());
        let before = before.map_err(|e| unreadable(&self.path, e).with("byte", self.offset))?;
        if before == self.offset {
            return Ok(());
        }
        let mut earlier = Self::open_at(&self.path, self.framing, self.max_record, before, self.offset)?;
        while let Some((_, record)) = earlier.next()? {
            if record.len() <= self.max_record && quotes::leaves_open(record, delimiter) {
                earlier.skip_open_field()?;
            }
        }
        while self.offset < earlier.offset && !(self.at_end_of_file && self.head == self.tail) {
            self.skip_line()?;
        }
        Ok(())
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

/// Counts the lines of a file, for messages. It reads the file up to each place that it is asked for, but no
/// part twice while these rise.
#[derive(Debug, Default)]
pub(super) struct LineCounter {
    file: PathBuf,
    offset: u64,
    line_ends: u64,
}

impl LineCounter {
    /// The number of the line at `offset`, from 1.
    pub(super) fn line(&mut self, path: &Path, offset: u64) -> Option<u64> {
        if path != self.file || offset < self.offset {
            *self = Self { file: path.to_owned(), ..Self::default() };
        }
        let mut file = File::open(path).ok()?;
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
