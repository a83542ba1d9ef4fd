//! Snapshots and restore.

use async_trait::async_trait;
use strandline_state_api::format::{
    EntryRef, Merge, Op, SegmentKind, SegmentWriter, StateMeta, WriterOptions, timer_key,
};
use strandline_state_api::*;

use super::backend::Naive;

/// One encoded entry.
#[derive(Clone, Debug)]
pub struct Encoded {
    group: KeyGroup,
    key: Vec<u8>,
    namespace: Vec<u8>,
    sub: Vec<u8>,
    value: Vec<u8>,
}

/// All entries of one state, encoded.
#[derive(Clone, Debug)]
pub struct Stored {
    pub meta: StateMeta,
    pub entries: Vec<Encoded>,
}

/// All entries of all states at a barrier.
pub type Cut = Vec<Stored>;

impl<K: StateKey> SnapshotSource for Naive<K> {
    type Prepared = Cut;
    type Writer = NaiveWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, _kind: SnapshotKind) -> Result<()> {
        if self.last.is_some_and(|last| last >= checkpoint) {
            return Err(Error::invalid("checkpoint ids must rise").with("checkpoint", checkpoint));
        }
        let mut cut = self.unclaimed.clone();
        for table in &self.tables {
            let mut entries = Vec::new();
            for ((time, key, namespace, sub), cell) in &table.cells {
                let group = KeyGroup::of(KeyHash::of_encoded(key));
                let mut value = Vec::new();
                (table.encode)(cell, &mut value).map_err(|e| e.with("state", &table.meta().name))?;
                let mut packed = Vec::new();
                if table.meta().kind.is_timers() {
                    timer_key::pack(*time, key, &mut packed);
                } else {
                    packed.extend_from_slice(key);
                }
                entries.push(Encoded {
                    group,
                    key: packed,
                    namespace: namespace.clone(),
                    sub: sub.clone(),
                    value,
                });
            }
            cut.push(Stored { meta: table.meta().clone(), entries });
        }
        self.last = Some(checkpoint);
        self.cuts.push_back((checkpoint, cut));
        Ok(())
    }

    fn advance(&mut self, _budget: usize) -> Result<Progress<Cut>> {
        Ok(self.cuts.pop_front().map_or(Progress::Idle, |(checkpoint, cut)| Progress::Ready(checkpoint, cut)))
    }

    fn take_writer(&mut self) -> Result<NaiveWriter> {
        if std::mem::replace(&mut self.writer_taken, true) {
            return Err(Error::invalid("the writer was taken before"));
        }
        Ok(NaiveWriter)
    }
}

/// Writes one segment for each snapshot. As each snapshot is whole, there is nothing to remember.
pub struct NaiveWriter;

#[async_trait]
impl SnapshotWriter for NaiveWriter {
    type Prepared = Cut;

    async fn commit(&mut self, mut cut: Cut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        cut.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
        let metas: Vec<_> = cut.iter().map(|stored| stored.meta.clone()).collect();
        let mut entries = Vec::new();
        for (state, stored) in (0..).zip(&cut) {
            entries.extend(stored.entries.iter().map(|entry| EntryRef {
                group: entry.group,
                state,
                op: Op::Put,
                key: &entry.key,
                namespace: &entry.namespace,
                sub: &entry.sub,
                value: &entry.value,
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
        if self.entries() > 0 || !self.unclaimed.is_empty() {
            return Err(Error::invalid("only an empty backend can be restored"));
        }
        let restored = self.restore_all(snapshots, store).await;
        restored.map_err(|error| error.with("operator", &self.scope.operator))
    }
}

impl<K: StateKey> Naive<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[KeyedSnapshot],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let mut restored = Restored::default();
        for snapshot in snapshots {
            let snapshot = snapshot.clip(self.scope.key_groups);
            let mut merge =
                Merge::open(store, &snapshot.parts, SegmentKind::Base, self.scope.key_groups).await?;
            let metas = merge.states().to_vec();
            for meta in &metas {
                self.match_state(meta)?;
            }
            while let Some(entry) = merge.next().await? {
                restored.entries += 1;
                self.restore_entry(&metas[usize::from(entry.state)], &entry)?;
            }
            restored.bytes += snapshot.full_bytes();
        }
        restored.unclaimed = self.unclaimed.iter().map(|stored| stored.meta.name.clone()).collect();
        Ok(restored)
    }
}

impl<K: StateKey> Naive<K> {
    /// Whether a stored state fits the registered one; without one, it is kept as it is.
    fn match_state(&mut self, stored: &StateMeta) -> Result<()> {
        match self.tables.iter().find(|table| table.schema.is_called(&stored.name)) {
            Some(table) => {
                table.schema.compatibility(stored)?;
            }
            None if self.unclaimed.iter().any(|known| known.meta == *stored) => {}
            None => self.unclaimed.push(Stored { meta: stored.clone(), entries: Vec::new() }),
        }
        Ok(())
    }

    fn restore_entry(&mut self, meta: &StateMeta, entry: &EntryRef<'_>) -> Result<()> {
        let (namespace, sub) = (entry.namespace.to_vec(), entry.sub.to_vec());
        if let Some(table) = self.tables.iter_mut().find(|table| table.schema.is_called(&meta.name)) {
            let timer = meta.kind.is_timers();
            let (time, key) = if timer { timer_key::unpack(entry.key)? } else { (0, entry.key) };
            K::decode(key)?;
            let cell = (table.decode)(meta, entry.value).map_err(|e| e.with("state", &meta.name))?;
            table.cells.insert((time, key.to_vec(), namespace, sub), cell);
        } else if let Some(stored) = self.unclaimed.iter_mut().find(|stored| stored.meta.name == meta.name) {
            let (key, value) = (entry.key.to_vec(), entry.value.to_vec());
            stored.entries.push(Encoded { group: entry.group, key, namespace, sub, value });
        }
        Ok(())
    }
}
