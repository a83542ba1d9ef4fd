//! The restore: entries of snapshots become entries of tables.

use std::sync::Arc;

use async_trait::async_trait;
use strandline_snapshot_format::{Merge, SegmentKind};
use strandline_state_api::backend::{RestoreSnapshot, Restored};
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
        let differs = self.find_orphans(&merges)?;
        if differs {
            // Deltas in the current form do not go with a base in another, so the next snapshot is a base.
            self.needs_base = true;
        }
        // They are in the restored files, and every later base needs them.
        for meta in self.states.orphans().to_vec() {
            self.states.push(Box::new(OrphanState::new(meta)));
        }
        let mut restored = Restored::default();
        for merge in merges {
            self.restore_one(merge, &mut restored).await?;
        }
        restored.bytes = snapshots.iter().flat_map(|parts| parts.iter()).map(|part| part.segment.len).sum();
        if !differs {
            self.restored = snapshots.concat();
            self.chain = Arc::new(Chain::of_restored(self.restored.clone()));
        }
        restored.orphans = self.states.orphans().iter().map(|meta| meta.name.clone()).collect();
        Ok(restored)
    }

    /// Records the stored states that no registered state claims; returns whether the stored form of any
    /// claimed state differs from the current one.
    fn find_orphans(&mut self, merges: &[Merge<'_>]) -> Result<bool> {
        let mut differs = false;
        for meta in merges.iter().flat_map(Merge::states) {
            match self.states.claimant(meta).and_then(|claimant| self.states.at(claimant)) {
                Some(state) => {
                    state.schema().compatibility(meta)?;
                    differs |= state.meta() != meta;
                }
                None => self.states.add_orphan(meta)?,
            }
        }
        Ok(differs)
    }

    async fn restore_one(&mut self, mut merge: Merge<'_>, restored: &mut Restored) -> Result<()> {
        // By the index in the state table of the segments.
        let mut targets = Vec::new();
        for meta in merge.states() {
            let target = self.states.claimant(meta);
            if let Some(state) = target.and_then(|target| self.states.at_mut(target)) {
                state.accept(meta)?;
            }
            targets.push(target);
        }
        while let Some(entry) = merge.next().await? {
            restored.entries += 1;
            let target = targets.get(usize::from(entry.state)).copied().flatten();
            if let Some(state) = target.and_then(|target| self.states.at_mut(target)) {
                state.restore(&entry).map_err(|error| error.with("state", &state.meta().name))?;
            }
        }
        Ok(())
    }
}
