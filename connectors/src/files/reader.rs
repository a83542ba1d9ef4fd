//! Finds the records of one split.

mod fields;
mod lines;
mod open;

use std::io::Read;

use memchr::{memchr, memchr_iter};
use strandline_state_api::{Error, ErrorKind, Result};

use self::open::BYTE_ORDER_MARK;
use super::content::Content;
use super::identity::{self, WINDOW};
use super::place::{InputPath, unreadable};
use super::quotes::{self, Endless};

pub(super) use self::lines::LineCounter;
pub(super) use self::open::OpenFile;

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
/// How many bytes it reads at once, where nothing else is set.
pub(super) const BUFFER: usize = 64 << 10;

/// Which part of a file to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    /// Its first byte, which may lie within a record that another reader reads.
    pub(super) start: u64,
    /// `start`, or the beginning of a later record.
    pub(super) offset: u64,
    /// The first byte behind it. A record that begins before is read to its end.
    pub(super) end: u64,
    /// Whether bytes behind the last line end are a record.
    pub(super) partial: bool,
}

impl Range {
    /// A whole file.
    pub(super) const ALL: Self = Self { start: 0, offset: 0, end: u64::MAX, partial: true };
}

/// Reads the records whose first byte lies in one byte range of a file.
#[derive(Debug)]
pub(super) struct SplitReader {
    path: InputPath,
    content: Content,
    /// The first [`WINDOW`] bytes of the content.
    first: Vec<u8>,
    framing: Framing,
    /// The unread bytes are `buffer[head..tail]`; in the content they begin at `offset`. At least [`WINDOW`]
    /// of the bytes before them are there, too, or all that there are, and the last record from `last` on.
    buffer: Vec<u8>,
    last: usize,
    head: usize,
    tail: usize,
    offset: u64,
    end: u64,
    partial: bool,
    at_end_of_file: bool,
    max_record: usize,
    /// The beginning of a record that is longer than that.
    long: Vec<u8>,
    /// How many lines end before the buffer, where the content is read from its beginning.
    line_ends: u64,
    /// The line of the record in `long`.
    long_line: u64,
    waits: bool,
    /// Whether it waits for the bytes of a stream itself.
    patient: bool,
}

impl SplitReader {
    pub(super) fn open(path: &InputPath, framing: Framing, max_record: usize, range: Range) -> Result<Self> {
        Self::new(OpenFile::open(path)?, framing, max_record, range, BUFFER)
    }

    /// A reader that reads about `capacity` bytes at once.
    pub(super) fn new(
        open: OpenFile,
        framing: Framing,
        max_record: usize,
        range: Range,
        capacity: usize,
    ) -> Result<Self> {
        let OpenFile { path, mut content, head: first } = open;
        let Range { start, offset, end, partial } = range;
        // A record begins at `start` only if a line ends just before it: begin with that byte and drop the
        // first line.
        let cut = offset == start && start > 0;
        let from = if cut { start - 1 } else { offset };
        let before = from.min(WINDOW as u64) as usize;
        // One byte more than there is, so that a small file ends with the second read.
        let wanted = end.saturating_sub(from).min(capacity as u64) as usize + before + 1;
        let mut buffer = vec![0; wanted.clamp(2 * WINDOW, capacity.max(2 * WINDOW))];
        let (base, tail) = if from <= first.len() as u64 || content.is_forward() {
            if let Some(known) = buffer.get_mut(..first.len()) {
                known.copy_from_slice(&first);
            }
            (0, first.len())
        } else {
            let base = from - before as u64;
            (content.seek(&path, base).map_err(|e| unreadable(&path, e))?, 0)
        };
        let mut reader = Self {
            path,
            content,
            first,
            framing,
            buffer,
            last: 0,
            head: 0,
            tail,
            offset: base,
            end,
            partial,
            at_end_of_file: false,
            max_record: max_record.clamp(1, usize::MAX - 1),
            long: Vec::new(),
            line_ends: 0,
            long_line: 0,
            waits: false,
            patient: false,
        };
        reader.advance(from)?;
        if cut {
            reader.skip_line()?;
            reader.skip_field_of_earlier_lines()?;
        } else if offset == 0 {
            reader.skip_byte_order_mark()?;
        }
        Ok(reader)
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The last bytes before the next record, up to [`WINDOW`] of them.
    fn before(&self) -> &[u8] {
        self.buffer.get(self.head.saturating_sub(WINDOW)..self.head).unwrap_or_default()
    }

    /// Whether offsets are those of a content that can only be read from its beginning on.
    pub(super) fn is_forward(&self) -> bool {
        self.content.is_forward()
    }

    /// Whether it decompresses a file.
    pub(super) fn is_packed(&self) -> bool {
        self.content.is_packed()
    }

    /// Whether the stream has no further bytes now, and has not ended.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// As [`next`](Self::next), but waits for the bytes of a stream.
    pub(super) fn next_awaited(&mut self) -> Result<Option<(u64, &[u8])>> {
        self.patient = true;
        let at = self.next()?.map(|(offset, record)| (offset, record.len()));
        self.patient = false;
        let Some((offset, len)) = at else { return Ok(None) };
        let record =
            if self.long.is_empty() { self.buffer.get(self.last..) } else { Some(self.long.as_slice()) };
        Ok(record.and_then(|record| record.get(..len)).map(|record| (offset, record)))
    }

    /// Whether there is something to read.
    pub(super) fn is_ready(&mut self) -> bool {
        match &mut self.content {
            Content::Stream(stream) => stream.is_ready(),
            Content::Plain(_) | Content::Packed(_) => true,
        }
    }

    /// The length of a compressed file whose content was read to its end.
    pub(super) fn raw_len(&self) -> u64 {
        self.content.raw_len()
    }

    /// The line in which the last record begins, from 1, where the content was read from its beginning.
    pub(super) fn line(&self) -> u64 {
        if !self.long.is_empty() {
            return self.long_line;
        }
        let before = self.buffer.get(..self.last).unwrap_or_default();
        self.line_ends + memchr_iter(b'\n', before).count() as u64 + 1
    }

    /// The bytes of the last record, and of what was skipped with it; of a long one its beginning.
    pub(super) fn raw_record(&self) -> &[u8] {
        let bytes = self.buffer.get(self.last..self.head).unwrap_or_default();
        without_line_end(if self.long.is_empty() { bytes } else { &self.long })
    }

    /// The [mark](identity::mark) of the file up to the next record, and the bytes before it that an error
    /// shows.
    pub(super) fn mark(&self) -> (u32, &[u8]) {
        (identity::mark(&self.first, self.before()), identity::excerpt(self.before()))
    }

    /// The next record without its line end, and where it begins; `None` at the end of the split, and where
    /// the file ends within a record that may grow. Of a record that is longer than records may be, only a
    /// beginning that is longer, too.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        if self.offset >= self.end {
            return Ok(None);
        }
        self.last = self.head;
        self.long.clear();
        let len = loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let found = self.framing.record(unread);
            match found {
                Ok(len) if len <= self.max_record => break len,
                Err(_) if !self.at_end_of_file && unread.len() <= self.max_record + 1 => {
                    self.waits = !self.patient && !self.is_ready();
                    if self.waits {
                        return Ok(None);
                    }
                    self.fill()?;
                }
                Err(_) if unread.is_empty() => return Ok(None),
                Err(_) if self.at_end_of_file && !self.partial => return Ok(None),
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
        self.long_line = self.line();
        self.long = unread.to_vec();
        if !self.skip_line()? && !self.partial {
            self.rewind(begin)?;
            return Ok(None);
        }
        Ok(Some((begin, &self.long)))
    }

    #[inline]
    fn take(&mut self, len: usize) -> (u64, &[u8]) {
        let (begin, from) = (self.offset, self.head);
        self.skip(len);
        (begin, without_line_end(self.buffer.get(from..from + len).unwrap_or(&[])))
    }

    /// As [`next`](Self::next), but leaves the record to be read.
    pub(super) fn peek(&mut self) -> Result<Option<&[u8]>> {
        let begin = self.offset;
        if self.next()?.is_none() {
            return Ok(None);
        }
        if !self.long.is_empty() {
            self.rewind(begin)?;
            return Ok(Some(&self.long));
        }
        let len = (self.offset - begin) as usize;
        self.head -= len;
        self.offset = begin;
        let record = self.buffer.get(self.head..self.head + len).unwrap_or(&[]);
        Ok(Some(without_line_end(record)))
    }

    /// Goes back to `offset`, where a record begins that no longer is in the buffer.
    #[cold]
    fn rewind(&mut self, offset: u64) -> Result<()> {
        let base = self.content.seek(&self.path, offset.saturating_sub(WINDOW as u64));
        let base = base.map_err(|e| unreadable(&self.path, e))?;
        (self.last, self.head, self.tail, self.offset, self.at_end_of_file) = (0, 0, 0, base, false);
        self.line_ends = 0;
        self.advance(offset)
    }

    /// Skips everything before `offset`, and waits for it.
    pub(super) fn advance(&mut self, offset: u64) -> Result<()> {
        while self.offset < offset {
            let unread = (self.tail - self.head) as u64;
            self.skip(unread.min(offset - self.offset) as usize);
            self.last = self.head;
            if self.offset == offset {
                break;
            }
            self.fill()?;
            if self.at_end_of_file {
                let message = "an input file became shorter while it was read";
                return Err(Error::new(ErrorKind::Incompatible, message)
                    .with("file", self.path.display())
                    .with("expected", offset));
            }
        }
        Ok(())
    }

    fn skip(&mut self, len: usize) {
        self.head += len;
        self.offset += len as u64;
    }

    /// Skips up to the next line end, or to the end of the file; returns whether there is a line end.
    fn skip_line(&mut self) -> Result<bool> {
        loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let found = memchr(b'\n', unread).map(|at| at + 1);
            self.skip(found.unwrap_or(unread.len()));
            self.last = self.head;
            if found.is_some() || self.at_end_of_file {
                return Ok(found.is_some());
            }
            self.fill()?;
        }
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        while self.tail < BYTE_ORDER_MARK.len() && !self.at_end_of_file {
            self.fill()?;
        }
        if self.buffer.get(..self.tail).is_some_and(|bytes| bytes.starts_with(BYTE_ORDER_MARK)) {
            self.skip(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// Reads more bytes behind the unread ones.
    fn fill(&mut self) -> Result<()> {
        let kept = self.head.saturating_sub(WINDOW).min(self.last);
        if kept > 0 {
            if self.content.is_forward() {
                let dropped = self.buffer.get(..kept).unwrap_or_default();
                self.line_ends += memchr_iter(b'\n', dropped).count() as u64;
            }
            self.buffer.copy_within(kept..self.tail, 0);
            self.tail -= kept;
            self.head -= kept;
            self.last -= kept;
        }
        if self.tail == self.buffer.len() {
            self.buffer.resize(2 * self.tail, 0);
        }
        let behind = self.offset + (self.tail - self.head) as u64;
        let free = self.buffer.get_mut(self.tail..).unwrap_or(&mut []);
        let read = loop {
            match self.content.read(free) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(read) => break read,
                Err(e) => return Err(self.content.error(&self.path, behind, e)),
            }
        };
        if behind == self.first.len() as u64 && behind < WINDOW as u64 {
            // Of a stream not all of the first bytes were there at once.
            let more = free.get(..read.min(WINDOW - self.first.len())).unwrap_or_default();
            self.first.extend_from_slice(more);
        }
        self.tail += read;
        self.at_end_of_file = read == 0;
        Ok(())
    }
}

#[inline]
fn without_line_end(record: &[u8]) -> &[u8] {
    match record {
        [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => line,
        line => line,
    }
}
