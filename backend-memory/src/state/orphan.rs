//! Restored states that no registered state claims: every base holds them, in the forms that they were stored
//! in.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

use strandline_snapshot_format::{EntryRef, Op};
use strandline_state_api::backend::{AcceptedForm, RegisteredState};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyHash, Result};

use super::{MemoryState, VisitKey};
use crate::record::Layout;
use crate::records::Records;

/// The entries of an unclaimed state in one form, encoded as they were. They never change; every base holds
/// them.
pub(crate) struct OrphanState {
    schema: StateSchema,
    entries: u64,
    records: Vec<u8>,
    /// Whether each cut that is not drained takes everything, oldest first.
    cuts: VecDeque<bool>,
}

impl OrphanState {
    pub(crate) fn new(meta: StateMeta) -> Self {
        Self { schema: StateSchema::plain(meta), entries: 0, records: Vec::new(), cuts: VecDeque::new() }
    }
}

impl RegisteredState for OrphanState {
    fn schema(&self) -> &StateSchema {
        &self.schema
    }

    fn types(&self) -> &'static str {
        "unknown types"
    }
}

impl MemoryState for OrphanState {
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

    fn drain(&mut self, budget: &mut usize, out: &mut Records) -> Result<bool> {
        if self.cuts.pop_front() == Some(true) && !self.records.is_empty() {
            *budget = budget.saturating_sub(self.entries as usize);
            *out = Records::unordered(self.records.clone());
        }
        Ok(true)
    }

    fn accept(&mut self, _stored: &StateMeta) -> Result<AcceptedForm> {
        Ok(AcceptedForm::CURRENT)
    }

    fn restore(&mut self, entry: &EntryRef<'_>, _form: AcceptedForm) -> Result<()> {
        self.entries += u64::from(entry.op == Op::Put);
        self.layout().write(entry, &[entry.value], &mut self.records);
        Ok(())
    }

    fn for_each_key(&self, _key_groups: KeyGroupRange, _visit: VisitKey<'_>) -> Result<()> {
        // An orphan has no handle.
        Ok(())
    }

    fn look_up(&self, _key: &dyn Any, _hash: KeyHash, _out: &mut Vec<u8>) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "no operator of the job registers the state: read a checkpoint",
        ))
    }
}

impl fmt::Debug for OrphanState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} entries, orphan)", self.schema.meta.name, self.entries)
    }
}
