//! How a checkpoint stores the positions of sources and the committables of sinks: each as one element,
//! encoded by [`SerdeCodec`].

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Codec, Error, ErrorKind, Result, SerdeCodec};

/// Encodes each of `values`, as [`SubtaskSnapshot::positions`](crate::SubtaskSnapshot::positions) and
/// [`committables`](crate::SubtaskSnapshot::committables) hold them.
///
/// # Errors
/// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the codec cannot encode one.
pub fn encode_each<T: Serialize + DeserializeOwned + 'static>(values: &[T]) -> Result<Vec<Vec<u8>>> {
    let encode = |value| {
        let mut bytes = Vec::new();
        SerdeCodec.encode(value, &mut bytes)?;
        Ok(bytes)
    };
    values.iter().map(encode).collect()
}

/// The inverse of [`encode_each`].
///
/// # Errors
/// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when the bytes are no `T`.
pub fn decode_each<T: Serialize + DeserializeOwned + 'static>(encoded: &[Vec<u8>]) -> Result<Vec<T>> {
    encoded.iter().map(|bytes| SerdeCodec.decode(bytes)).collect()
}

/// As [`decode_each`], for the positions of a source.
///
/// # Errors
/// [`Incompatible`](ErrorKind::Incompatible) when the bytes are no `P`: another kind of source wrote them.
pub fn decode_positions<P>(encoded: &[Vec<u8>]) -> Result<Vec<P>>
where
    P: Serialize + DeserializeOwned + 'static,
{
    decode_each(encoded).map_err(|error| {
        let message = "the checkpoint has positions of another kind of source, which mean nothing to this \
                       one; take the source that it was taken with, or start a new job";
        Error::new(ErrorKind::Incompatible, message).caused_by(error)
    })
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
        let encoded = encode_each(std::slice::from_ref(&split)).unwrap();
        assert_eq!(encoded, [[1, b'a', 0xAC, 0x02, 1, 1, 2]]);
        assert_eq!(decode_each::<Split>(&encoded).unwrap(), [split]);
        assert!(decode_each::<Split>(&[vec![1]]).is_err());
        let error = decode_positions::<Split>(&[vec![1]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
}
