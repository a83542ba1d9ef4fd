//! The names of operator state that the executor keeps for itself, and how it encodes what it keeps there.

/// Holds where a source stands.
pub(crate) const POSITIONS: &str = "positions";

/// Holds what a sink has yet to commit.
pub(crate) const PENDING: &str = "pending";

/// Holds the greatest timestamps that the assigners of a chain saw.
pub(crate) const ASSIGNERS: &str = "strandline.timestamps";

/// Encodes one assigner's element of [`ASSIGNERS`].
pub(crate) fn encode_assigner(place: u32, greatest: i64) -> Vec<u8> {
    let mut bytes = place.to_le_bytes().to_vec();
    bytes.extend_from_slice(&greatest.to_le_bytes());
    bytes
}

/// The inverse of [`encode_assigner`].
pub(crate) fn decode_assigner(bytes: &[u8]) -> Option<(u32, i64)> {
    let (place, greatest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*place), i64::from_le_bytes(greatest.try_into().ok()?)))
}
