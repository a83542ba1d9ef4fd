//! Builds the payload of one block.

use crate::entry::{EntryBuf, EntryRef, chained};
use crate::table::Shape;
use crate::varint;
use strandline_state_api::KeyGroup;

/// An upper bound for the heads and lengths around one entry and the run header before it, in bytes.
pub(crate) const ENTRY_OVERHEAD: usize = 64;

/// A block under construction.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    raw: Vec<u8>,
    /// The entries of the open run, whose header needs their number.
    run: Vec<u8>,
    run_len: u64,
    /// The group and state of the open run, and of the run before it.
    at: (KeyGroup, u16),
    before: (u16, u16),
    value_len: usize,
    pub(crate) first: Option<KeyGroup>,
    pub(crate) entries: u32,
    pub(crate) fingerprint: u64,
}

impl BlockBuilder {
    pub(crate) fn new(first_group: KeyGroup) -> Self {
        Self {
            raw: Vec::new(),
            run: Vec::new(),
            run_len: 0,
            at: (first_group, 0),
            before: (0, 0),
            value_len: 0,
            first: None,
            entries: 0,
            fingerprint: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len() + self.run.len()
    }

    /// Returns the group of the newest entry.
    pub(crate) fn last(&self) -> KeyGroup {
        self.at.0
    }

    /// Adds an entry; `previous` is the entry before it in the segment.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: &EntryRef<'_>, shape: &Shape, previous: &EntryBuf) {
        if self.at != (entry.group, entry.state) || self.run_len == 0 {
            self.close_run();
            self.at = (entry.group, entry.state);
        }
        self.first.get_or_insert(entry.group);
        let value = shape.value && entry.op.has_value();
        let same_value_len = value && entry.value.len() == self.value_len;
        let low = u64::from(entry.op.code()) | u64::from(same_value_len) << 2;
        let out = &mut self.run;
        if !shape.shares_keys() {
            varint::push(out, (entry.key.len() as u64) << 3 | low);
            out.extend_from_slice(entry.key);
        } else if self.run_len > 0 && previous.as_ref().key == entry.key {
            varint::push(out, 1 << 3 | low);
        } else {
            varint::push(out, (entry.key.len() as u64) << 4 | low);
            out.extend_from_slice(entry.key);
        }
        if shape.namespace {
            varint::push(out, entry.namespace.len() as u64);
            out.extend_from_slice(entry.namespace);
        }
        if shape.sub && entry.op != crate::Op::Clear {
            varint::push(out, entry.sub.len() as u64);
            out.extend_from_slice(entry.sub);
        }
        if value {
            if !same_value_len {
                varint::push(out, entry.value.len() as u64);
                self.value_len = entry.value.len();
            }
            out.extend_from_slice(entry.value);
        }
        self.run_len += 1;
        self.entries += 1;
        self.fingerprint = self.fingerprint.wrapping_add(chained(shape.name_hash, entry));
    }

    fn close_run(&mut self) {
        if self.run_len == 0 {
            return;
        }
        let (group, state) = (self.at.0.index(), self.at.1);
        let other_state = state != self.before.1;
        let several = self.run_len > 1;
        let head = u64::from(group - self.before.0) << 2 | u64::from(other_state) << 1 | u64::from(several);
        varint::push(&mut self.raw, head);
        if other_state {
            varint::push(&mut self.raw, u64::from(state));
        }
        if several {
            varint::push(&mut self.raw, self.run_len);
        }
        self.raw.extend_from_slice(&self.run);
        self.before = (group, state);
        self.run.clear();
        self.run_len = 0;
    }

    /// Completes the block and returns its payload.
    pub(crate) fn payload(&mut self) -> &[u8] {
        self.close_run();
        &self.raw
    }

    /// Starts the next block, which reuses the buffers of this one.
    pub(crate) fn reset(&mut self) {
        self.raw.clear();
        self.run.clear();
        (self.run_len, self.before, self.value_len) = (0, (0, 0), 0);
        (self.first, self.entries, self.fingerprint) = (None, 0, 0);
    }
}
