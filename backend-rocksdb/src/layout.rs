//! How the address of an entry becomes a key of RocksDB: key group, state, key, namespace, map key.
//!
//! So a range of key groups is one range of keys, and within a state the order is that of the portable
//! format. Each part has a fixed width, or is escaped so that its end shows, or is the last and ends with the
//! key. All three forms keep the order, and together they are injective (a property test below checks both).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use strandline_snapshot_format::{EntryRef, MAX_ENTRY_BYTES, Op, check_entry_size};
use strandline_state_api::backend::At;
use strandline_state_api::encoding::{push_escaped, split_escaped};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::{Error, KeyGroup, KeyGroupRange, Result, StateKey, Timestamp};

/// Bytes in front of the key: key group and state, big-endian.
pub(crate) const PREFIX: usize = 4;

/// How one part is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// As it is; always this many bytes.
    Fixed(u32),
    /// Escaped, with an end of its own.
    Escaped,
    /// As it is, up to the end of the key.
    Last,
}

/// How the parts of an address are written. Native snapshots store it, as files keep the layout that they
/// were written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Timers have their time in front of the key, in the same part.
    pub(crate) key: Part,
    pub(crate) namespace: Part,
    pub(crate) sub: Part,
}

/// Which addresses the entries of a state have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addressing {
    /// The number of the state in the keys.
    pub(crate) id: u16,
    pub(crate) layout: Layout,
}

/// The parts of an address, as the portable format has them.
pub(crate) struct Parts<'a> {
    pub(crate) key: Cow<'a, [u8]>,
    pub(crate) namespace: Cow<'a, [u8]>,
    pub(crate) sub: Cow<'a, [u8]>,
}

impl Layout {
    /// For parts of these widths (`None` for any); a part that does not exist has the width 0.
    pub(crate) fn new(key: Option<usize>, namespace: Option<usize>, sub: Option<usize>) -> Self {
        let part = |width: Option<usize>, behind: [Option<usize>; 2]| match width {
            Some(width) => Part::Fixed(width as u32),
            None if behind.iter().all(|width| *width == Some(0)) => Part::Last,
            None => Part::Escaped,
        };
        let none = Some(0);
        Self {
            key: part(key, [namespace, sub]),
            namespace: part(namespace, [sub, none]),
            sub: part(sub, [none, none]),
        }
    }

    /// For keys of type `K`, namespaces of type `N` and, in maps, map keys of width `sub`.
    pub(crate) fn of<K: StateKey, N: StateKey>(kind: StateKind, sub: Option<usize>) -> Self {
        let time = if kind.is_timers() { 8 } else { 0 };
        Self::new(K::WIDTH.map(|width| width + time), N::WIDTH, sub)
    }

    /// For a stored state that no registered state claims, so that its types are unknown.
    pub(crate) fn unknown(meta: &StateMeta) -> Self {
        let width = |exists: bool| if exists { None } else { Some(0) };
        let (namespace, sub) = (width(meta.has_namespace()), width(meta.has_sub()));
        Self::new(None, namespace, sub)
    }

    /// Appends an encoded key.
    pub(crate) fn push_key(&self, key: &[u8], out: &mut Vec<u8>) {
        push(self.key, key, out);
    }

    /// The parts behind the prefix of an address.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when it has another layout.
    pub(crate) fn split<'a>(&self, address: &'a [u8]) -> Result<Parts<'a>> {
        let rest = address.get(PREFIX..).ok_or_else(|| malformed(address))?;
        let (key, rest) = take(self.key, rest).ok_or_else(|| malformed(address))?;
        let (namespace, rest) = take(self.namespace, rest).ok_or_else(|| malformed(address))?;
        let (sub, rest) = take(self.sub, rest).ok_or_else(|| malformed(address))?;
        if rest.is_empty() { Ok(Parts { key, namespace, sub }) } else { Err(malformed(address)) }
    }
}

impl Addressing {
    /// Writes the address of a key and namespace to `out`, replacing its content. A map key may follow.
    #[inline]
    pub(crate) fn encode_address<K: StateKey, N: StateKey>(&self, at: At<'_, K, N>, out: &mut Vec<u8>) {
        start(self.id, at.key.group(), out);
        push_with(self.layout.key, out, |out| at.key.key().encode(out));
        push_with(self.layout.namespace, out, |out| at.namespace.encode(out));
    }

    /// Checks that a full snapshot can hold the value at an address.
    ///
    /// # Errors
    /// [`Unsupported`](strandline_state_api::ErrorKind::Unsupported) when it cannot.
    #[inline]
    pub(crate) fn check_size(&self, address: &[u8], value: &[u8]) -> Result<()> {
        let large = address.len() - PREFIX + value.len() > MAX_ENTRY_BYTES;
        if large { self.check_large(address, value) } else { Ok(()) }
    }

    /// What is escaped takes fewer bytes in a snapshot.
    #[cold]
    fn check_large(&self, address: &[u8], value: &[u8]) -> Result<()> {
        let Parts { key, namespace, sub } = self.layout.split(address)?;
        let entry = EntryRef::new(prefix(address)?.0, 0, Op::Put, &key);
        check_entry_size(&EntryRef { namespace: &namespace, sub: &sub, value, ..entry })
    }

    /// Writes the address of a timer to `out`, replacing its content.
    pub(crate) fn encode_timer<K: StateKey, N: StateKey>(
        &self,
        at: At<'_, K, N>,
        time: Timestamp,
        out: &mut Vec<u8>,
    ) {
        start(self.id, at.key.group(), out);
        push_with(self.layout.key, out, |out| {
            out.extend_from_slice(&time_to_bytes(time));
            at.key.key().encode(out);
        });
        push_with(self.layout.namespace, out, |out| at.namespace.encode(out));
    }

    /// Appends a map key to an address.
    #[inline]
    pub(crate) fn push_map_key(&self, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        push_with(self.layout.sub, out, encode);
    }

    /// Writes the address of an entry of the portable format to `out`, replacing its content.
    pub(crate) fn join(&self, group: KeyGroup, parts: [&[u8]; 3], out: &mut Vec<u8>) {
        start(self.id, group, out);
        let Layout { key, namespace, sub } = self.layout;
        for (part, bytes) in [key, namespace, sub].into_iter().zip(parts) {
            push(part, bytes, out);
        }
    }
}

/// A time as bytes whose order is that of the times.
pub(crate) fn time_to_bytes(time: Timestamp) -> [u8; 8] {
    (time.as_millis() as u64 ^ 1 << 63).to_be_bytes()
}

/// Reads back what [`time_to_bytes`] returned.
pub(crate) fn time_from_bytes(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_millis((u64::from_be_bytes(bytes) ^ 1 << 63) as i64)
}

/// Starts an address anew.
#[inline]
pub(crate) fn start(state: u16, group: KeyGroup, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&group.index().to_be_bytes());
    out.extend_from_slice(&state.to_be_bytes());
}

/// The key group and the state of an address.
///
/// # Errors
/// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when it is none.
pub(crate) fn prefix(address: &[u8]) -> Result<(KeyGroup, u16)> {
    let [a, b, c, d, ..] = *address else { return Err(malformed(address)) };
    let group = KeyGroup::new(u16::from_be_bytes([a, b])).ok_or_else(|| malformed(address))?;
    Ok((group, u16::from_be_bytes([c, d])))
}

/// The first address that may belong to `range`, and the first behind it (2 bytes each, as the key groups end
/// below `2^15`).
pub(crate) fn bounds(range: KeyGroupRange) -> ([u8; 2], [u8; 2]) {
    ((range.start() as u16).to_be_bytes(), (range.end() as u16).to_be_bytes())
}

/// The first byte string behind all that start with `prefix`, if there is one.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn push(part: Part, bytes: &[u8], out: &mut Vec<u8>) {
    match part {
        Part::Fixed(_) | Part::Last => out.extend_from_slice(bytes),
        Part::Escaped => push_escaped(bytes, out),
    }
}

#[inline]
fn push_with(part: Part, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    encode(out);
    if part == Part::Escaped {
        let plain = out.split_off(start);
        push_escaped(&plain, out);
    }
}

fn take(part: Part, bytes: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    match part {
        Part::Fixed(width) => {
            let (part, rest) = bytes.split_at_checked(width as usize)?;
            Some((Cow::Borrowed(part), rest))
        }
        Part::Last => Some((Cow::Borrowed(bytes), &[])),
        Part::Escaped => split_escaped(bytes).map(|(part, rest)| (Cow::Owned(part), rest)),
    }
}

#[cold]
fn malformed(address: &[u8]) -> Error {
    Error::corrupt(format!("{} bytes in the local database are no address of an entry", address.len()))
}

#[cfg(test)]
mod tests;
