//! The restore of a backend with whole snapshots, from snapshots of any backend in the portable format.

use async_trait::async_trait;
use strandline_state_api::backend::{AcceptedForm, RestoreSnapshot, Restored};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{Result, StateKey};

use super::snapshot::{StateEntries, Stored};
use super::{AnyState, EntryAddress, WholeStates};
use crate::entry::{EntryRef, Op};
use crate::merge::Merge;
use crate::segment_kind::SegmentKind;
use crate::timer_key;

/// Where the entries of one stored state and form go.
#[derive(Clone, Copy)]
enum Target {
    /// To the registered state at a position, in this form.
    State(usize, AcceptedForm),
    /// To the orphan at a position.
    Orphan(usize),
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for WholeStates<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        self.states.begin_restore(self.entries() > 0)?;
        let mut restored = Restored::default();
        for snapshot in snapshots {
            let result = self.restore_one(snapshot, store, &mut restored).await;
            result.map_err(|error| self.states.scope().locate(error))?;
        }
        restored.orphans = self.states.orphan_names();
        Ok(restored)
    }
}

impl<K: StateKey> WholeStates<K> {
    async fn restore_one(
        &mut self,
        snapshot: &KeyedSnapshot,
        store: &dyn SegmentStore,
        restored: &mut Restored,
    ) -> Result<()> {
        let key_groups = self.scope().key_groups;
        let snapshot = snapshot.clip(key_groups);
        let mut merge = Merge::open(store, &snapshot.parts, SegmentKind::Base, key_groups).await?;
        // By the index of the state and form in the merge.
        let metas = merge.states().to_vec();
        let mut targets: Vec<Target> = Vec::with_capacity(metas.len());
        for meta in &metas {
            let above = targets.last().copied().zip(metas.get(targets.len().wrapping_sub(1)));
            let above = above.filter(|(_, before)| before.name == meta.name).map(|(target, _)| target);
            targets.push(self.target(meta, above)?);
        }
        while let Some(entry) = merge.next().await? {
            let index = usize::from(entry.state);
            let result = self.restore_entry(targets[index], &metas[index], &entry);
            result.map_err(|error| error.with("state", &metas[index].name))?;
            restored.entries += u64::from(entry.op == Op::Put);
        }
        self.states.iter_mut().for_each(AnyState::end_restore);
        restored.bytes += snapshot.full_bytes();
        Ok(())
    }

    /// Returns where the entries of a stored state go; prepares a registered state for their form. `above` is
    /// where those of its next older form in the same snapshot go.
    fn target(&mut self, stored: &StateMeta, above: Option<Target>) -> Result<Target> {
        let claimant = self.states.claimant(stored);
        if let Some((claimant, state)) =
            claimant.and_then(|claimant| Some((claimant, self.states.at_mut(claimant)?)))
        {
            return Ok(Target::State(claimant, state.accept(stored)?));
        }
        let above = above.and_then(|above| match above {
            Target::Orphan(above) => Some(above),
            Target::State(..) => None,
        });
        let index = self.states.add_orphan(stored, above)?;
        let orphans = &mut self.orphans.states;
        if index == orphans.len() {
            orphans.push(StateEntries { meta: stored.clone(), entries: Vec::new() });
        }
        Ok(Target::Orphan(index))
    }

    fn restore_entry(&mut self, target: Target, stored: &StateMeta, entry: &EntryRef<'_>) -> Result<()> {
        match target {
            Target::State(index, form) if entry.op == Op::Append => {
                let state = self.states.at_mut(index);
                state.map_or(Ok(()), |state| state.restore_more(form, entry.value))
            }
            Target::State(index, form) => {
                let timer = stored.kind.is_timers();
                let (time, key) = if timer { timer_key::unpack(entry.key)? } else { (0, entry.key) };
                K::decode(key)?;
                let [key, namespace, map_key] = [key, entry.namespace, entry.sub].map(<[u8]>::to_vec);
                let at = EntryAddress { time, key, namespace, map_key };
                self.states.at_mut(index).map_or(Ok(()), |state| state.restore(at, form, entry.value))
            }
            Target::Orphan(index) => {
                let parts = [entry.key, entry.namespace, entry.sub, entry.value];
                let [key, namespace, sub, value] = parts.map(<[u8]>::to_vec);
                let stored = Stored { group: entry.group, op: entry.op, key, namespace, sub, value };
                self.orphans.states[index].entries.push(stored);
                Ok(())
            }
        }
    }
}
