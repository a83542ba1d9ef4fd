//! The restore: entries of snapshots become entries of tables.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use strandline_snapshot_format::{Merge, Op, SegmentKind};
use strandline_state_api::backend::{AcceptedForm, RestoreSnapshot, Restored};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{KeyedBackend, Result, StateKey};

use crate::backend::MemoryBackend;
use crate::chain::Chain;
use crate::state::OrphanState;

#[async_trait]
impl<K: StateKey> RestoreSnapshot for MemoryBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        let used = self.entries() > 0 || self.epoch > 1 || !self.restored.is_empty();
        self.states.begin_restore(used)?;
        let key_groups = self.scope().key_groups;
        let snapshots: Vec<_> = snapshots.iter().map(|snapshot| snapshot.clip(key_groups)).collect();
        let parts: Vec<_> = snapshots.iter().map(|snapshot| &snapshot.parts[..]).collect();
        let restored = self.restore_all(&parts, store).await;
        restored.map_err(|error| self.scope().locate(error))
    }
}

impl<K: StateKey> MemoryBackend<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[&[SnapshotPart]],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let key_groups = self.scope().key_groups;
        let mut merges = Vec::new();
        for parts in snapshots.iter().filter(|parts| !parts.is_empty()) {
            merges.push(Merge::open(store, parts, SegmentKind::Base, key_groups).await?);
        }
        let (targets, renamed) = self.find_targets(&merges)?;
        // They are in the restored files, and every later base needs them.
        for meta in self.states.orphans().to_vec() {
            self.states.push(Box::new(OrphanState::new(meta)));
        }
        let mut restored = Restored::default();
        for (merge, targets) in merges.into_iter().zip(targets) {
            self.restore_one(merge, &targets, &mut restored).await?;
        }
        restored.bytes = snapshots.iter().flat_map(|parts| parts.iter()).map(|part| part.segment.len).sum();
        if renamed {
            // Deltas under the current name do not go with a base under another, so the next snapshot is a
            // base.
            self.needs_base = true;
            self.older_forms.clear();
        } else {
            self.restored = snapshots.concat();
            self.chain = Arc::new(Chain::of_restored(self.restored.clone()));
        }
        restored.orphans = self.states.orphan_names();
        Ok(restored)
    }

    /// Returns for each row of each merge the position of the state that takes its entries, and whether any
    /// state is stored under a former name. Records the states that no registered state claims, and the forms
    /// of claimed ones that are not the current one.
    fn find_targets(&mut self, merges: &[Merge<'_>]) -> Result<(Vec<Vec<usize>>, bool)> {
        let (registered, mut renamed) = (self.states.len(), false);
        let mut targets = Vec::with_capacity(merges.len());
        for merge in merges {
            let mut of_merge: Vec<usize> = Vec::with_capacity(merge.states().len());
            let mut older: Option<(&str, usize)> = None;
            for meta in merge.states() {
                let claimant = self.states.claimant(meta);
                let Some((claimant, state)) = claimant.and_then(|at| Some((at, self.states.at(at)?))) else {
                    let above = older.filter(|(name, _)| *name == meta.name).map(|(_, orphan)| orphan);
                    let orphan = self.states.add_orphan(meta, above)?;
                    older = Some((&meta.name, orphan));
                    of_merge.push(registered + orphan);
                    continue;
                };
                state.schema().compatibility(meta)?;
                renamed |= state.meta().name != meta.name;
                if state.meta() != meta && !self.older_forms.contains(meta) {
                    self.older_forms.push(meta.clone());
                }
                of_merge.push(claimant);
            }
            targets.push(of_merge);
        }
        Ok((targets, renamed))
    }

    async fn restore_one(
        &mut self,
        mut merge: Merge<'_>,
        targets: &[usize],
        restored: &mut Restored,
    ) -> Result<()> {
        let mut forms = Vec::with_capacity(targets.len());
        for (meta, target) in merge.states().iter().zip(targets) {
            let state = self.states.at_mut(*target);
            forms.push(state.map_or(Ok(AcceptedForm::CURRENT), |state| state.accept(meta))?);
        }
        let states = &mut self.states;
        let to_end = merge.read(|entry| {
            restored.entries += u64::from(entry.op == Op::Put);
            let row = usize::from(entry.state);
            if let Some(state) = targets.get(row).and_then(|target| states.at_mut(*target)) {
                let form = forms.get(row).copied().unwrap_or(AcceptedForm::CURRENT);
                state.restore(&entry, form).map_err(|error| error.with("state", &state.meta().name))?;
            }
            Ok(ControlFlow::Continue(()))
        });
        to_end.await.map(|_| ())
    }
}
