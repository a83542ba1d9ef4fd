//! Restore and rescale: open, clip, ingest.
//!
//! Of the native snapshots that a new subtask takes part in, the one with the most key groups becomes its
//! database as it is: its files are downloaded (or linked, where a local copy verifies), and key groups of
//! other subtasks are cut off. Everything else, from other native snapshots and from portable ones, is
//! written to table files in one ordered pass and ingested. No entry goes through a memtable. (Flink:
//! `RocksDBIncrementalRestoreOperation`.)

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use strandline_state_api::backend::{AcceptedForm, RestoreSnapshot, Restored};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, PartFormat, SegmentStore, SnapshotPart};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyedBackend, Result, StateKey};

use crate::backend::too_many_states;
use crate::database::{Database, Files, ReadOnly};
use crate::directory::{Directory, StoredState};
use crate::layout::{Addressing, bounds};
use crate::state::RocksState;
use crate::store::Store;
use crate::store::scan::to_state;
use crate::uploads::Uploaded;
use crate::{NATIVE_FORMAT, RocksBackend};

mod bulk;
mod fetch;
mod portable;

use bulk::Bulk;
pub(crate) use fetch::fetch;
use fetch::read_directory;

/// Bytes of rewritten values that are written at once.
const REWRITE_BATCH: usize = 1 << 20;

/// The part of a snapshot that lies in the key groups of this subtask.
pub(crate) enum RestoreSource {
    Portable(Vec<SnapshotPart>),
    Native { directory: Directory, key_groups: KeyGroupRange, bytes: u64 },
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for RocksBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        self.registry.begin_restore(self.used || self.entries() > 0)?;
        let restored = self.restore_all(snapshots, store).await;
        restored.map_err(|error| self.registry.scope().locate(error))
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
            sources.extend(source(&snapshot.clip(self.scope().key_groups), store).await?);
        }
        self.used = !sources.is_empty();
        let mut restored = Restored::default();
        let groups = |source: &RestoreSource| match source {
            RestoreSource::Native { key_groups, .. } => key_groups.len(),
            RestoreSource::Portable(_) => 0,
        };
        // The largest native one comes first, as the base; portable ones come last, as native values are
        // rewritten in place.
        sources.sort_by_key(|source| Reverse(groups(source)));
        let mut migrating: Option<Vec<(usize, AcceptedForm)>> = None;
        let mut portable = Vec::new();
        for (number, source) in sources.into_iter().enumerate() {
            let (directory, key_groups) = match source {
                RestoreSource::Native { directory, key_groups, bytes } => {
                    restored.bytes += bytes;
                    (directory, key_groups)
                }
                RestoreSource::Portable(parts) => {
                    portable.push(parts);
                    continue;
                }
            };
            let is_base = number == 0 && !key_groups.is_empty();
            let mut adopted: Vec<_> = self.adopt(&directory.states, is_base)?.into_iter().flatten().collect();
            adopted.retain(|(_, form)| form.migrates());
            if migrating.replace(adopted.clone()).is_some_and(|before| before != adopted) {
                let message = "the snapshots of two subtasks have a state in different versions; \
                               restore an older checkpoint";
                return Err(Error::new(ErrorKind::Incompatible, message));
            }
            if is_base {
                self.open_base(&directory, key_groups, store).await?;
            } else {
                self.load_native(number, &directory, key_groups, store).await?;
            }
        }
        for (index, form) in migrating.unwrap_or_default() {
            self.rewrite_in_place(self.state(index)?, form)?;
        }
        for parts in portable {
            restored.bytes += parts.iter().map(|part| part.segment.len).sum::<u64>();
            self.load_portable(&parts, store).await?;
        }
        self.publish_expiries();
        restored.entries = self.store.database().property("rocksdb.estimate-num-keys");
        restored.orphans = self.registry.orphan_names();
        Ok(restored)
    }

    fn state(&self, index: usize) -> Result<&dyn RocksState> {
        let unknown = || Error::new(ErrorKind::Internal, "a restored state is not known");
        self.registry.at(index).ok_or_else(unknown)
    }

    /// Notes the states of a snapshot; returns for each the registered state that claims it, and the form of
    /// its values. The states of the base decide the addresses.
    fn adopt(&mut self, stored: &[StoredState], base: bool) -> Result<Vec<Option<(usize, AcceptedForm)>>> {
        let mut adopted = Vec::with_capacity(stored.len());
        for StoredState { meta, .. } in stored {
            let claimant = self.registry.claimant(meta);
            let state = claimant.and_then(|index| Some((index, self.registry.at_mut(index)?)));
            adopted.push(match state {
                Some((index, state)) => Some((index, state.accept(meta)?)),
                None => None,
            });
        }
        if base {
            // Numbers of the base are taken; registered states that it does not hold get others.
            let taken: HashSet<u16> = stored.iter().map(|stored| stored.addressing.id).collect();
            let mut free = (0..=u16::MAX).filter(|id| !taken.contains(id));
            for state in self.registry.iter_mut() {
                let known = stored.iter().find(|stored| state.schema().is_called(&stored.meta.name));
                let addressing = match known {
                    Some(known) => known.addressing,
                    None => Addressing { id: free.next().ok_or_else(too_many_states)?, ..state.addressing() },
                };
                state.set_addressing(addressing);
            }
        }
        for stored in stored {
            if self.registry.claimant(&stored.meta).is_some() {
                continue;
            }
            self.registry.add_orphan(&stored.meta, None)?;
            match self.orphans.iter().find(|orphan| orphan.meta.name == stored.meta.name) {
                Some(known) if known.meta == stored.meta => {}
                Some(_) => return Err(two_forms(&stored.meta)),
                None => {
                    let id = if base { stored.addressing.id } else { self.free_id()? };
                    let addressing = Addressing { id, ..stored.addressing };
                    self.orphans.push(StoredState { addressing, meta: stored.meta.clone() });
                }
            }
        }
        Ok(adopted)
    }

    /// Where the entries of these states go.
    fn targets<'a>(&self, stored: impl IntoIterator<Item = &'a StateMeta>) -> Result<Vec<Addressing>> {
        let target = |meta: &StateMeta| match self.registry.claimant(meta) {
            Some(index) => Ok(self.state(index)?.addressing()),
            None => {
                let orphan = self.orphans.iter().find(|orphan| orphan.meta.name == meta.name);
                let unknown = || Error::new(ErrorKind::Internal, "a restored state is not known");
                orphan.map(|orphan| orphan.addressing).ok_or_else(unknown)
            }
        };
        stored.into_iter().map(target).collect()
    }

    /// Makes the files of a snapshot the database of this backend.
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

    /// Rewrites the values of a state whose files hold an older form, where their bytes differ: files whose
    /// values stay need not be stored again.
    fn rewrite_in_place(&self, state: &dyn RocksState, form: AcceptedForm) -> Result<()> {
        let (id, mut value) = (state.addressing().id, Vec::new());
        let database = Arc::clone(self.store.database());
        let mut batch = rocksdb::WriteBatch::default();
        let (from, to) = bounds(self.scope().key_groups);
        let mut entries = database.iterate(&from, Some(&to));
        let mut target = Vec::new();
        entries.first()?;
        to_state(&mut entries, id, &mut target)?;
        while let Some((address, old)) = entries.entry() {
            value.clear();
            state.rewrite(form, old, &mut value).map_err(|error| error.with("state", &state.meta().name))?;
            if value != old {
                batch.put(address, &value);
            }
            if batch.size_in_bytes() > REWRITE_BATCH {
                database.write(&batch)?;
                batch.clear();
            }
            entries.step()?;
            to_state(&mut entries, id, &mut target)?;
        }
        database.write(&batch)
    }

    async fn load_native(
        &mut self,
        number: usize,
        directory: &Directory,
        key_groups: KeyGroupRange,
        store: &dyn SegmentStore,
    ) -> Result<()> {
        let targets = self.targets(directory.states.iter().map(|state| &state.meta))?;
        let instance = Arc::clone(&self.store.database().instance);
        let path = instance.path(format_args!("db-source-{number}"));
        let files = Files(path.clone());
        fetch(directory, &path, &instance, &self.environment.options, store).await?;
        let source = ReadOnly::open(&self.environment, &path)?;
        let mut bulk = Bulk::new(self.store.database(), &targets);
        bulk.copy(&source, &directory.states, key_groups)?;
        bulk.finish()?;
        drop((source, files));
        Ok(())
    }
}

#[cold]
fn two_forms(stored: &StateMeta) -> Error {
    let message = "the snapshot has a state in two forms that the job does not have; register the state, so that \
                   it migrates";
    Error::new(ErrorKind::Incompatible, message).with("state", &stored.name)
}

/// Reads what a restore needs of a snapshot that is clipped to the key groups of this subtask.
pub(crate) async fn source(
    snapshot: &KeyedSnapshot,
    store: &dyn SegmentStore,
) -> Result<Option<RestoreSource>> {
    let Some(last) = snapshot.parts.last() else { return Ok(None) };
    if snapshot.parts.iter().all(|part| part.format.is_portable()) {
        return Ok(Some(RestoreSource::Portable(snapshot.parts.clone())));
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
            let message = "the snapshot and its directory differ about a segment";
            return Err(Error::corrupt(message)
                .with("segment", &pack.name)
                .with("directory", &last.segment.name));
        }
    }
    let key_groups = last.key_groups.intersect(directory.key_groups);
    Ok(Some(RestoreSource::Native { directory, key_groups, bytes: snapshot.full_bytes() }))
}
