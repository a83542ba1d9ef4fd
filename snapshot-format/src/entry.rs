//! One entry, the order of entries, and their fingerprint.

use std::cmp::Ordering;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use strandline_state_api::schema::StateKind;
use strandline_state_api::{KeyGroup, KeyHash};

/// A group to start from.
pub(crate) const FIRST_GROUP: KeyGroup = KeyGroup::of(KeyHash(0));

/// What an entry does to the older parts of its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Sets the value, and replaces an older one.
    Put,
    /// Removes an older value.
    Delete,
    /// Lists: adds elements behind those of older parts.
    Append,
    /// Maps: removes all map entries of its key and namespace that older parts hold. It stands before the map
    /// entries of the same key, namespace and part, and does not remove those.
    Clear,
}

impl Op {
    /// Returns the code of the operation in the file.
    pub const fn code(self) -> u8 {
        match self {
            Self::Put => 0,
            Self::Delete => 1,
            Self::Append => 2,
            Self::Clear => 3,
        }
    }

    /// Reads the operation from the two lowest bits of `code`.
    #[inline]
    pub(crate) const fn from_bits(code: u64) -> Self {
        match code & 3 {
            0 => Self::Put,
            1 => Self::Delete,
            2 => Self::Append,
            _ => Self::Clear,
        }
    }

    /// Returns whether an entry of a delta may have the operation in a state of this kind. [`Op::Put`] and
    /// [`Op::Delete`] are always allowed.
    pub const fn is_of(self, kind: StateKind) -> bool {
        match self {
            Self::Put | Self::Delete => true,
            Self::Append => matches!(kind, StateKind::List),
            Self::Clear => matches!(kind, StateKind::Map),
        }
    }

    /// Returns whether an entry with the operation has a value, if its state has values at all.
    #[inline]
    pub const fn has_value(self) -> bool {
        matches!(self, Self::Put | Self::Append)
    }
}

/// One entry of a segment, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The key group of the key.
    pub group: KeyGroup,
    /// The state, as an index into the segment's state table.
    pub state: u16,
    /// The operation.
    pub op: Op,
    /// The encoded key; for a timer, packed with its time.
    pub key: &'a [u8],
    /// The encoded namespace; empty when the state has none.
    pub namespace: &'a [u8],
    /// The encoded map key; empty unless the state is a map, and for [`Op::Clear`].
    pub sub: &'a [u8],
    /// The encoded value or list; empty for [`Op::Delete`] and [`Op::Clear`].
    pub value: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// Creates an entry without namespace, map key and value.
    pub const fn new(group: KeyGroup, state: u16, op: Op, key: &'a [u8]) -> Self {
        Self { group, state, op, key, namespace: &[], sub: &[], value: &[] }
    }

    /// Compares the positions of two entries in a segment: group, state, key, namespace, [`Op::Clear`] first,
    /// map key. Byte strings compare lexicographically. Two entries at the same position affect the same
    /// value.
    #[inline]
    pub fn cmp_position(&self, other: &EntryRef<'_>) -> Ordering {
        (self.group, self.state).cmp(&(other.group, other.state)).then_with(|| self.cmp_in_run(other))
    }

    /// Compares the rest of the position, for entries of one group and state.
    #[inline(always)]
    pub(crate) fn cmp_in_run(&self, other: &EntryRef<'_>) -> Ordering {
        cmp_bytes(self.key, other.key)
            .then_with(|| cmp_bytes(self.namespace, other.namespace))
            .then_with(|| (self.op != Op::Clear).cmp(&(other.op != Op::Clear)))
            .then_with(|| cmp_bytes(self.sub, other.sub))
    }

    /// Returns the front of the position as a number: where two such numbers differ, they order the entries.
    #[inline]
    pub(crate) fn rank(&self) -> (u32, u64) {
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

    /// Returns the length of all parts together, in bytes.
    #[inline]
    pub(crate) const fn payload_len(&self) -> usize {
        self.key.len() + self.namespace.len() + self.sub.len() + self.value.len()
    }
}

/// Compares lexicographically, without a call if the first eight bytes or the lengths decide: most keys are
/// numbers or hashed.
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

/// Computes the fingerprint of one entry of the state called `state_name`; [`EntryRef::state`] is not part of
/// it.
///
/// XXH3-64 is chained: the hash starts as that of the name, plus `256 * group + op`; then each non-empty
/// field of key (number 0), namespace (1), map key (2) and value (3) is hashed, with the previous hash plus
/// `number * 2^32` as the seed. The fingerprint of a set of entries is the wrapping sum of their
/// fingerprints, so it does not depend on their order or on how they are spread over segments.
pub fn fingerprint(state_name: &str, entry: &EntryRef<'_>) -> u64 {
    chained(name_hash(state_name), entry)
}

pub(crate) fn name_hash(state_name: &str) -> u64 {
    xxh3_64(state_name.as_bytes())
}

#[inline(always)]
pub(crate) fn chained(name_hash: u64, entry: &EntryRef<'_>) -> u64 {
    let seed = name_hash.wrapping_add(u64::from(entry.group.index()) << 8 | u64::from(entry.op.code()));
    // Most entries have no namespace and no map key: an empty field costs nothing.
    let link = |h: u64, number: u64, field: &[u8]| match field {
        [] => h,
        _ => xxh3_64_with_seed(field, h.wrapping_add(number << 32)),
    };
    let h = link(seed, 0, entry.key);
    let h = link(h, 1, entry.namespace);
    let h = link(h, 2, entry.sub);
    link(h, 3, entry.value)
}

/// An owned entry whose buffers are reused.
#[derive(Debug)]
pub(crate) struct EntryBuf {
    group: KeyGroup,
    pub(crate) state: u16,
    pub(crate) op: Op,
    key: Vec<u8>,
    namespace: Vec<u8>,
    sub: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl EntryBuf {
    pub(crate) fn new(group: KeyGroup) -> Self {
        let (key, namespace, sub, value) = <_>::default();
        Self { group, state: 0, op: Op::Put, key, namespace, sub, value }
    }

    /// Copies all of `entry` but its value.
    #[inline(always)]
    pub(crate) fn set_position(&mut self, entry: &EntryRef<'_>) {
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
    pub(crate) fn as_ref(&self) -> EntryRef<'_> {
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

    /// Returns whether `entry` has the same group, state, key and namespace.
    pub(crate) fn same_map(&self, entry: &EntryRef<'_>) -> bool {
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
