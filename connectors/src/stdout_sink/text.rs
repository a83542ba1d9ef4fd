//! Text that waits for its checkpoint.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};

/// Lines that a [`StdoutSink`](super::StdoutSink) prints when their checkpoint is complete.
///
/// The stored form is the text alone, without its length, as checkpoints have it since their first version.
/// So reading it back takes everything up to the end of the input: it cannot be a part of another type, and
/// [`SerdeCodec`](strandline_state_api::SerdeCodec) cannot take a fingerprint of it.
#[derive(Clone, PartialEq, Eq)]
pub struct PendingText(pub(super) Vec<u8>);

impl Serialize for PendingText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A tuple stores no length.
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for PendingText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(usize::MAX, Bytes)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = PendingText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<PendingText, A::Error> {
        let mut text = Vec::new();
        // An error is the end of the input: every byte is a valid element.
        while let Ok(Some(byte)) = bytes.next_element() {
            text.push(byte);
        }
        Ok(PendingText(text))
    }
}

impl fmt::Debug for PendingText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingText").field(&String::from_utf8_lossy(&self.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use strandline_state_api::{Codec, SerdeCodec};

    use super::*;

    #[test]
    fn the_stored_form_is_the_text_alone() {
        for stored in [&b""[..], b"a,1\nb,2\n", &[0, 0x80, 0xFF], &[b'x'; 5_000]] {
            let text: PendingText = SerdeCodec.decode(stored).unwrap();
            assert_eq!(text.0, stored);
            let mut again = Vec::new();
            SerdeCodec.encode(&text, &mut again).unwrap();
            assert_eq!(again, stored);
        }
    }
}
