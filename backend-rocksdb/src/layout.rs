//! How the address of an entry becomes a key of RocksDB: key group, state, key, namespace, map key.
//!
//! So a range of key groups is one range of keys, and within a state the order is that of the portable format. Each part is
//! of fixed width, or escaped so that it ends by itself, or the last and ends with the key. All three keep order, and together they are
//! injective (a property test below).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use strandline_state_api::format::{StateKind, StateMeta};
use strandline_state_api::{Error, KeyGroup, KeyGroupRange, Result, StateKey, push_escaped, split_escaped};

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

/// How the entries of a state are addressed. Stored with native snapshots, as files keep the layout that they were written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Timers have their time in front of the key, in the same part.
    pub(crate) key: Part,
    pub(crate) namespace: Part,
    pub(crate) sub: Part,
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

    /// For a state whose types nobody knows, because no registered state claims it.
    pub(crate) fn unknown(meta: &StateMeta) -> Self {
        let width = |exists: bool| if exists { None } else { Some(0) };
        let (namespace, sub) = (width(meta.has_namespace()), width(meta.has_sub()));
        Self::new(None, namespace, sub)
    }

    /// Writes the address of a key and namespace to `out`, replacing what is there. Map keys and nothing else may follow.
    #[inline]
    pub(crate) fn address<K: StateKey, N: StateKey>(
        &self,
        state: u16,
        group: KeyGroup,
        key: &K,
        namespace: &N,
        out: &mut Vec<u8>,
    ) {
        start(state, group, out);
        push_with(self.key, out, |out| key.encode(out));
        push_with(self.namespace, out, |out| namespace.encode(out));
    }

    /// Writes the address of a timer to `out`, replacing what is there.
    pub(crate) fn timer<K: StateKey, N: StateKey>(
        &self,
        state: u16,
        group: KeyGroup,
        time: i64,
        key: &K,
        namespace: &N,
        out: &mut Vec<u8>,
    ) {
        start(state, group, out);
        push_with(self.key, out, |out| {
            out.extend_from_slice(&flip(time).to_be_bytes());
            key.encode(out);
        });
        push_with(self.namespace, out, |out| namespace.encode(out));
    }

    /// Appends a map key to an address.
    #[inline]
    pub(crate) fn push_sub(&self, out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
        push_with(self.sub, out, encode);
    }

    /// Writes the address of an entry of the portable format to `out`, replacing what is there.
    pub(crate) fn join(&self, state: u16, group: KeyGroup, parts: [&[u8]; 3], out: &mut Vec<u8>) {
        start(state, group, out);
        for (part, bytes) in [self.key, self.namespace, self.sub].into_iter().zip(parts) {
            push(part, bytes, out);
        }
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

/// Time as a number whose order is that of its bytes.
pub(crate) fn flip(time: i64) -> u64 {
    (time as u64) ^ (1 << 63)
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

/// The first address that may belong to `range`, and the first behind it (of 2 bytes, as the key groups end below `2^15`).
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
