//! Entries of portable snapshots, on their way into the database.

use strandline_snapshot_format::{EntryRef, Merge, Op, SegmentKind};
use strandline_state_api::backend::AcceptedForm;
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentStore, SnapshotPart};
use strandline_state_api::{KeyGroup, KeyedBackend, Result, StateKey};

use super::bulk::Bulk;
use crate::RocksBackend;
use crate::directory::StoredState;
use crate::layout::{Addressing, Layout};

/// A list with elements in several forms, of which more may come.
struct List {
    state: u16,
    group: KeyGroup,
    key: Vec<u8>,
    namespace: Vec<u8>,
    elements: Vec<u8>,
}

impl List {
    fn new(entry: &EntryRef<'_>) -> Self {
        let [key, namespace] = [entry.key, entry.namespace].map(<[u8]>::to_vec);
        Self { state: entry.state, group: entry.group, key, namespace, elements: Vec::new() }
    }

    fn push_to(self, bulk: &mut Bulk<'_>) -> Result<()> {
        bulk.push(self.state, self.group, [&self.key, &self.namespace, &[]], &self.elements)
    }
}

impl<K: StateKey> RocksBackend<K> {
    /// Loads a portable snapshot, and migrates its values.
    pub(super) async fn load_portable(
        &mut self,
        parts: &[SnapshotPart],
        store: &dyn SegmentStore,
    ) -> Result<()> {
        let mut merge = Merge::open(store, parts, SegmentKind::Base, self.scope().key_groups).await?;
        let stored = |meta: &StateMeta| StoredState {
            addressing: Addressing { id: 0, layout: Layout::unknown(meta) },
            meta: meta.clone(),
        };
        let stored: Vec<StoredState> = merge.states().iter().map(stored).collect();
        let adopted = self.adopt(&stored, false)?;
        let targets = self.targets(merge.states())?;
        let in_pieces: Vec<bool> = merge.states().iter().map(|meta| has_pieces(meta, &merge)).collect();
        let mut bulk = Bulk::new(self.store.database(), &targets);
        let (mut list, mut value): (Option<List>, _) = (None, Vec::new());
        while let Some(entry) = merge.next().await? {
            let row = usize::from(entry.state);
            let form = adopted.get(row).copied().flatten();
            if let Some(list) = list.as_mut().filter(|_| entry.op == Op::Append) {
                self.rewrite(form, entry.value, &mut list.elements)?;
                continue;
            }
            if let Some(complete) = list.take() {
                complete.push_to(&mut bulk)?;
            }
            if in_pieces.get(row) == Some(&true) {
                self.rewrite(form, entry.value, &mut list.insert(List::new(&entry)).elements)?;
                continue;
            }
            let mut current = entry.value;
            if form.is_some_and(|(_, form)| form.migrates()) {
                value.clear();
                self.rewrite(form, entry.value, &mut value)?;
                current = &value;
            }
            bulk.push(entry.state, entry.group, [entry.key, entry.namespace, entry.sub], current)?;
        }
        if let Some(complete) = list {
            complete.push_to(&mut bulk)?;
        }
        bulk.finish()
    }

    /// Appends the current form of a value of a registered state, or the value of an unclaimed one.
    fn rewrite(&self, form: Option<(usize, AcceptedForm)>, stored: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let Some((index, form)) = form else {
            out.extend_from_slice(stored);
            return Ok(());
        };
        let state = self.state(index)?;
        state.rewrite(form, stored, out).map_err(|error| error.with("state", &state.meta().name))
    }
}

/// Returns whether the lists of a state come in pieces, because the parts have several forms of it.
fn has_pieces(meta: &StateMeta, merge: &Merge<'_>) -> bool {
    let forms = merge.states().iter().filter(|other| other.name == meta.name).count();
    meta.kind == StateKind::List && forms > 1
}
