//! Which keys a scan returns.

use std::cmp::Ordering;
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
                let encode = |value: &Value| decoder.encode(value);
                Ok(Self::Range(mapped(from, encode)?, mapped(to, encode)?))
            }
            KeyFilter::Range(from, to) => {
                let typed = |value: &Value| comparable(value, decoder);
                Ok(Self::Decoded(decoder.clone(), mapped(from, typed)?, mapped(to, typed)?))
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
            Self::Range(from, to) => Ok(is_within(from, to, |bound| Some(key.cmp(bound.as_slice())))),
            Self::Decoded(decoder, from, to) => {
                let value = decoder.decode(key)?;
                Ok(is_within(from, to, |bound| order(&value, bound)))
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

fn mapped<T>(bound: &Bound<Value>, map: impl Fn(&Value) -> Result<T>) -> Result<Bound<T>> {
    Ok(match bound {
        Bound::Included(value) => Bound::Included(map(value)?),
        Bound::Excluded(value) => Bound::Excluded(map(value)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

/// Whether a key lies between two bounds; `order` compares the key with a bound.
#[inline]
fn is_within<T>(from: &Bound<T>, to: &Bound<T>, order: impl Fn(&T) -> Option<Ordering>) -> bool {
    let is_above = match from {
        Bound::Included(from) => order(from).is_some_and(Ordering::is_ge),
        Bound::Excluded(from) => order(from).is_some_and(Ordering::is_gt),
        Bound::Unbounded => true,
    };
    is_above
        && match to {
            Bound::Included(to) => order(to).is_some_and(Ordering::is_le),
            Bound::Excluded(to) => order(to).is_some_and(Ordering::is_lt),
            Bound::Unbounded => true,
        }
}

/// Compares two keys of one type.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
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
            each.find(|order| *order != Some(Ordering::Equal)).unwrap_or(Some(Ordering::Equal))
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
