//! One entry, the order of entries, and their fingerprint.

use std::cmp::Ordering;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{KeyGroup, KeyHash};

/// A group to start from.
pub(super) const FIRST_GROUP: KeyGroup = KeyGroup::of(KeyHash(0));

/// What an entry does to the older parts of its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Holds from now on, instead of what was there.
    Put,
    /// Removes what was there.
    Delete,
    /// Lists: adds its elements behind those that were there.
    Append,
    /// Maps: removes all map entries of its key and namespace that older parts hold. It stands before the map entries
    /// of the same key, namespace and part, and does not touch those.
    Clear,
}

impl Op {
    /// Its number in the file.
    pub const fn code(self) -> u8 {
        match self {
            Self::Put => 0,
            Self::Delete => 1,
            Self::Append => 2,
            Self::Clear => 3,
        }
    }

    /// From the two lowest bits of `code`.
    #[inline]
    pub(super) const fn from_bits(code: u64) -> Self {
        match code & 3 {
            0 => Self::Put,
            1 => Self::Delete,
            2 => Self::Append,
            _ => Self::Clear,
        }
    }

    /// Whether it carries a value, if its state has values at all.
    #[inline]
    pub const fn has_value(self) -> bool {
        matches!(self, Self::Put | Self::Append)
    }
}

/// One entry of a segment, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The key group of its key.
    pub group: KeyGroup,
    /// Its state: an index into the segment's state table.
    pub state: u16,
    /// What it does.
    pub op: Op,
    /// The encoded key; of a timer, packed with its time.
    pub key: &'a [u8],
    /// The encoded namespace; empty when the state has none.
    pub namespace: &'a [u8],
    /// The encoded map key; empty unless the state is a map, and for [`Op::Clear`].
    pub sub: &'a [u8],
    /// The encoded value or list; empty for [`Op::Delete`] and [`Op::Clear`].
    pub value: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// An entry without namespace, map key and value.
    pub const fn new(group: KeyGroup, state: u16, op: Op, key: &'a [u8]) -> Self {
        Self { group, state, op, key, namespace: &[], sub: &[], value: &[] }
    }

    /// The order of entries in a segment: group, state, key, namespace, [`Op::Clear`] first, map key. Byte strings
    /// compare lexicographically. Two entries at the same position speak of the same thing.
    #[inline]
    pub fn cmp_position(&self, other: &EntryRef<'_>) -> Ordering {
        (self.group, self.state).cmp(&(other.group, other.state)).then_with(|| self.cmp_in_run(other))
    }

    /// The rest of the order, for entries of one group and state.
    #[inline]
    pub(super) fn cmp_in_run(&self, other: &EntryRef<'_>) -> Ordering {
        cmp_bytes(self.key, other.key)
            .then_with(|| cmp_bytes(self.namespace, other.namespace))
            .then_with(|| (self.op != Op::Clear).cmp(&(other.op != Op::Clear)))
            .then_with(|| cmp_bytes(self.sub, other.sub))
    }

    /// The front of the position as a number: where two differ, they order the entries.
    #[inline]
    pub(super) fn rank(&self) -> (u32, u64) {
        let prefix = match self.key.first_chunk() {
            Some(front) => *front,
            None => {
                let mut padded = [0; 8];
                padded[..self.key.len()].copy_from_slice(self.key);
                padded
            }
        };
        (u32::from(self.group.index()) << 16 | u32::from(self.state), u64::from_be_bytes(prefix))
    }

    /// How many bytes its parts have together.
    #[inline]
    pub(super) const fn payload_len(&self) -> usize {
        self.key.len() + self.namespace.len() + self.sub.len() + self.value.len()
    }
}

/// Lexicographic, without a call where the first eight bytes or the lengths decide: most keys are numbers or hashed.
#[inline]
fn cmp_bytes(a: &[u8], b: &[u8]) -> Ordering {
    match (a.split_first_chunk::<8>(), b.split_first_chunk::<8>()) {
        (Some((x, a)), Some((y, b))) => {
            let (x, y) = (u64::from_be_bytes(*x), u64::from_be_bytes(*y));
            x.cmp(&y)
                .then_with(|| if a.is_empty() || b.is_empty() { a.len().cmp(&b.len()) } else { a.cmp(b) })
        }
        _ if a.is_empty() || b.is_empty() => a.len().cmp(&b.len()),
        _ => a.cmp(b),
    }
}

/// The fingerprint of one entry of the state called `state_name`; [`EntryRef::state`] is not part of it.
///
/// XXH3-64 is chained: it starts as the hash of the name, plus `256 * group + op`; then each of key (number 0),
/// namespace (1), map key (2) and value (3) that is not empty is hashed, with what came before plus `number * 2^32` as
/// the seed. The fingerprint of a set of entries is the wrapping sum of theirs, so it does not depend on their order or
/// on how they are spread over segments.
pub fn fingerprint(state_name: &str, entry: &EntryRef<'_>) -> u64 {
    chained(name_hash(state_name), entry)
}

pub(super) fn name_hash(state_name: &str) -> u64 {
    xxh3_64(state_name.as_bytes())
}

#[inline]
pub(super) fn chained(name_hash: u64, entry: &EntryRef<'_>) -> u64 {
    let seed = name_hash.wrapping_add(u64::from(entry.group.index()) << 8 | u64::from(entry.op.code()));
    // Most entries have no namespace and no map key: what is empty costs nothing.
    let link = |h: u64, number: u64, field: &[u8]| match field {
        [] => h,
        _ => xxh3_64_with_seed(field, h.wrapping_add(number << 32)),
    };
    let h = link(seed, 0, entry.key);
    let h = link(h, 1, entry.namespace);
    let h = link(h, 2, entry.sub);
    link(h, 3, entry.value)
}

/// An owned entry whose buffers are used again.
#[derive(Debug)]
pub(super) struct EntryBuf {
    group: KeyGroup,
    pub(super) state: u16,
    pub(super) op: Op,
    key: Vec<u8>,
    namespace: Vec<u8>,
    sub: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl EntryBuf {
    pub(super) fn new(group: KeyGroup) -> Self {
        let (key, namespace, sub, value) = <_>::default();
        Self { group, state: 0, op: Op::Put, key, namespace, sub, value }
    }

    /// Takes over all of `entry` but its value.
    #[inline]
    pub(super) fn set_position(&mut self, entry: &EntryRef<'_>) {
        let set = |buffer: &mut Vec<u8>, bytes: &[u8]| {
            buffer.clear();
            buffer.extend_from_slice(bytes);
        };
        (self.group, self.state, self.op) = (entry.group, entry.state, entry.op);
        set(&mut self.key, entry.key);
        set(&mut self.namespace, entry.namespace);
        set(&mut self.sub, entry.sub);
        self.value.clear();
    }

    #[inline]
    pub(super) fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            group: self.group,
            state: self.state,
            op: self.op,
            key: &self.key,
            namespace: &self.namespace,
            sub: &self.sub,
            value: &self.value,
        }
    }

    /// Whether `entry` has the same group, state, key and namespace.
    pub(super) fn same_map(&self, entry: &EntryRef<'_>) -> bool {
        (self.group, self.state) == (entry.group, entry.state)
            && self.key == entry.key
            && self.namespace == entry.namespace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_fast_order_is_lexicographic(
            a in proptest::collection::vec(0u8..3, 0..20),
            b in proptest::collection::vec(0u8..3, 0..20),
            shared in 0usize..20,
        ) {
            let b = [&a[..shared.min(a.len())], &b[..]].concat();
            assert_eq!(cmp_bytes(&a, &b), a.cmp(&b));
            assert_eq!(cmp_bytes(&b, &a), b.cmp(&a));
            assert_eq!(cmp_bytes(&a, &a), Ordering::Equal);
        }
    }
}
