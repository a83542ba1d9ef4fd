//! Snapshots that consist of files of RocksDB.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures::lock::Mutex;
use strandline_backend_rocksdb::{NativeSnapshot, RocksBackendFactory, RocksOptions};
use strandline_snapshot_format::EntryRef;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentName, SegmentStore};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};
use tempfile::TempDir;

/// Bytes of memory for the caches of RocksDB.
const MEMORY: usize = 32 << 20;
/// The native snapshots of a checkpoint that were opened, and the directory that their files are in.
#[derive(Default)]
pub(crate) struct Natives(Mutex<Option<Opened>>);

struct Opened {
    // Fields drop in this order: databases close before their directory is deleted.
    snapshots: HashMap<SegmentName, Option<Arc<NativeSnapshot>>>,
    factory: RocksBackendFactory,
    _directory: TempDir,
}

impl Opened {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|e| {
            let message = "there is no temporary directory for the files of a RocksDB checkpoint";
            Error::new(ErrorKind::Unavailable, message).caused_by(e)
        })?;
        let mut options = RocksOptions::default();
        options.directory = Some(directory.path().to_path_buf());
        options.memory = MEMORY;
        (options.local_copies, options.statistics) = (false, false);
        let factory = RocksBackendFactory::new(options)?;
        Ok(Self { snapshots: HashMap::new(), factory, _directory: directory })
    }
}

impl Natives {
    /// Opens the snapshot of a subtask, or returns it if it is open already.
    pub(crate) async fn open(
        &self,
        snapshot: &KeyedSnapshot,
        store: &dyn SegmentStore,
    ) -> Result<Option<Arc<NativeSnapshot>>> {
        let Some(directory) = snapshot.parts.last() else { return Ok(None) };
        let mut opened = self.0.lock().await;
        let opened = match &mut *opened {
            Some(opened) => opened,
            none => none.insert(Opened::new()?),
        };
        if let Some(known) = opened.snapshots.get(&directory.segment.name) {
            return Ok(known.clone());
        }
        let native = NativeSnapshot::open(&opened.factory, snapshot, store).await?.map(Arc::new);
        opened.snapshots.insert(directory.segment.name.clone(), native.clone());
        Ok(native)
    }
}

/// The entries of one state in some key groups.
pub(crate) struct NativeEntries {
    snapshot: Arc<NativeSnapshot>,
    /// The state, alone.
    states: Vec<StateMeta>,
    range: KeyGroupRange,
    /// Where the next walk starts.
    from: Option<Vec<u8>>,
}

impl NativeEntries {
    pub(crate) fn new(snapshot: Arc<NativeSnapshot>, state: &str, range: KeyGroupRange) -> Self {
        let states = snapshot.states().filter(|meta| meta.name == state).cloned().collect();
        Self { snapshot, states, range, from: None }
    }

    pub(crate) fn states(&self) -> &[StateMeta] {
        &self.states
    }

    /// Lends the next entries to `take` until it breaks off; returns whether more may follow.
    pub(crate) fn read(
        &mut self,
        mut take: impl FnMut(EntryRef<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<bool> {
        let Some(state) = self.states.first() else { return Ok(false) };
        self.from = self.snapshot.walk(&state.name, self.range, self.from.as_deref(), |entry| {
            take(entry).map(|flow| flow.is_continue())
        })?;
        Ok(self.from.is_some())
    }
}
