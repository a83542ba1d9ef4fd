//! The second phase of a snapshot: the upload of those files of the cut that the store lacks.
//!
//! A file of the database never changes, and its number is never used again. So a file that was stored for an
//! earlier increment (committed, aborted or failed) is not stored again, unless its pack is put together with
//! [others](crate::packs); and a file, or a place of one, that a later increment does not have, no increment
//! after it has. A sweep relies on just that. A full snapshot names no such file, so the next increment stores
//! all of them; a savepoint does not count for a sweep, so the next increment builds on the one before it.
//! Commits that are under way at once store the same file each for itself, and agree in the end by the rule of
//! [`uploads`](crate::uploads). (Flink: `RocksIncrementalSnapshotStrategy`, which needs notice of each committed
//! checkpoint.)

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use strandline_state_api::backend::{BackendScope, SnapshotKind, SnapshotWriter};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::cut::PreparedCut;
use crate::database::Environment;
use crate::directory::{Directory, StoredFile};
use crate::home::{Instance, failed};
use crate::packs::{CutFile, plan};
use crate::portable::write_portable;
use crate::uploads::{Commit, Known, Location, Uploaded, Uploads};

/// A database without entries whose files are longer keeps them in its snapshots until a compaction drops
/// them: the next increment would have to store all of them again.
const REMOVED_BYTES: u64 = 1 << 20;

/// Stores the snapshots of one backend.
#[derive(Debug)]
pub struct RocksSnapshotWriter {
    scope: BackendScope,
    environment: Environment,
    uploads: Uploads,
    /// Hashes of the files of the previous snapshot, which a restore may still need.
    before: Mutex<HashSet<u128>>,
}

impl RocksSnapshotWriter {
    pub(crate) fn new(scope: BackendScope, environment: Environment, uploaded: Uploaded) -> Self {
        let before = Mutex::new(uploaded.values().map(|location| location.hash).collect());
        Self { scope, environment, uploads: Uploads::of_restored(uploaded), before }
    }

    async fn store(&self, prepared: &PreparedCut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        // A subtask without key groups has no state.
        if self.scope.key_groups.is_empty() {
            return Ok(KeyedSnapshot::default());
        }
        if matches!(prepared.kind, SnapshotKind::Savepoint | SnapshotKind::View) {
            // No later snapshot builds on them, and no sweep counts them: they take no part in the uploads.
            prepared.cut.make()?;
            return write_portable(&self.scope, &self.environment, prepared, store).await;
        }
        let is_full = prepared.kind == SnapshotKind::Full;
        let mut commit = self.uploads.begin(prepared.checkpoint, is_full);
        let entries = prepared.cut.make()?;
        if !is_full {
            return self.store_files(prepared, entries, &mut commit, store).await;
        }
        let snapshot = write_portable(&self.scope, &self.environment, prepared, store).await?;
        // Once this checkpoint is complete, a sweep may delete what it does not name.
        if !commit.publish(&Uploaded::new()) {
            return Err(Error::invalid("the commit of a later snapshot was started before that of this one"));
        }
        Ok(snapshot)
    }

    async fn store_files(
        &self,
        prepared: &PreparedCut,
        entries: bool,
        commit: &mut Commit<'_>,
        store: &dyn SegmentStore,
    ) -> Result<KeyedSnapshot> {
        let (files, manifest) = list(prepared.cut.path())?;
        let is_empty = !entries && files.iter().map(|file| file.len).sum::<u64>() < REMOVED_BYTES;
        // It counts as a full snapshot then, unless a later one was stored that needs what is older.
        if is_empty && commit.publish(&Uploaded::new()) {
            return Ok(KeyedSnapshot::default());
        }
        let mut written_bytes = 0;
        loop {
            let located = self.upload(&files, commit, store, &mut written_bytes).await?;
            let mut directory = Directory {
                key_groups: self.scope.key_groups,
                states: prepared.states.clone(),
                packs: Vec::new(),
                files: Vec::with_capacity(files.len()),
                manifest: manifest.clone(),
            };
            let mut numbers = HashMap::new();
            for file in &files {
                let Some(Location { pack, offset, len, hash, .. }) = located.get(&file.name).cloned() else {
                    return Err(Error::new(ErrorKind::Internal, "a file of the snapshot was not stored")
                        .with("file", file.path.display()));
                };
                let packs = &mut directory.packs;
                let number = *numbers.entry(pack.name.clone()).or_insert_with(|| {
                    packs.push(pack);
                    packs.len() as u32 - 1
                });
                directory.files.push(StoredFile { name: file.name.clone(), pack: number, offset, len, hash });
            }
            let stored = store.put(directory.encode()?).await?;
            written_bytes += stored.len;
            if commit.publish(&located) {
                self.keep_copies(&prepared.cut.database().instance, &files, &located);
                let states = directory.states.iter().map(|stored| stored.meta.clone()).collect();
                return Ok(KeyedSnapshot { parts: directory.parts(stored), written_bytes, states });
            }
        }
    }

    /// Stores the packs that the store lacks; returns where all files are. After an error the files that were
    /// stored before it stay known.
    async fn upload(
        &self,
        files: &[CutFile],
        commit: &mut Commit<'_>,
        store: &dyn SegmentStore,
        written: &mut u64,
    ) -> Result<Uploaded> {
        let known = commit.known();
        let packs = plan(files, &known, self.environment.options.pack_bytes);
        let Known { files: mut located, .. } = known;
        let uploads = packs.into_iter().map(|files| async move {
            let mut bytes = Vec::with_capacity(files.iter().map(|file| file.len as usize).sum());
            let mut positions = Vec::with_capacity(files.len());
            for file in &files {
                let start = bytes.len();
                read(file, &mut bytes)?;
                positions.push((start as u64, xxh3_128(&bytes[start..])));
            }
            let pack = store.put(bytes).await?;
            Ok((files, positions, pack))
        });
        let mut uploads = futures::stream::iter(uploads).buffer_unordered(self.environment.options.transfers);
        let mut result = Ok(());
        while let Some(uploaded) = uploads.next().await {
            match uploaded {
                Ok((files, positions, pack)) => {
                    *written += pack.len;
                    for (file, (offset, hash)) in files.into_iter().zip(positions) {
                        let stored_for = commit.checkpoint();
                        let location =
                            Location { pack: pack.clone(), offset, len: file.len, hash, stored_for };
                        if located.get(&file.name).is_some_and(|known| known.hash != hash) {
                            result = Err(changed(&file.path));
                            continue;
                        }
                        commit.add(&file.name, &location);
                        located.insert(file.name, location);
                    }
                }
                Err(error) => result = result.and(Err::<(), Error>(error)),
            }
        }
        result?;
        let of_cut: HashSet<&String> = files.iter().map(|file| &file.name).collect();
        located.retain(|name, _| of_cut.contains(name));
        Ok(located)
    }

    /// Keeps local copies of the files of this snapshot and of the previous one.
    fn keep_copies(&self, instance: &Instance, files: &[CutFile], located: &Uploaded) {
        if !self.environment.options.local_copies {
            return;
        }
        let mut now = HashSet::with_capacity(files.len());
        for file in files {
            if let Some(location) = located.get(&file.name) {
                instance.home().keep_copy(location.hash, &file.path);
                now.insert(location.hash);
            }
        }
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let older = std::mem::replace(&mut *before, now.clone());
        now.extend(older);
        instance.home().need_copies(instance, now, false);
    }
}

#[async_trait]
impl SnapshotWriter for RocksSnapshotWriter {
    type Prepared = PreparedCut;

    async fn commit(&self, prepared: PreparedCut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        let stored = self.store(&prepared, store).await;
        stored.map_err(|error| self.scope.locate(error).with("checkpoint", prepared.checkpoint))
    }
}

/// Name and bytes of the manifest of a database.
type Manifest = (String, Vec<u8>);

/// The table files of a cut in the order of their names, and its manifest.
fn list(path: &Path) -> Result<(Vec<CutFile>, Manifest)> {
    let unreadable = |error| failed("the local snapshot cannot be read", path, error);
    let (mut files, mut manifest) = (Vec::new(), None);
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if name.ends_with(".sst") {
            let len = entry.metadata().map_err(unreadable)?.len();
            files.push(CutFile { name, path, len });
        } else if name.starts_with("MANIFEST-") {
            let bytes = std::fs::read(&path).map_err(unreadable)?;
            manifest = Some((name, bytes));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let manifest = manifest.ok_or_else(|| {
        Error::corrupt("the local snapshot of the database has no manifest").with("path", path.display())
    })?;
    Ok((files, manifest))
}

fn read(file: &CutFile, bytes: &mut Vec<u8>) -> Result<()> {
    let unreadable = |error| failed("a file of the local snapshot cannot be read", &file.path, error);
    let before = bytes.len();
    let mut source = std::fs::File::open(&file.path).map_err(unreadable)?;
    std::io::Read::read_to_end(&mut source, bytes).map_err(unreadable)?;
    if (bytes.len() - before) as u64 != file.len {
        return Err(changed(&file.path));
    }
    Ok(())
}

#[cold]
fn changed(path: &Path) -> Error {
    Error::corrupt("a file of the local snapshot is not as it was; restart the job from the last checkpoint")
        .with("path", path.display())
}
