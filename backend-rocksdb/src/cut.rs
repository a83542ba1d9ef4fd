//! The cut of a snapshot: a copy of the database, of hard links, as it was at the barrier.
//!
//! Between the barrier and the copy the database must stay as it is; the [write-back table](crate::store) takes all changes
//! meanwhile. So the copy is made by whoever comes first: the writer of snapshots, on its thread, or the processing thread
//! when it has to go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strandline_state_api::{CheckpointId, Error, ErrorKind, Result, SnapshotKind, Trimming};

use crate::database::Database;
use crate::directory::StoredState;
use crate::home::remove;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Cut {
    database: Arc<Database>,
    path: PathBuf,
    made: Mutex<Option<Result<(), String>>>,
    over: AtomicBool,
}

impl Cut {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        let path = database.cut_path();
        Self { database, path, made: Mutex::new(None), over: AtomicBool::new(false) }
    }

    /// Makes the copy, unless that was done or given up.
    pub(crate) fn make(&self) -> Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let result =
            made.get_or_insert_with(|| self.database.checkpoint(&self.path).map_err(|e| e.to_string()));
        self.over.store(true, Ordering::Release);
        result.clone().map_err(|text| Error::new(ErrorKind::Unavailable, text))
    }

    /// Nobody wants the copy any more.
    fn give_up(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_with(|| Err("the snapshot was given up".into()));
        self.over.store(true, Ordering::Release);
        drop(made);
        remove(&self.path);
    }

    /// Whether the database may be changed again.
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

/// What the first phase of a snapshot hands to the second. Dropped without a commit, it gives the snapshot up.
#[derive(Debug)]
pub struct PreparedCut {
    pub(crate) cut: Arc<Cut>,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) kind: SnapshotKind,
    /// The states at the barrier, by name.
    pub(crate) states: Vec<StoredState>,
    /// What a full snapshot leaves out.
    pub(crate) trimming: Trimming,
}

impl Drop for PreparedCut {
    fn drop(&mut self) {
        self.cut.give_up();
    }
}
