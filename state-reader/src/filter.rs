//! Which keys a scan returns.

use std::ops::Bound;

use strandline_state_api::{Error, ErrorKind, KeyGroup, KeyGroupRange, KeyHash, Result};

use crate::{Decoder, Value};

/// Beyond so many runs of key groups, a scan reads all blocks between and leaves out what does not fit.
const MAX_RUNS: usize = 1024;

/// Which keys, or map keys, a scan returns.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyFilter {
    /// Those that equal one of these.
    In(Vec<Value>),
    /// Those in a range.
    Range(Bound<Value>, Bound<Value>),
}

impl KeyFilter {
    /// The filter for one key.
    pub fn equal(key: Value) -> Self {
        Self::In(vec![key])
    }
}

/// A filter on encoded keys.
#[derive(Clone, Debug)]
pub(crate) enum ByteFilter {
    /// Sorted.
    In(Vec<Vec<u8>>),
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Keys whose bytes are in another order than their values.
    Decoded(Decoder, Bound<Value>, Bound<Value>),
}

impl ByteFilter {
    /// Encodes a filter.
    ///
    /// # Errors
    /// Those of [`Decoder::encode`], and [`Unsupported`](ErrorKind::Unsupported) for a range of values that have
    /// no order.
    pub(crate) fn of(filter: &KeyFilter, decoder: &Decoder) -> Result<Self> {
        match filter {
            KeyFilter::In(values) => {
                let mut encoded =
                    values.iter().map(|value| decoder.encode(value)).collect::<Result<Vec<_>>>()?;
                encoded.sort_unstable();
                encoded.dedup();
                Ok(Self::In(encoded))
            }
            KeyFilter::Range(from, to) if decoder.is_ordered() => {
                let encode = |bound: &Bound<Value>| -> Result<Bound<Vec<u8>>> {
                    Ok(match bound {
                        Bound::Included(value) => Bound::Included(decoder.encode(value)?),
                        Bound::Excluded(value) => Bound::Excluded(decoder.encode(value)?),
                        Bound::Unbounded => Bound::Unbounded,
                    })
                };
                Ok(Self::Range(encode(from)?, encode(to)?))
            }
            KeyFilter::Range(from, to) => {
                let typed = |bound: &Bound<Value>| -> Result<Bound<Value>> {
                    Ok(match bound {
                        Bound::Included(value) => Bound::Included(comparable(value, decoder)?),
                        Bound::Excluded(value) => Bound::Excluded(comparable(value, decoder)?),
                        Bound::Unbounded => Bound::Unbounded,
                    })
                };
                Ok(Self::Decoded(decoder.clone(), typed(from)?, typed(to)?))
            }
        }
    }

    /// Returns whether an encoded key passes.
    ///
    /// # Errors
    /// Those of the decoder, for keys whose bytes have no order.
    #[inline]
    pub(crate) fn passes(&self, key: &[u8]) -> Result<bool> {
        match self {
            Self::In(keys) => Ok(match &keys[..] {
                [only] => only == key,
                keys => keys.binary_search_by(|known| known.as_slice().cmp(key)).is_ok(),
            }),
            Self::Range(from, to) => {
                let above = match from {
                    Bound::Included(from) => key >= from.as_slice(),
                    Bound::Excluded(from) => key > from.as_slice(),
                    Bound::Unbounded => true,
                };
                Ok(above
                    && match to {
                        Bound::Included(to) => key <= to.as_slice(),
                        Bound::Excluded(to) => key < to.as_slice(),
                        Bound::Unbounded => true,
                    })
            }
            Self::Decoded(decoder, from, to) => {
                let value = decoder.decode(key)?;
                let above = match from {
                    Bound::Included(from) => order(&value, from).is_some_and(|order| order.is_ge()),
                    Bound::Excluded(from) => order(&value, from).is_some_and(|order| order.is_gt()),
                    Bound::Unbounded => true,
                };
                Ok(above
                    && match to {
                        Bound::Included(to) => order(&value, to).is_some_and(|order| order.is_le()),
                        Bound::Excluded(to) => order(&value, to).is_some_and(|order| order.is_lt()),
                        Bound::Unbounded => true,
                    })
            }
        }
    }

    /// Returns the key groups within `range` that can hold a key that passes, as ascending runs.
    pub(crate) fn groups(&self, range: KeyGroupRange) -> Vec<KeyGroupRange> {
        let Self::In(keys) = self else { return vec![range] };
        let groups = keys.iter().map(|key| KeyGroup::of(KeyHash::of_encoded(key)));
        let mut groups: Vec<_> = groups.filter(|group| range.contains(*group)).collect();
        groups.sort_unstable();
        let mut runs: Vec<KeyGroupRange> = Vec::new();
        for group in groups {
            let index = u32::from(group.index());
            match runs.last_mut() {
                Some(run) if run.end() >= index => *run = KeyGroupRange::new(run.start(), index + 1),
                _ => runs.push(KeyGroupRange::new(index, index + 1)),
            }
        }
        match (runs.first(), runs.last()) {
            (Some(first), Some(last)) if runs.len() > MAX_RUNS => {
                vec![KeyGroupRange::new(first.start(), last.end())]
            }
            _ => runs,
        }
    }
}

/// Compares two keys of one type.
fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::UInt(a), Value::UInt(b)) => Some(a.cmp(b)),
        (Value::BigInt(a), Value::BigInt(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::BigUInt(a), Value::BigUInt(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Record(a), Value::Record(b)) if a.len() == b.len() => {
            let mut each = a.iter().zip(b).map(|(a, b)| order(a, b));
            each.find(|order| *order != Some(std::cmp::Ordering::Equal))
                .unwrap_or(Some(std::cmp::Ordering::Equal))
        }
        _ => None,
    }
}

fn comparable(value: &Value, decoder: &Decoder) -> Result<Value> {
    let value = value.clone().into_type(decoder.data_type())?;
    if order(&value, &value).is_none() {
        let message = "keys of this type have no order, so there is no range of them";
        return Err(Error::new(ErrorKind::Unsupported, message).with("type", decoder.data_type()));
    }
    Ok(value)
}
