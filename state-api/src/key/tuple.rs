//! Tuples as keys, and the escaping that concatenates parts of any length and keeps their order.

use super::{StateKey, wrong_encoding};
use crate::Result;
use crate::schema::{DataType, Description, Encoding};

/// Appends `part` so that no following bytes can be mistaken for it and the order is kept: a zero byte
/// becomes `00 FF`, and `00 01` ends the part (so a prefix sorts before its extensions).
pub fn push_escaped(part: &[u8], out: &mut Vec<u8>) {
    for &byte in part {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

/// Splits a part that [`push_escaped`] wrote off the front; returns the part and the bytes behind it, or
/// `None` if `bytes` is malformed.
pub fn split_escaped(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut part = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [0, 0xFF, tail @ ..] => {
                part.push(0);
                rest = tail;
            }
            [0, 1, tail @ ..] => return Some((part, tail)),
            [0, ..] | [] => return None,
            [byte, tail @ ..] => {
                part.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Appends a part of a tuple that is not its last.
fn push_part<T: StateKey>(part: &T, out: &mut Vec<u8>) {
    if T::WIDTH.is_some() {
        part.encode(out);
    } else {
        let mut plain = Vec::new();
        part.encode(&mut plain);
        push_escaped(&plain, out);
    }
}

/// Splits a part of a tuple that is not its last off the front.
fn split_part<T: StateKey>(bytes: &[u8]) -> Result<(T, &[u8])> {
    match T::WIDTH {
        Some(width) => {
            let (part, rest) = bytes.split_at_checked(width).ok_or_else(|| wrong_encoding("tuple", bytes))?;
            Ok((T::decode(part)?, rest))
        }
        None => {
            let (part, rest) = split_escaped(bytes).ok_or_else(|| wrong_encoding("tuple", bytes))?;
            Ok((T::decode(&part)?, rest))
        }
    }
}

const fn sum(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        _ => None,
    }
}

/// Returns the description of a tuple, if all of its parts are encoded in order.
fn ordered_tuple<const N: usize>(parts: [Option<Description>; N]) -> Option<Description> {
    let ordered = |part: Option<Description>| {
        part.filter(|part| part.encoding == Encoding::Ordered).map(|part| part.data_type)
    };
    let parts: Option<Vec<_>> = parts.into_iter().map(ordered).collect();
    parts.map(|parts| Description::new(Encoding::Ordered, DataType::Tuple(parts)))
}

macro_rules! tuple_key {
    ($last:ident $last_index:tt; $($part:ident $index:tt),+) => {
        impl<$($part: StateKey,)+ $last: StateKey> StateKey for ($($part,)+ $last,) {
            const WIDTH: Option<usize> = {
                let width = $last::WIDTH;
                $(let width = sum(width, $part::WIDTH);)+
                width
            };

            fn codec() -> String {
                let parts = [$($part::codec(),)+ $last::codec()];
                format!("({})", parts.join(","))
            }

            fn description() -> Option<Description> {
                ordered_tuple([$($part::description(),)+ $last::description()])
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $(push_part(&self.$index, out);)+
                self.$last_index.encode(out);
            }

            fn decode(bytes: &[u8]) -> Result<Self> {
                let rest = bytes;
                Ok(tuple_key!(@decode rest; $($part),+; $last))
            }
        }
    };
    (@decode $rest:ident; $a:ident; $last:ident) => {{
        let (a, rest) = split_part::<$a>($rest)?;
        (a, $last::decode(rest)?)
    }};
    (@decode $rest:ident; $a:ident, $b:ident; $last:ident) => {{
        let (a, rest) = split_part::<$a>($rest)?;
        let (b, rest) = split_part::<$b>(rest)?;
        (a, b, $last::decode(rest)?)
    }};
    (@decode $rest:ident; $a:ident, $b:ident, $c:ident; $last:ident) => {{
        let (a, rest) = split_part::<$a>($rest)?;
        let (b, rest) = split_part::<$b>(rest)?;
        let (c, rest) = split_part::<$c>(rest)?;
        (a, b, c, $last::decode(rest)?)
    }};
}

tuple_key!(B 1; A 0);
tuple_key!(C 2; A 0, B 1);
tuple_key!(D 3; A 0, B 1, C 2);
