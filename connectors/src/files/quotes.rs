//! Where records end whose fields may have quotes, and where a line lies within a field.
//!
//! Two rules bring a reader over broken quotes without making rows of the inside of a field:
//!
//! * A field that opens and never closes has no end, so the line in which it opens is a bad record, and the
//!   next line begins a record.
//! * Where a record is one line, a field that goes on over several lines makes one bad record of these. It
//!   does so only if what follows can be its end, within [`REACH`]; otherwise the quote is a stray one, and
//!   the next line begins a record.

use std::io::{self, Read, Seek, SeekFrom};

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use super::place::InputPath;

/// How far behind the line in which a field opens its end is looked for, where records are lines.
pub(super) const REACH: u64 = 64 << 10;

/// Why [`record`] found no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endless {
    /// The bytes end within quotes.
    InQuotes,
    /// They end before the line does.
    InLine,
}

/// The length of the first record including its line end, with line ends in quotes.
///
/// A quote opens at the beginning of a field only, and a doubled quote within quotes stands for itself.
pub(super) fn record(bytes: &[u8], delimiter: u8) -> Result<usize, Endless> {
    let mut field_begins = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' && field_begins {
            at += 1;
            loop {
                let rest = bytes.get(at..).unwrap_or(&[]);
                at += memchr(b'"', rest).ok_or(Endless::InQuotes)? + 1;
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
            return Ok(at);
        }
        field_begins = byte == delimiter;
    }
    Err(Endless::InLine)
}

/// What follows a line whose last field is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Continued {
    /// The field closes, and the record ends after this many bytes.
    Until(usize),
    /// It cannot be the rest of a field.
    No,
    /// The bytes end before either is known.
    Unknown,
}

/// Looks for the end of a field that is open where `bytes` begin, and of its record.
pub(super) fn continued(bytes: &[u8], delimiter: u8, at_end_of_file: bool) -> Continued {
    let mut at = 0;
    let unknown = if at_end_of_file { Continued::No } else { Continued::Unknown };
    loop {
        // Within quotes.
        let Some(quote) = memchr(b'"', bytes.get(at..).unwrap_or(&[])) else { return unknown };
        at += quote + 1;
        match bytes.get(at) {
            None if at_end_of_file => return Continued::Until(at),
            None => return Continued::Unknown,
            Some(b'"') => {
                at += 1;
                continue;
            }
            Some(b'\n') => return Continued::Until(at + 1),
            Some(b'\r') => match bytes.get(at + 1) {
                Some(b'\n') => return Continued::Until(at + 2),
                None if at_end_of_file => return Continued::No,
                None => return Continued::Unknown,
                Some(_) => return Continued::No,
            },
            Some(byte) if *byte == delimiter => at += 1,
            Some(_) => return Continued::No,
        }
        // At the beginning of a field.
        loop {
            let rest = bytes.get(at..).unwrap_or(&[]);
            if rest.first() == Some(&b'"') {
                at += 1;
                break;
            }
            let Some(end) = memchr3(delimiter, b'"', b'\n', rest) else {
                return if at_end_of_file { Continued::Until(bytes.len()) } else { Continued::Unknown };
            };
            at += end + 1;
            match rest.get(end) {
                Some(b'\n') => return Continued::Until(at),
                Some(b'"') => return Continued::No,
                _ => {}
            }
        }
    }
}

/// Whether the last field of `line` opens with a quote that no other one closes, and nothing before is wrong.
pub(super) fn leaves_open(line: &[u8], delimiter: u8) -> bool {
    let mut rest = line;
    loop {
        if let [b'"', quoted @ ..] = rest {
            rest = quoted;
            loop {
                let Some(quote) = memchr(b'"', rest) else { return true };
                rest = rest.get(quote + 1..).unwrap_or(&[]);
                match rest {
                    [b'"', more @ ..] => rest = more,
                    _ => break,
                }
            }
        } else {
            let Some(end) = memchr2(delimiter, b'"', rest) else { return false };
            rest = rest.get(end..).unwrap_or(&[]);
        }
        match rest {
            [next, more @ ..] if *next == delimiter => rest = more,
            _ => return false,
        }
    }
}

/// A place at or before the line that begins at `line`, where certainly a record begins: by looking back over
/// lines none of which leaves a field open, as far as such a field can reach.
pub(super) fn record_before(path: &InputPath, line: u64, delimiter: u8, reach: u64) -> io::Result<u64> {
    let mut file = path.open()?;
    let (mut end, mut size) = (line, 2 * reach.max(1));
    let mut bytes = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(size);
        file.seek(SeekFrom::Start(from))?;
        bytes.clear();
        (&mut file).take(end - from).read_to_end(&mut bytes)?;
        let first = if from == 0 { Some(0) } else { memchr(b'\n', &bytes).map(|at| at + 1) };
        let lines = first.and_then(|first| bytes.get(first..)).unwrap_or(&[]);
        let begin = end - lines.len() as u64;
        let far_enough = from == 0 || lines.len() as u64 >= reach;
        if far_enough && !any_leaves_open(lines, delimiter) {
            return Ok(end);
        }
        if begin < end {
            end = begin;
        } else {
            size = size.saturating_mul(2);
        }
    }
    Ok(0)
}

fn any_leaves_open(lines: &[u8], delimiter: u8) -> bool {
    if memchr(b'"', lines).is_none() {
        return false;
    }
    let mut start = 0;
    let ends = memchr_iter(b'\n', lines).chain([lines.len()]);
    ends.into_iter().any(|end| {
        let line = lines.get(start..end).unwrap_or(&[]);
        start = end + 1;
        leaves_open(line, delimiter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_field_is_known_by_its_end() {
        for (rest, at_end, wanted) in [
            ("b\"\nc", false, Continued::Until(3)),
            ("b\"\r\nc", false, Continued::Until(4)),
            ("b\"", true, Continued::Until(2)),
            ("b\"", false, Continued::Unknown),
            ("b\"\"\",c,\"d\ne\"\nf", false, Continued::Until(13)),
            ("b\",c", true, Continued::Until(4)),
            ("b\",c", false, Continued::Unknown),
            ("b\" c\n", false, Continued::No),
            ("b\",c\"d\n", false, Continued::No),
            ("b\nc\n", true, Continued::No),
            ("b\nc\n", false, Continued::Unknown),
        ] {
            assert_eq!(continued(rest.as_bytes(), b',', at_end), wanted, "{rest:?}");
        }
    }
}
