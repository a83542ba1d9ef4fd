//! States that were restored and that nobody registered, where the files they came in cannot be named any longer.

use std::collections::VecDeque;
use std::fmt;

use strandline_state_api::format::{EntryRef, Op, StateMeta};
use strandline_state_api::{Error, KeyGroupRange, Result, StateSchema};

use crate::record::{Layout, push_sized};
use crate::state::{AnyState, VisitKey};

/// The entries of a state, encoded as they were. They never change; every snapshot of everything has them.
pub(crate) struct Kept {
    schema: StateSchema,
    entries: u64,
    records: Vec<u8>,
    /// Whether the cuts that are not drained take everything, oldest first.
    cuts: VecDeque<bool>,
}

impl Kept {
    pub(crate) fn new(meta: StateMeta) -> Self {
        Self { schema: StateSchema::plain(meta), entries: 0, records: Vec::new(), cuts: VecDeque::new() }
    }
}

impl AnyState for Kept {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn layout(&self) -> Layout {
        Layout::of_meta(&self.schema.meta)
    }

    fn entries(&self) -> u64 {
        self.entries
    }

    fn load(&self) -> (usize, usize) {
        (self.entries as usize, 0)
    }

    fn cut(&mut self, full: bool) {
        self.cuts.push_back(full);
    }

    fn abandon(&mut self) {
        self.cuts.clear();
    }

    fn drain(&mut self, budget: &mut usize, out: &mut Vec<Vec<u8>>) -> Result<bool> {
        if self.cuts.pop_front() == Some(true) && !self.records.is_empty() {
            *budget = budget.saturating_sub(self.entries as usize);
            out.push(self.records.clone());
        }
        Ok(true)
    }

    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        if *stored == self.schema.meta {
            return Ok(());
        }
        let message = "two snapshots describe a state differently that the job does not have; register it, so that it migrates";
        Err(Error::new(strandline_state_api::ErrorKind::Incompatible, message))
    }

    fn restore(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let meta = &self.schema.meta;
        let mut parts = vec![entry.key];
        parts.extend(meta.has_namespace().then_some(entry.namespace));
        parts.extend(meta.has_sub().then_some(entry.sub));
        parts.push(entry.value);
        self.entries += 1;
        self.records.push(Op::Put.code());
        for bytes in parts {
            push_sized(&mut self.records, |out| {
                out.extend_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn for_each_key(&self, _key_groups: KeyGroupRange, _visit: VisitKey<'_>) -> Result<()> {
        // Nobody has a handle of it.
        Ok(())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} entries, kept)", self.schema.meta.name, self.entries)
    }
}
