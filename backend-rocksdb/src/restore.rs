//! Restore and rescale: open, clip, ingest.
//!
//! Of the native snapshots that a new subtask takes part in, the one with the most key groups becomes its database, as it is: its
//! files are downloaded (or linked, where a local copy verifies), and what belongs to others is cut off. Everything else, from other native
//! snapshots and from portable ones, is written to table files in one ordered pass and ingested. No entry goes through a memtable.
//! (Flink: `RocksDBIncrementalRestoreOperation`.)

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use strandline_state_api::{
    Error, ErrorKind, KeyGroupRange, KeyedBackend, KeyedSnapshot, PartFormat, RestoreSnapshot, Restored,
    Result, SegmentStore, SnapshotPart, StateKey,
};

use crate::backend::too_many_states;
use crate::database::Database;
use crate::directory::{Directory, StoredState};
use crate::layout::bounds;
use crate::store::Store;
use crate::store::scan::to_state;
use crate::writer::Uploaded;
use crate::{NATIVE_FORMAT, RocksBackend};

mod bulk;
mod fetch;

use bulk::{Bulk, Target};
use fetch::{fetch, read_directory};

/// Bytes of migrated values that are written at once.
const MIGRATION_BATCH: usize = 1 << 20;

/// A snapshot, as far as this subtask takes part in it.
enum Source {
    Portable(Vec<SnapshotPart>),
    Native { directory: Directory, key_groups: KeyGroupRange, bytes: u64 },
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for RocksBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        if self.used || self.writer_taken || self.restored.is_some() || self.entries() > 0 {
            return Err(Error::invalid("only an empty, unused backend can be restored")
                .with("operator", &self.scope.operator));
        }
        let (operator, subtask) = (self.scope.operator.clone(), self.scope.subtask);
        let restored = self.restore_all(snapshots, store).await;
        restored.map_err(|e| e.with("operator", operator).with("subtask", subtask))
    }
}

impl<K: StateKey> RocksBackend<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[KeyedSnapshot],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let mut sources = Vec::new();
        for snapshot in snapshots {
            sources.extend(source(&snapshot.clip(self.scope.key_groups), store).await?);
        }
        self.used = !sources.is_empty();
        let mut restored = Restored::default();
        let groups = |source: &Source| match source {
            Source::Native { key_groups, .. } => key_groups.len(),
            Source::Portable(_) => 0,
        };
        // The largest native one first, as the base; portable ones last, as what is native migrates in place.
        sources.sort_by_key(|source| Reverse(groups(source)));
        let mut migrating: Option<Vec<usize>> = None;
        let mut portable = Vec::new();
        for (number, source) in sources.into_iter().enumerate() {
            let (directory, key_groups) = match source {
                Source::Native { directory, key_groups, bytes } => {
                    restored.bytes += bytes;
                    (directory, key_groups)
                }
                Source::Portable(parts) => {
                    portable.push(parts);
                    continue;
                }
            };
            let is_base = number == 0 && !key_groups.is_empty();
            let adopted = self.adopt(&directory.states, is_base)?;
            if migrating.replace(adopted.clone()).is_some_and(|before| before != adopted) {
                let message = "the snapshots of two subtasks have a state in different versions; restore an older checkpoint";
                return Err(Error::new(ErrorKind::Incompatible, message));
            }
            if is_base {
                self.open_base(&directory, key_groups, store).await?;
            } else {
                self.load_native(number, &directory, key_groups, store).await?;
            }
        }
        self.migrate_in_place(&migrating.unwrap_or_default())?;
        for parts in portable {
            restored.bytes += parts.iter().map(|part| part.segment.len).sum::<u64>();
            self.load_portable(&parts, store).await?;
        }
        self.publish_expiries();
        restored.entries = self.store.database().property("rocksdb.estimate-num-keys");
        restored.unclaimed = self.unclaimed.iter().map(|stored| stored.meta.name.clone()).collect();
        Ok(restored)
    }

    /// Makes the states of a snapshot known; says which of the registered ones have to migrate. Those of the base decide what
    /// keys look like.
    fn adopt(&mut self, stored: &[StoredState], base: bool) -> Result<Vec<usize>> {
        let mut migrating = Vec::new();
        for StoredState { meta, .. } in stored {
            if let Some(index) = self.claimant(&meta.name)
                && self.states[index].accept(meta)?
            {
                migrating.push(index);
            }
        }
        if base {
            // Numbers of the base are taken; registered states that it does not know get others.
            let taken: HashSet<u16> = stored.iter().map(|stored| stored.id).collect();
            let mut free = (0..=u16::MAX).filter(|id| !taken.contains(id));
            for state in &mut self.states {
                let place = state.place();
                let known = stored.iter().find(|stored| place.schema.is_called(&stored.meta.name));
                let (id, layout) = match known {
                    Some(known) => (Some(known.id), known.layout),
                    None => (free.next(), place.layout),
                };
                state.adopt(id.ok_or_else(too_many_states)?, layout);
            }
        }
        for stored in stored {
            let registered = self.claimant(&stored.meta.name).is_some();
            let known = self.unclaimed.iter().any(|unclaimed| unclaimed.meta.name == stored.meta.name);
            if !registered && !known {
                let id = if base { stored.id } else { self.free_id()? };
                self.unclaimed.push(StoredState { id, ..stored.clone() });
            }
        }
        Ok(migrating)
    }

    /// The registered state that takes what is stored under a name.
    fn claimant(&self, name: &str) -> Option<usize> {
        self.states.iter().position(|state| state.place().schema.is_called(name))
    }

    /// Where entries of these states go.
    fn targets<'a>(&self, stored: impl IntoIterator<Item = &'a str>) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for name in stored {
            let registered = self.claimant(name).map(|index| self.states[index].place());
            let unclaimed = self.unclaimed.iter().find(|unclaimed| unclaimed.meta.name == *name);
            let target = registered
                .map(|place| Target { id: place.id, layout: place.layout })
                .or_else(|| unclaimed.map(|stored| Target { id: stored.id, layout: stored.layout }));
            targets.push(
                target.ok_or_else(|| Error::new(ErrorKind::Internal, "a restored state is not known"))?,
            );
        }
        Ok(targets)
    }

    /// Makes the files of a snapshot this backend's database.
    async fn open_base(
        &mut self,
        directory: &Directory,
        key_groups: KeyGroupRange,
        store: &dyn SegmentStore,
    ) -> Result<()> {
        let instance = Arc::clone(&self.store.database().instance);
        let path = instance.path("db-restored");
        let options = &self.environment.options;
        let uploaded: Uploaded = fetch(directory, &path, &instance, options, store).await?;
        let database = Database::open(&self.environment, Arc::clone(&instance), path)?;
        if !key_groups.covers(directory.key_groups) {
            let (from, to) = bounds(key_groups);
            database.clip(&from, &to)?;
        }
        if options.local_copies {
            let hashes = uploaded.values().map(|location| location.hash).collect();
            instance.home().need_copies(&instance, hashes, true);
        }
        self.store = Store::new(Arc::new(database), Arc::clone(&self.environment.memory));
        self.restored = Some(uploaded);
        Ok(())
    }

    async fn load_portable(&mut self, parts: &[SnapshotPart], store: &dyn SegmentStore) -> Result<()> {
        use strandline_state_api::format::{Merge, SegmentKind, StateMeta};

        let mut merge = Merge::open(store, parts, SegmentKind::Base, self.scope.key_groups).await?;
        let unknown = merge.states().iter().map(|meta| StoredState {
            id: 0,
            layout: crate::layout::Layout::unknown(meta),
            meta: meta.clone(),
        });
        let adopted = self.adopt(&unknown.collect::<Vec<_>>(), false)?;
        let targets = self.targets(merge.states().iter().map(|meta| meta.name.as_str()))?;
        let migrates = |meta: &StateMeta| self.claimant(&meta.name).filter(|index| adopted.contains(index));
        let migrating: Vec<Option<usize>> = merge.states().iter().map(migrates).collect();
        let mut bulk = Bulk::new(&self.environment, self.store.database(), &targets);
        let mut value = Vec::new();
        while let Some(entry) = merge.next().await? {
            let at = [entry.key, entry.namespace, entry.sub];
            match migrating.get(usize::from(entry.state)).copied().flatten() {
                None => bulk.push(entry.state, entry.group, at, entry.value)?,
                Some(index) => {
                    let state = &self.states[index];
                    let migrated = state.migrate(entry.value, &mut value);
                    migrated.map_err(|e| e.with("state", &state.place().meta().name))?;
                    bulk.push(entry.state, entry.group, at, &value)?;
                }
            }
        }
        bulk.finish()
    }

    /// Rewrites the values that came in files of an older form.
    fn migrate_in_place(&self, migrating: &[usize]) -> Result<()> {
        for index in migrating {
            let state = &self.states[*index];
            let (place, mut value) = (state.place(), Vec::new());
            let database = Arc::clone(self.store.database());
            let mut batch = rocksdb::WriteBatch::default();
            let (from, to) = bounds(self.scope.key_groups);
            let mut entries = database.iterate(&from, Some(&to));
            let mut target = Vec::new();
            entries.first()?;
            to_state(&mut entries, place.id, &mut target)?;
            while let Some((address, old)) = entries.entry() {
                state.migrate(old, &mut value).map_err(|e| e.with("state", &place.meta().name))?;
                batch.put(address, &value);
                if batch.size_in_bytes() > MIGRATION_BATCH {
                    database.write(&batch)?;
                    batch.clear();
                }
                entries.step()?;
                to_state(&mut entries, place.id, &mut target)?;
            }
            database.write(&batch)?;
        }
        Ok(())
    }

    async fn load_native(
        &mut self,
        number: usize,
        directory: &Directory,
        key_groups: KeyGroupRange,
        store: &dyn SegmentStore,
    ) -> Result<()> {
        let targets = self.targets(directory.states.iter().map(|state| state.meta.name.as_str()))?;
        let instance = Arc::clone(&self.store.database().instance);
        let path = instance.path(format_args!("db-source-{number}"));
        let files = crate::database::Files(path.clone());
        fetch(directory, &path, &instance, &self.environment.options, store).await?;
        let source = crate::database::ReadOnly::open(&self.environment, &path)?;
        let mut bulk = Bulk::new(&self.environment, self.store.database(), &targets);
        bulk.copy(&source, &directory.states, key_groups)?;
        bulk.finish()?;
        drop((source, files));
        Ok(())
    }
}

/// What a snapshot, cut to the key groups of this subtask, is.
async fn source(snapshot: &KeyedSnapshot, store: &dyn SegmentStore) -> Result<Option<Source>> {
    let Some(last) = snapshot.parts.last() else { return Ok(None) };
    if snapshot.parts.iter().all(|part| part.format.is_portable()) {
        return Ok(Some(Source::Portable(snapshot.parts.clone())));
    }
    for part in &snapshot.parts {
        if part.format != PartFormat::Native(NATIVE_FORMAT.into()) {
            let message = format!(
                "the snapshot is not in the format {NATIVE_FORMAT:?} that this backend writes, but {:?}",
                part.format
            );
            return Err(Error::new(ErrorKind::Incompatible, message).with("segment", &part.segment.name));
        }
    }
    let directory = read_directory(&last.segment, store).await?;
    for pack in &directory.packs {
        let part = snapshot.parts.iter().find(|part| part.segment.name == pack.name);
        if part.is_none_or(|part| part.segment.len != pack.len) {
            let message = "the snapshot and its directory do not say the same of a segment";
            return Err(Error::corrupt(message)
                .with("segment", &pack.name)
                .with("directory", &last.segment.name));
        }
    }
    let key_groups = last.key_groups.intersect(directory.key_groups);
    Ok(Some(Source::Native { directory, key_groups, bytes: snapshot.full_bytes() }))
}
