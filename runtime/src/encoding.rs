//! How a checkpoint stores the positions of sources and the committables of sinks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Codec, Result, SerdeCodec};

/// Encodes each of `values`.
pub(crate) fn encode_all<T: Serialize + DeserializeOwned + 'static>(values: &[T]) -> Result<Vec<Vec<u8>>> {
    let encode = |value| {
        let mut bytes = Vec::new();
        SerdeCodec.encode(value, &mut bytes)?;
        Ok(bytes)
    };
    values.iter().map(encode).collect()
}

/// The inverse of [`encode_all`].
///
/// # Errors
/// `Corrupt` when the bytes are no `T`.
pub(crate) fn decode_all<T: Serialize + DeserializeOwned + 'static>(encoded: &[Vec<u8>]) -> Result<Vec<T>> {
    encoded.iter().map(|bytes| SerdeCodec.decode(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Split {
        file: String,
        end: u64,
        owner: Option<(u32, u32)>,
    }

    /// Part of the format: connectors wrote these bytes by hand before the executor encoded for them.
    #[test]
    fn a_struct_is_stored_in_the_wire_format_of_postcard() {
        let split = Split { file: "a".into(), end: 300, owner: Some((1, 2)) };
        let encoded = encode_all(std::slice::from_ref(&split)).unwrap();
        assert_eq!(encoded, [[1, b'a', 0xAC, 0x02, 1, 1, 2]]);
        assert_eq!(decode_all::<Split>(&encoded).unwrap(), [split]);
        assert!(decode_all::<Split>(&[vec![1]]).is_err());
    }
}
