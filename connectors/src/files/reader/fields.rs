//! Fields in quotes that go on over several lines where records are lines.

use strandline_state_api::Result;

use super::super::place::unreadable;
use super::super::quotes::{self, Continued};
use super::{Framing, Range, SplitReader};

impl SplitReader {
    /// The last record left a field open: skips the lines over which it goes on, if it does and records are
    /// lines. Returns whether it does.
    pub(in super::super) fn skip_open_field(&mut self) -> Result<bool> {
        let Framing::QuotedLines { delimiter } = self.framing else { return Ok(false) };
        let reach = usize::try_from(self.reach()).unwrap_or(usize::MAX);
        loop {
            let unread = self.buffer.get(self.head..self.tail).unwrap_or(&[]);
            let near = unread.get(..reach).unwrap_or(unread);
            match quotes::continued(near, delimiter, self.at_end_of_file && near.len() == unread.len()) {
                Continued::Until(len) => {
                    self.skip(len);
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
    pub(super) fn skip_field_of_earlier_lines(&mut self) -> Result<()> {
        let Framing::QuotedLines { delimiter } = self.framing else { return Ok(()) };
        let before = quotes::record_before(&self.path, self.offset, delimiter, self.reach());
        let before = before.map_err(|e| unreadable(&self.path, e).with("byte", self.offset))?;
        if before == self.offset {
            return Ok(());
        }
        // Its first byte begins a record, so it is no cut.
        let range = Range { start: 0, offset: before, end: self.offset, partial: true };
        let mut earlier = Self::open(&self.path, self.framing, self.max_record, range)?;
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
}
