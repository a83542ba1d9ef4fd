//! The cut of a snapshot: a copy of the database, of hard links, as it was at the barrier.
//!
//! Between the barrier and the copy the database must not change; the [write-back table](crate::store) takes
//! all changes meanwhile. So the first to need it makes the copy: the snapshot writer, on its thread, or the
//! processing thread when it has to go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::database::Database;
use crate::directory::StoredState;
use crate::home::remove;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct DatabaseCut {
    database: Arc<Database>,
    path: PathBuf,
    /// The result of the copy, once it was made or abandoned: whether it may hold entries.
    made: Mutex<Option<Result<bool, String>>>,
    over: AtomicBool,
}

impl DatabaseCut {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        let path = database.cut_path();
        Self { database, path, made: Mutex::new(None), over: AtomicBool::new(false) }
    }

    /// Makes the copy, unless it was made or abandoned before; returns whether it may hold entries.
    pub(crate) fn make(&self) -> Result<bool> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let result = made.get_or_insert_with(|| {
            let entries = self.database.may_hold_entries();
            self.database.checkpoint(&self.path).map(|()| entries).map_err(|e| e.to_string())
        });
        self.over.store(true, Ordering::Release);
        result.clone().map_err(|text| Error::new(ErrorKind::Unavailable, text))
    }

    /// Deletes the copy, or prevents it.
    fn abandon(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_with(|| Err("the snapshot was abandoned".into()));
        self.over.store(true, Ordering::Release);
        drop(made);
        remove(&self.path);
    }

    /// Whether the database may change again.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }
}

/// What the first phase of a snapshot hands to the second. A drop without a commit abandons the snapshot.
#[derive(Debug)]
pub struct PreparedCut {
    pub(crate) cut: Arc<DatabaseCut>,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) kind: SnapshotKind,
    /// The states at the barrier, by name.
    pub(crate) states: Vec<StoredState>,
    /// What a full snapshot leaves out.
    pub(crate) filter: ExpiryFilter,
}

impl Drop for PreparedCut {
    fn drop(&mut self) {
        self.cut.abandon();
    }
}
