//! Encoded entries on their way from the table to the writer.
//!
//! A record is `op`, key, namespace, map key (maps only) and, for puts and appends, the value. A length of
//! four bytes precedes each part whose width is not fixed.

use strandline_snapshot_format::{EntryRef, MAX_ENTRY_BYTES, Op, check_entry_size};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{Error, ErrorKind, KeyGroup, KeyHash, Result, StateKey};

/// The parts of the records of one state, and their widths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    key: Option<usize>,
    namespace: Option<usize>,
    /// The width of map keys; `None` if the state has no map keys.
    sub: Option<Option<usize>>,
    /// The number of bytes before the encoded key that its hash leaves out: the time of a timer.
    key_prefix: usize,
}

impl Layout {
    pub(crate) fn of<K: StateKey, N: StateKey>() -> Self {
        Self { key: K::WIDTH, namespace: N::WIDTH, sub: None, key_prefix: 0 }
    }

    pub(crate) fn with_map_key<MK: StateKey>(self) -> Self {
        Self { sub: Some(MK::WIDTH), ..self }
    }

    pub(crate) fn with_time(self) -> Self {
        Self { key: self.key.map(|width| width + 8), key_prefix: 8, ..self }
    }

    /// Returns the layout of a state of unknown types: a length precedes every part.
    pub(crate) fn of_meta(meta: &StateMeta) -> Self {
        let namespace = if meta.has_namespace() { None } else { Some(0) };
        let sub = meta.has_sub().then_some(None);
        let key_prefix = if meta.kind.is_timers() { 8 } else { 0 };
        Self { key: None, namespace, sub, key_prefix }
    }

    /// Returns the first record of `bytes` and its length. `None` at the end; also if the bytes are no
    /// records, which would be a bug.
    #[inline(always)]
    pub(crate) fn split<'a>(&self, bytes: &'a [u8]) -> Option<(EntryRef<'a>, usize)> {
        let (mut entry, length) = self.entry(KeyGroup::of(KeyHash(0)), bytes)?;
        entry.group = KeyGroup::of(KeyHash::of_encoded(entry.key.get(self.key_prefix..)?));
        Some((entry, length))
    }

    /// Returns the first record of `bytes`, whose key group is `group`, and its length.
    #[inline(always)]
    pub(crate) fn entry<'a>(&self, group: KeyGroup, bytes: &'a [u8]) -> Option<(EntryRef<'a>, usize)> {
        let mut rest = bytes;
        let mut take = |width: Option<usize>| {
            let width = match width {
                Some(width) => width,
                None => {
                    let (length, tail) = rest.split_first_chunk::<4>()?;
                    rest = tail;
                    u32::from_le_bytes(*length) as usize
                }
            };
            let (part, tail) = rest.split_at_checked(width)?;
            rest = tail;
            Some(part)
        };
        let op = op_of(take(Some(1))?[0]);
        let key = take(self.key)?;
        let namespace = take(self.namespace)?;
        let sub = match self.sub {
            Some(width) if op != Op::Clear => take(width)?,
            _ => &[],
        };
        let value = if op.has_value() { take(None)? } else { &[] };
        let entry = EntryRef { namespace, sub, value, ..EntryRef::new(group, 0, op, key) };
        Some((entry, bytes.len() - rest.len()))
    }

    /// Appends the record of an entry whose value has these parts.
    pub(crate) fn write(&self, entry: &EntryRef<'_>, value: &[&[u8]], out: &mut Vec<u8>) {
        let mut part = |width: Option<usize>, parts: &[&[u8]]| {
            if width.is_none() {
                let length = parts.iter().map(|part| part.len()).sum::<usize>() as u32;
                out.extend_from_slice(&length.to_le_bytes());
            }
            parts.iter().for_each(|part| out.extend_from_slice(part));
        };
        part(Some(1), &[&[entry.op.code()]]);
        part(self.key, &[entry.key]);
        part(self.namespace, &[entry.namespace]);
        if let Some(width) = self.sub.filter(|_| entry.op != Op::Clear) {
            part(width, &[entry.sub]);
        }
        if entry.op.has_value() {
            part(None, value);
        }
    }
}

/// The operations in the order of their codes.
const OPS: [Op; 4] = [Op::Put, Op::Delete, Op::Append, Op::Clear];

#[inline]
fn op_of(code: u8) -> Op {
    OPS[usize::from(code & 3)]
}

/// Appends the operation, the key and the namespace of a record.
#[inline]
pub(crate) fn begin<K: StateKey, N: StateKey>(op: Op, key: &K, namespace: &N, out: &mut Vec<u8>) {
    out.push(op.code());
    push_part(key, out);
    push_part(namespace, out);
}

/// Appends a part of a record.
#[inline]
pub(crate) fn push_part<T: StateKey>(part: &T, out: &mut Vec<u8>) {
    if T::WIDTH.is_some() {
        part.encode(out);
    } else {
        // The closure cannot fail.
        let _ = push_sized(out, |out| {
            part.encode(out);
            Ok(())
        });
    }
}

/// Appends the bytes that `write` appends, preceded by their length.
#[inline]
pub(crate) fn push_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    written
}

/// Checks that the record that starts at `start` fits into a segment.
#[inline]
pub(crate) fn check_size(layout: impl FnOnce() -> Layout, start: usize, out: &[u8]) -> Result<()> {
    if out.len() - start > MAX_ENTRY_BYTES { check_large(layout(), &out[start..]) } else { Ok(()) }
}

/// The operation and the lengths in a record do not count.
#[cold]
fn check_large(layout: Layout, record: &[u8]) -> Result<()> {
    match layout.split(record) {
        Some((entry, _)) => check_entry_size(&entry),
        None => Err(Error::new(ErrorKind::Unsupported, "an entry of the state has more than 4 GiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_by_their_codes() {
        for op in OPS {
            assert_eq!(op_of(op.code()), op);
        }
    }
}
