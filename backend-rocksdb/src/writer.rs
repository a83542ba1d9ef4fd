//! The second phase of a snapshot: the upload of those files of the cut that the store lacks.
//!
//! A file of the database never changes, and its number is never used again. So a file that was stored for an
//! earlier increment (committed, aborted or failed) is not stored again; and a file that a later increment
//! does not have, no increment after it has. A sweep relies on just that. A full snapshot names no such file,
//! so the next increment stores all of them. (Flink: `RocksIncrementalSnapshotStrategy`, which needs notice
//! of each committed checkpoint.)

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::StreamExt;
use strandline_state_api::backend::{BackendScope, SnapshotKind, SnapshotWriter};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef, SegmentStore};
use strandline_state_api::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::cut::PreparedCut;
use crate::database::Environment;
use crate::directory::{Directory, StoredFile};
use crate::home::{Instance, failed};
use crate::portable::write_portable;

/// Where a file of the database is stored.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) pack: SegmentRef,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) hash: u128,
}

/// The files that are stored, by their names in the database.
pub(crate) type Uploaded = HashMap<String, Location>;

/// Stores the snapshots of one backend.
#[derive(Debug)]
pub struct RocksSnapshotWriter {
    scope: BackendScope,
    environment: Environment,
    uploaded: Uploaded,
    /// Hashes of the files of the previous snapshot, which a restore may still need.
    before: HashSet<u128>,
}

/// A file of a cut.
#[derive(Clone, Debug)]
struct CutFile {
    name: String,
    path: PathBuf,
    len: u64,
}

impl RocksSnapshotWriter {
    pub(crate) fn new(scope: BackendScope, environment: Environment, uploaded: Uploaded) -> Self {
        let before = uploaded.values().map(|location| location.hash).collect();
        Self { scope, environment, uploaded, before }
    }

    async fn store(&mut self, prepared: &PreparedCut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        // A subtask without key groups has no state.
        if self.scope.key_groups.is_empty() {
            return Ok(KeyedSnapshot::default());
        }
        prepared.cut.make()?;
        match prepared.kind {
            SnapshotKind::Full => {
                // Once this checkpoint is complete, a sweep may delete what it does not name.
                self.uploaded.clear();
                write_portable(&self.scope, &self.environment, prepared, store).await
            }
            SnapshotKind::Incremental => self.store_files(prepared, store).await,
        }
    }

    async fn store_files(
        &mut self,
        prepared: &PreparedCut,
        store: &dyn SegmentStore,
    ) -> Result<KeyedSnapshot> {
        let path = prepared.cut.path();
        let (files, manifest) = list(path)?;
        let mut written_bytes = self.upload(&files, store).await?;
        let mut directory = Directory {
            key_groups: self.scope.key_groups,
            states: prepared.states.clone(),
            packs: Vec::new(),
            files: Vec::with_capacity(files.len()),
            manifest,
        };
        let mut numbers = HashMap::new();
        for file in &files {
            let Some(location) = self.uploaded.get(&file.name) else {
                return Err(Error::new(ErrorKind::Internal, "a file of the snapshot was not stored")
                    .with("file", file.path.display()));
            };
            let Location { pack, offset, len, hash } = location.clone();
            let packs = &mut directory.packs;
            let number = *numbers.entry(pack.name.clone()).or_insert_with(|| {
                packs.push(pack);
                packs.len() as u32 - 1
            });
            directory.files.push(StoredFile { name: file.name.clone(), pack: number, offset, len, hash });
        }
        let stored = store.put(directory.encode()?).await?;
        written_bytes += stored.len;
        self.keep_copies(&prepared.cut.database().instance, &files);
        let kept: HashSet<&String> = files.iter().map(|file| &file.name).collect();
        self.uploaded.retain(|name, _| kept.contains(name));
        let states = directory.states.iter().map(|stored| stored.meta.clone()).collect();
        Ok(KeyedSnapshot { parts: directory.parts(stored), written_bytes, states })
    }

    /// Stores the files that are not stored, small ones together; returns the number of bytes. After an error
    /// the files that were stored before it stay known.
    async fn upload(&mut self, files: &[CutFile], store: &dyn SegmentStore) -> Result<u64> {
        let missing = files.iter().filter(|file| !self.uploaded.contains_key(&file.name));
        let packs = pack(missing.cloned(), self.environment.options.pack_bytes);
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
        let (mut written, mut result) = (0, Ok(()));
        while let Some(uploaded) = uploads.next().await {
            match uploaded {
                Ok((files, positions, pack)) => {
                    written += pack.len;
                    for (file, (offset, hash)) in files.into_iter().zip(positions) {
                        let location = Location { pack: pack.clone(), offset, len: file.len, hash };
                        self.uploaded.insert(file.name, location);
                    }
                }
                Err(error) => result = result.and(Err::<(), Error>(error)),
            }
        }
        result.map(|()| written)
    }

    /// Keeps local copies of the files of this snapshot and of the previous one.
    fn keep_copies(&mut self, instance: &Instance, files: &[CutFile]) {
        if !self.environment.options.local_copies {
            return;
        }
        let mut now = HashSet::with_capacity(files.len());
        for file in files {
            if let Some(location) = self.uploaded.get(&file.name) {
                instance.home().keep_copy(location.hash, &file.path);
                now.insert(location.hash);
            }
        }
        let before = std::mem::replace(&mut self.before, now.clone());
        now.extend(before);
        instance.home().need_copies(instance, now, false);
    }
}

#[async_trait]
impl SnapshotWriter for RocksSnapshotWriter {
    type Prepared = PreparedCut;

    async fn commit(&mut self, prepared: PreparedCut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
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

/// Puts files together until `bytes` are reached.
fn pack(files: impl Iterator<Item = CutFile>, bytes: u64) -> Vec<Vec<CutFile>> {
    let mut packs: Vec<Vec<CutFile>> = Vec::new();
    let mut room = 0;
    for file in files {
        match packs.last_mut() {
            Some(last) if file.len <= room => {
                room -= file.len;
                last.push(file);
            }
            _ => {
                room = bytes.saturating_sub(file.len);
                packs.push(vec![file]);
            }
        }
    }
    packs
}

fn read(file: &CutFile, bytes: &mut Vec<u8>) -> Result<()> {
    let unreadable = |error| failed("a file of the local snapshot cannot be read", &file.path, error);
    let before = bytes.len();
    let mut source = std::fs::File::open(&file.path).map_err(unreadable)?;
    std::io::Read::read_to_end(&mut source, bytes).map_err(unreadable)?;
    if (bytes.len() - before) as u64 != file.len {
        return Err(Error::corrupt("a file of the local snapshot changed while it was read")
            .with("path", file.path.display()));
    }
    Ok(())
}
