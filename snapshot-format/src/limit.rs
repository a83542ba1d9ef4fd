//! The limit of one entry, and the error that names an entry above it.

use std::fmt::Write;

use strandline_state_api::{Error, ErrorKind, Result};

use crate::entry::EntryRef;
use crate::layout::MAX_ENTRY_BYTES;

/// How many characters of a key an error names.
const SHOWN: usize = 64;

/// Checks that an entry fits into a segment. For backends, which check before a commit could fail.
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported) when key, namespace, map key and value together have more than
/// [`MAX_ENTRY_BYTES`]; the error names the key.
#[inline]
pub fn check_entry_size(entry: &EntryRef<'_>) -> Result<()> {
    if entry.payload_len() > MAX_ENTRY_BYTES { Err(too_large(entry, entry.payload_len())) } else { Ok(()) }
}

/// Returns the error for an entry of `len` bytes.
#[cold]
pub fn too_large(entry: &EntryRef<'_>, len: usize) -> Error {
    let message = format!(
        "an entry of the state is too large for a snapshot: key, namespace, map key and value have {len} bytes, \
         and at most {MAX_ENTRY_BYTES} are possible; remove it, or spread it over the entries of a map"
    );
    let error = Error::new(ErrorKind::Unsupported, message).with("key", shown(entry.key));
    let parts = [("namespace", entry.namespace), ("map key", entry.sub)];
    parts.iter().filter(|(_, part)| !part.is_empty()).fold(error, |e, (name, part)| e.with(name, shown(part)))
}

/// Returns the beginning of encoded bytes: text as it is, anything else in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    let (start, more) = (&bytes[..bytes.len().min(SHOWN)], bytes.len() > SHOWN);
    let printable = start.utf8_chunks().next().filter(|chunk| chunk.invalid().len() < 4 && !start.is_empty());
    let text = printable
        .map(|chunk| chunk.valid())
        .filter(|text| text.len() + 4 > start.len() && text.chars().all(|character| !character.is_control()));
    let mut shown = match text {
        Some(text) => format!("{text:?}"),
        None => start.iter().fold(String::from("0x"), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    };
    if more {
        let _ = write!(shown, ".. ({} bytes)", bytes.len());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_text_or_in_hexadecimal() {
        assert_eq!(shown(b"user-7"), "\"user-7\"");
        assert_eq!(shown(&[0, 255, 16]), "0x00ff10");
        assert_eq!(shown(&[]), "0x");
        assert!(shown("ä".repeat(100).as_bytes()).ends_with(".. (200 bytes)"));
    }
}
