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
        self.key
            .cmp(other.key)
            .then_with(|| self.namespace.cmp(other.namespace))
            .then_with(|| (self.op != Op::Clear).cmp(&(other.op != Op::Clear)))
            .then_with(|| self.sub.cmp(other.sub))
    }

    /// How many bytes its parts have together.
    #[inline]
    pub(super) const fn payload_len(&self) -> usize {
        self.key.len() + self.namespace.len() + self.sub.len() + self.value.len()
    }
}

/// The fingerprint of one entry of the state called `state_name`; [`EntryRef::state`] is not part of it.
///
/// XXH3-64 is chained: the hash of the name, plus `256 * group + op`, is the seed of the hash of the key, which is the
/// seed of that of the namespace, and so on with map key and value. The fingerprint of a set of entries is the wrapping
/// sum of theirs, so it does not depend on their order or on how they are spread over segments.
pub fn fingerprint(state_name: &str, entry: &EntryRef<'_>) -> u64 {
    chained(name_hash(state_name), entry)
}

pub(super) fn name_hash(state_name: &str) -> u64 {
    xxh3_64(state_name.as_bytes())
}

#[inline]
pub(super) fn chained(name_hash: u64, entry: &EntryRef<'_>) -> u64 {
    let seed = name_hash.wrapping_add(u64::from(entry.group.index()) << 8 | u64::from(entry.op.code()));
    [entry.key, entry.namespace, entry.sub, entry.value]
        .into_iter()
        .fold(seed, |h, part| xxh3_64_with_seed(part, h))
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
