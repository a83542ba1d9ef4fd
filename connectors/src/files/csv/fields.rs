//! The fields of one CSV record.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2};

/// The places of the fields in a record. A record without quotes, as most are, is only searched and not
/// copied.
pub(super) struct Fields {
    delimiter: u8,
    ranges: Vec<Range<usize>>,
    /// The fields of a record with quotes, without these.
    unquoted: Vec<u8>,
    /// Which fields of it had quotes; empty for a record without.
    quoted: Vec<bool>,
}

/// What is wrong with the quotes of a record, and in which field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A quote opens the field, and none closes it.
    Open(usize),
    /// Something follows the quote that closes the field.
    Behind(usize),
    /// The field does not begin with a quote, and has one.
    Inside(usize),
}

impl Fields {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, ranges: Vec::new(), unquoted: Vec::new(), quoted: Vec::new() }
    }

    /// Finds the fields of `record`, which has no line end behind it.
    #[inline]
    pub(super) fn split(&mut self, record: &[u8]) -> Result<(), Malformed> {
        self.ranges.clear();
        self.quoted.clear();
        if memchr(b'"', record).is_some() {
            return self.split_quoted(record);
        }
        let mut start = 0;
        for end in memchr_iter(self.delimiter, record) {
            self.ranges.push(start..end);
            start = end + 1;
        }
        self.ranges.push(start..record.len());
        Ok(())
    }

    fn split_quoted(&mut self, record: &[u8]) -> Result<(), Malformed> {
        self.unquoted.clear();
        let mut rest = record;
        loop {
            let (field, start) = (self.ranges.len(), self.unquoted.len());
            let quoted = rest.first() == Some(&b'"');
            let behind = if quoted {
                self.unquote(rest.get(1..).unwrap_or(&[])).ok_or(Malformed::Open(field))?
            } else {
                let end = memchr2(self.delimiter, b'"', rest).unwrap_or(rest.len());
                let (plain, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                self.unquoted.extend_from_slice(plain);
                behind
            };
            self.ranges.push(start..self.unquoted.len());
            self.quoted.push(quoted);
            rest = match behind {
                [] => return Ok(()),
                [next, rest @ ..] if *next == self.delimiter => rest,
                _ if quoted => return Err(Malformed::Behind(field)),
                _ => return Err(Malformed::Inside(field)),
            };
        }
    }

    /// Appends what stands before the closing quote, and returns what stands behind it.
    fn unquote<'a>(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let (text, behind) = rest.split_at_checked(memchr(b'"', rest)?)?;
            self.unquoted.extend_from_slice(text);
            match behind {
                [_, b'"', behind @ ..] => {
                    self.unquoted.push(b'"');
                    rest = behind;
                }
                [_, behind @ ..] => return Some(behind),
                [] => return None,
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// A field of `record`, which was split last.
    #[inline]
    pub(super) fn get<'a>(&'a self, record: &'a [u8], field: usize) -> &'a [u8] {
        let bytes = if self.quoted.is_empty() { record } else { &self.unquoted };
        self.ranges.get(field).and_then(|range| bytes.get(range.clone())).unwrap_or(&[])
    }

    /// Whether the field had quotes around it.
    #[inline]
    pub(super) fn is_quoted(&self, field: usize) -> bool {
        self.quoted.get(field) == Some(&true)
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields").field("ranges", &self.ranges).finish()
    }
}
