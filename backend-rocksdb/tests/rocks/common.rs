//! A backend with one value state, and its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use strandline_backend_rocksdb::{
    PreparedCut, RocksBackend, RocksBackendFactory, RocksOptions, RocksSnapshotWriter,
};
use strandline_conformance::FaultySegments;
use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, Progress, RestoreSnapshot, Restored, SnapshotKind,
    SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroupRange, OperatorId, Result, ValueDescriptor, ValueState};

/// How many rounds of a randomised test: `base`, times `STRANDLINE_CASES` where that is set.
pub(crate) fn cases(base: u64) -> u64 {
    base * std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Options for `directory` with little memory.
pub(crate) fn options(directory: &Path) -> RocksOptions {
    let mut options = RocksOptions::default();
    options.directory = Some(directory.to_path_buf());
    options.memory = 16 << 20;
    options.file_bytes = 256 << 10;
    options.pack_bytes = 1 << 20;
    options
}

pub(crate) struct Counters {
    pub(crate) backend: RocksBackend<u64>,
    pub(crate) writer: RocksSnapshotWriter,
    pub(crate) state: ValueState<u64>,
    pub(crate) store: Arc<FaultySegments>,
    pub(crate) last: CheckpointId,
}

pub(crate) fn scope(range: KeyGroupRange) -> BackendScope {
    BackendScope { key_groups: range, ..BackendScope::new(OperatorId::new("count").unwrap(), 0, 1) }
}

impl Counters {
    pub(crate) fn new(factory: &RocksBackendFactory) -> Self {
        Self::restored(factory, KeyGroupRange::ALL, Arc::default(), &[], CheckpointId(0)).unwrap().0
    }

    pub(crate) fn restored(
        factory: &RocksBackendFactory,
        range: KeyGroupRange,
        store: Arc<FaultySegments>,
        snapshots: &[KeyedSnapshot],
        last: CheckpointId,
    ) -> Result<(Self, Restored)> {
        let mut backend = factory.create::<u64>(scope(range))?;
        let state = backend.register(&ValueDescriptor::<u64>::new("counts"))?;
        let restored = block_on(backend.restore(snapshots, store.as_ref()))?;
        let writer = backend.take_writer()?;
        Ok((Self { backend, writer, state, store, last }, restored))
    }

    pub(crate) fn put(&mut self, key: u64, value: u64) -> Result<()> {
        self.backend.at(&key).state(self.state).put(value)
    }

    pub(crate) fn get(&mut self, key: u64) -> Result<Option<u64>> {
        Ok(self.backend.at(&key).state(self.state).get()?.copied())
    }

    pub(crate) fn prepare(&mut self, kind: SnapshotKind) -> Result<PreparedCut> {
        self.last = self.last.next();
        self.backend.prepare(self.last, kind)?;
        loop {
            match self.backend.advance(1 << 12)? {
                Progress::Ready(_, prepared) => return Ok(prepared),
                Progress::More => {}
                Progress::Idle => panic!("the snapshot is lost"),
            }
        }
    }

    pub(crate) fn commit(&mut self, prepared: PreparedCut) -> Result<KeyedSnapshot> {
        block_on(self.writer.commit(prepared, self.store.as_ref()))
    }

    pub(crate) fn snapshot(&mut self) -> Result<KeyedSnapshot> {
        let prepared = self.prepare(SnapshotKind::Incremental)?;
        self.store.write_for(1, self.last);
        self.commit(prepared)
    }
}

/// Files below `directory` that end with `suffix`.
pub(crate) fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}
