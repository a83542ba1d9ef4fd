//! Refuses files that are no text in UTF-8, before their bytes come into a message or a result.

use memchr::memchr;
use strandline_state_api::{Error, Result};

use super::place::InputPath;

/// Beginnings of files that are no text, and what they are.
const KNOWN: [(&[u8], &str); 8] = [
    (b"\xFF\xFE", "UTF-16; convert it first, for example with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xFE\xFF", "UTF-16; convert it first, for example with `iconv -f UTF-16 -t UTF-8`"),
    (b"\x1F\x8B", "compressed, and so is what it decompresses to; decompress it once"),
    (b"\x28\xB5\x2F\xFD", "compressed, and so is what it decompresses to; decompress it once"),
    (b"\x04\x22\x4D\x18", "compressed by lz4; decompress it first, or compress it by gzip or zstd"),
    (b"\xFD7zXZ\0", "compressed by xz; decompress it first, or compress it by gzip or zstd"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"PAR1\x15", "in the format Parquet; convert it first"),
];

/// Checks the beginning of the content of a file.
pub(super) fn check(path: &InputPath, head: &[u8]) -> Result<()> {
    match foreign(head) {
        None => Ok(()),
        Some(what) => Err(Error::invalid(format!("the input file is no text in UTF-8: it is {what}"))
            .with("file", path.display())),
    }
}

/// What a file with this beginning is, if no text in UTF-8.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let known = KNOWN.iter().find(|(start, _)| head.starts_with(start)).map(|(_, what)| *what);
    let utf_16 = || is_utf_16(head).then_some("UTF-16 without its mark; convert it first");
    // Text may have a zero byte; what is binary has other bytes, too, that text has not.
    let is_binary = || memchr(0, head).is_some() && !is_utf_8(head);
    let binary = || is_binary().then_some("binary");
    known.or_else(utf_16).or_else(binary)
}

/// Whether these bytes are ASCII text in UTF-16: each second one is zero.
fn is_utf_16(head: &[u8]) -> bool {
    let (pairs, _) = head.as_chunks::<2>();
    let all = |is_zero: [bool; 2]| pairs.iter().all(|pair| pair.map(|byte| byte == 0) == is_zero);
    pairs.len() >= 2 && (all([false, true]) || all([true, false]))
}

/// Whether these bytes are the beginning of text in UTF-8.
fn is_utf_8(head: &[u8]) -> bool {
    // The last character may be cut.
    std::str::from_utf8(head).map_or_else(|e| e.error_len().is_none(), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_passes_and_other_files_are_named() {
        for text in ["", "a,b\n", "\u{feff}a,b\n", "P", "PK\n", "PAR1,x\n", "\u{fffd}\u{e9}\n", "a,\0\n"] {
            assert_eq!(foreign(text.as_bytes()), None, "{text:?}");
        }
        for (head, part) in [
            (&b"\xFF\xFEa\0,\0"[..], "UTF-16"),
            (b"\xFE\xFF\0a", "UTF-16"),
            (b"a\0,\0", "UTF-16"),
            (b"\x1F\x8B\x08", "compressed"),
            (b"PK\x03\x04\x14", "zip"),
            (b"\x7FELF\x02\x01\x01\0\xC0\xC1", "binary"),
            (b"PAR1\x15\x04", "Parquet"),
        ] {
            assert!(foreign(head).is_some_and(|what| what.contains(part)), "{part}");
        }
    }
}
