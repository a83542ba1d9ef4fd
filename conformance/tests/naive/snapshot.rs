//! Snapshots and restore.

use async_trait::async_trait;
use strandline_snapshot_format::{EntryRef, Merge, Op, SegmentKind, SegmentWriter, WriterOptions, timer_key};
use strandline_state_api::backend::{
    Progress, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, KeyGroup, KeyHash, KeyedBackend, Result, StateKey};

use super::backend::Naive;
use super::table::Table;

/// One encoded entry.
#[derive(Clone, Debug)]
pub struct Row {
    group: KeyGroup,
    key: Vec<u8>,
    namespace: Vec<u8>,
    sub: Vec<u8>,
    value: Vec<u8>,
}

/// All entries of one state, encoded.
#[derive(Clone, Debug)]
pub struct StateRows {
    pub meta: StateMeta,
    pub rows: Vec<Row>,
}

/// All entries of all states at a barrier.
pub type WholeState = Vec<StateRows>;

/// Encodes all entries of a state.
fn encoded(table: &Table) -> Result<StateRows> {
    let meta = table.schema.meta.clone();
    let mut rows = Vec::new();
    for ((time, key, namespace, sub), cell) in &table.cells {
        let (mut packed, mut value) = (Vec::new(), Vec::new());
        table.codec.encode(cell, &mut value).map_err(|error| error.with("state", &meta.name))?;
        if meta.kind.is_timers() {
            timer_key::pack(*time, key, &mut packed);
        } else {
            packed.extend_from_slice(key);
        }
        let group = KeyGroup::of(KeyHash::of_encoded(key));
        rows.push(Row { group, key: packed, namespace: namespace.clone(), sub: sub.clone(), value });
    }
    Ok(StateRows { meta, rows })
}

impl<K: StateKey> SnapshotSource for Naive<K> {
    type Prepared = WholeState;
    type Writer = NaiveWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, _kind: SnapshotKind) -> Result<()> {
        self.registry.begin_checkpoint(checkpoint)?;
        let mut states = self.orphans.clone();
        for table in self.registry.iter() {
            states.push(encoded(table)?);
        }
        self.prepared.push_back((checkpoint, states));
        Ok(())
    }

    fn advance(&mut self, _budget: usize) -> Result<Progress<WholeState>> {
        let oldest = self.prepared.pop_front();
        Ok(oldest.map_or(Progress::Idle, |(checkpoint, states)| Progress::Ready(checkpoint, states)))
    }

    fn take_writer(&mut self) -> Result<NaiveWriter> {
        self.registry.take_writer()?;
        Ok(NaiveWriter)
    }
}

/// Writes one segment for each snapshot. As each snapshot is whole, the writer has nothing to remember.
pub struct NaiveWriter;

#[async_trait]
impl SnapshotWriter for NaiveWriter {
    type Prepared = WholeState;

    async fn commit(&self, mut states: WholeState, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        let metas: Vec<_> = states.iter().map(|state| state.meta.clone()).collect();
        let mut entries = Vec::new();
        for (state, StateRows { rows, .. }) in (0..).zip(&states) {
            entries.extend(rows.iter().map(|row| EntryRef {
                namespace: &row.namespace,
                sub: &row.sub,
                value: &row.value,
                ..EntryRef::new(row.group, state, Op::Put, &row.key)
            }));
        }
        if entries.is_empty() {
            return Ok(KeyedSnapshot::default());
        }
        entries.sort_by(EntryRef::cmp_position);
        let mut writer = SegmentWriter::new(metas.clone(), SegmentKind::Base, WriterOptions::default())?;
        for entry in entries {
            writer.push(entry)?;
        }
        let finished = writer.finish()?;
        let segment = store.put(finished.bytes).await?;
        let written_bytes = segment.len;
        let parts = vec![SnapshotPart::portable(segment, finished.key_groups)];
        Ok(KeyedSnapshot { parts, written_bytes, states: metas })
    }
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for Naive<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        self.registry.begin_restore(self.entries() > 0)?;
        let restored = self.restore_all(snapshots, store).await;
        restored.map_err(|error| self.scope().locate(error))
    }
}

impl<K: StateKey> Naive<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[KeyedSnapshot],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let mut restored = Restored::default();
        let key_groups = self.scope().key_groups;
        for snapshot in snapshots {
            let snapshot = snapshot.clip(key_groups);
            let mut merge = Merge::open(store, &snapshot.parts, SegmentKind::Base, key_groups).await?;
            let metas = merge.states().to_vec();
            for meta in &metas {
                self.accept(meta)?;
            }
            while let Some(entry) = merge.next().await? {
                restored.entries += 1;
                let meta = &metas[usize::from(entry.state)];
                self.restore_entry(meta, &entry).map_err(|error| error.with("state", &meta.name))?;
            }
            restored.bytes += snapshot.full_bytes();
        }
        restored.orphans = self.orphans.iter().map(|state| state.meta.name.clone()).collect();
        Ok(restored)
    }

    /// Prepares to restore the entries of one stored state.
    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        if let Some(table) = self.registry.claimant(stored).and_then(|index| self.registry.at_mut(index)) {
            return table.codec.accept(stored);
        }
        self.registry.add_orphan(stored);
        if !self.orphans.iter().any(|known| known.meta == *stored) {
            self.orphans.push(StateRows { meta: stored.clone(), rows: Vec::new() });
        }
        Ok(())
    }

    fn restore_entry(&mut self, meta: &StateMeta, entry: &EntryRef<'_>) -> Result<()> {
        let (namespace, sub) = (entry.namespace.to_vec(), entry.sub.to_vec());
        if let Some(table) = self.registry.claimant(meta).and_then(|index| self.registry.at_mut(index)) {
            let timer = meta.kind.is_timers();
            let (time, key) = if timer { timer_key::unpack(entry.key)? } else { (0, entry.key) };
            K::decode(key)?;
            let cell = table.codec.decode(entry.value)?;
            table.cells.insert((time, key.to_vec(), namespace, sub), cell);
        } else if let Some(orphan) = self.orphans.iter_mut().find(|orphan| orphan.meta.name == meta.name) {
            let (key, value) = (entry.key.to_vec(), entry.value.to_vec());
            orphan.rows.push(Row { group: entry.group, key, namespace, sub, value });
        }
        Ok(())
    }
}
