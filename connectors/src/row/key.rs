//! Rows as keys of state.

use compact_str::CompactString;
use smallvec::SmallVec;
use strandline_state_api::encoding::{push_escaped, split_escaped};
use strandline_state_api::{Error, KeyHash, Result, StateKey};

use super::{Moment, Value};

const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const UINT: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const TIMESTAMP: u8 = 6;

/// The values of the key columns of a row.
///
/// # Encoding
/// For each value one byte of type (0 null, 1 bool, 2 int, 3 uint, 4 float, 5 text,
/// 6 timestamp), then its
/// order-preserving form: one byte for a bool; 8 bytes big endian for numbers, with the sign bit flipped for
/// int and, for float, all bits of negative numbers; text escaped as parts of tuples are ([`push_escaped`]);
/// 16 bytes big endian of nanoseconds with the sign bit flipped for a timestamp.
/// Two floats are equal when their bits are; -0 counts as 0. [`RowKey::new`] makes one NaN of all, so that it
/// is a key like any other.
#[derive(Clone, Debug)]
pub struct RowKey(pub SmallVec<[Value; 1]>);

impl RowKey {
    /// The key of these values, floats among them [normalised](Value::normalized): values that are equal for
    /// their users are one key, and it prints the same whichever came first and wherever it was stored.
    #[inline]
    pub fn new(values: impl IntoIterator<Item = Value>) -> Self {
        Self(values.into_iter().map(Value::normalized).collect())
    }

    fn encode_into(&self, mut push: impl FnMut(&[u8])) {
        for value in &self.0 {
            match value {
                Value::Null => push(&[NULL]),
                Value::Bool(v) => push(&[BOOL, u8::from(*v)]),
                Value::Int(v) => push(&tagged(INT, (*v ^ i64::MIN) as u64)),
                Value::UInt(v) => push(&tagged(UINT, *v)),
                Value::Float(v) => push(&tagged(FLOAT, ordered_bits(*v))),
                Value::Text(text) => {
                    push(&[TEXT]);
                    push_text(text.as_bytes(), &mut push);
                }
                Value::Timestamp(moment) => {
                    push(&[TIMESTAMP]);
                    push(&(moment.as_nanos() ^ i128::MIN).to_be_bytes());
                }
            }
        }
    }
}

fn tagged(tag: u8, bits: u64) -> [u8; 9] {
    let mut bytes = [tag; 9];
    bytes[1..].copy_from_slice(&bits.to_be_bytes());
    bytes
}

/// Bits of a float that compare as integers like the floats do.
fn ordered_bits(value: f64) -> u64 {
    // -0.0 equals 0.0 and must have its encoding.
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) }
}

fn from_ordered_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits })
}

/// As [`push_escaped`], without a detour for the common text without zero bytes.
fn push_text(text: &[u8], push: &mut impl FnMut(&[u8])) {
    if memchr::memchr(0, text).is_none() {
        push(text);
        push(&[0, 1]);
    } else {
        let mut escaped = Vec::with_capacity(text.len() + 8);
        push_escaped(text, &mut escaped);
        push(&escaped);
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => ordered_bits(*a) == ordered_bits(*b),
        (a, b) => a == b,
    }
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| same(a, b))
    }
}

impl Eq for RowKey {}

impl StateKey for RowKey {
    const WIDTH: Option<usize> = None;

    fn codec() -> String {
        "row".into()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_into(|bytes| out.extend_from_slice(bytes));
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let broken = || Error::corrupt(format!("{} bytes are no encoded row key", bytes.len()));
        let mut values = SmallVec::new();
        let mut rest = bytes;
        while let [tag, tail @ ..] = rest {
            let (value, after) = split_value(*tag, tail).ok_or_else(broken)?;
            values.push(value);
            rest = after;
        }
        Ok(Self(values))
    }

    #[inline]
    fn key_hash(&self) -> KeyHash {
        let mut encoded = SmallVec::<[u8; 64]>::new();
        self.encode_into(|bytes| encoded.extend_from_slice(bytes));
        KeyHash::of_encoded(&encoded)
    }
}

fn split_value(tag: u8, bytes: &[u8]) -> Option<(Value, &[u8])> {
    let number = || bytes.split_first_chunk::<8>().map(|(head, rest)| (u64::from_be_bytes(*head), rest));
    match tag {
        NULL => Some((Value::Null, bytes)),
        BOOL => match bytes {
            [0, rest @ ..] => Some((Value::Bool(false), rest)),
            [1, rest @ ..] => Some((Value::Bool(true), rest)),
            _ => None,
        },
        INT => number().map(|(bits, rest)| (Value::Int(bits as i64 ^ i64::MIN), rest)),
        UINT => number().map(|(bits, rest)| (Value::UInt(bits), rest)),
        FLOAT => number().map(|(bits, rest)| (Value::Float(from_ordered_bits(bits)), rest)),
        TEXT => {
            let (text, rest) = split_escaped(bytes)?;
            Some((Value::Text(CompactString::from_utf8(text).ok()?), rest))
        }
        TIMESTAMP => {
            let (nanos, rest) = bytes.split_first_chunk::<16>()?;
            Some((Value::Timestamp(Moment::from_nanos(i128::from_be_bytes(*nanos) ^ i128::MIN)?), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<f64>().prop_map(Value::Float),
            "[a\0\u{1}\u{ff}é]{0,5}".prop_map(|text| Value::text(&text)),
            any::<i64>().prop_map(|nanos| Value::Timestamp(Moment::from_nanos(nanos.into()).unwrap())),
        ]
    }

    fn key() -> impl Strategy<Value = RowKey> {
        proptest::collection::vec(value(), 1..4).prop_map(|values| RowKey(values.into()))
    }

    fn encoded(key: &RowKey) -> Vec<u8> {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn the_encoding_is_injective_and_comes_back(a in key(), b in key()) {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
            prop_assert_eq!(a.key_hash(), KeyHash::of_encoded(&encoded(&a)));
            prop_assert_eq!(RowKey::decode(&encoded(&a)).unwrap(), a);
        }

        #[test]
        fn numbers_and_text_keep_their_order(
            a in any::<i64>(),
            b in any::<i64>(),
            x in -1e9f64..1e9,
            y in -1e9f64..1e9,
            s in "[a\0b]{0,4}",
            t in "[a\0b]{0,4}",
        ) {
            let one = |value: Value| encoded(&RowKey([value].into_iter().collect()));
            prop_assert_eq!(a.cmp(&b), one(Value::Int(a)).cmp(&one(Value::Int(b))));
            prop_assert_eq!(x.partial_cmp(&y), Some(one(Value::Float(x)).cmp(&one(Value::Float(y)))));
            prop_assert_eq!(s.cmp(&t), one(Value::text(&s)).cmp(&one(Value::text(&t))));
            let moment = |nanos: i64| Value::Timestamp(Moment::from_nanos(nanos.into()).unwrap());
            prop_assert_eq!(a.cmp(&b), one(moment(a)).cmp(&one(moment(b))));
        }

        #[test]
        fn foreign_bytes_are_an_error_or_a_key_but_never_a_panic(bytes: Vec<u8>) {
            if let Ok(key) = RowKey::decode(&bytes) {
                let _ = key.key_hash();
            }
        }
    }

    #[test]
    fn both_zeros_are_one_key() {
        let zero = |v: f64| RowKey([Value::Float(v)].into_iter().collect());
        assert_eq!(zero(0.0), zero(-0.0));
        assert_eq!(zero(0.0).key_hash(), zero(-0.0).key_hash());
        assert_ne!(zero(0.0), zero(f64::NAN));
        assert_eq!(zero(f64::NAN), zero(f64::NAN));
    }

    /// A key of the first version may hold any NaN, and stays what it is.
    #[test]
    fn a_new_key_has_one_nan_and_one_zero() {
        for (value, shown) in [(-f64::NAN, "NaN"), (f64::NAN, "NaN"), (-0.0, "0"), (0.0, "0"), (-1.5, "-1.5")]
        {
            let key = RowKey::new([Value::Float(value)]);
            assert_eq!(key.0[0].to_string(), shown);
            assert_eq!(RowKey::decode(&encoded(&key)).unwrap(), key);
        }
        assert_eq!(RowKey::new([Value::Float(-f64::NAN)]), RowKey::new([Value::Float(f64::NAN)]));
    }
}
