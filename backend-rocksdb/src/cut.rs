//! The cut of a snapshot: a copy of the database, of hard links, as it was at the barrier.
//!
//! What changed up to the barrier comes as an [`Increment`], which goes into the database first. From then until
//! the copy is made the database must not change; the [write-back table](crate::store) takes all changes meanwhile.
//! So the first to need it makes the copy: the snapshot writer, on its thread, or the processing thread when it has
//! to go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::database::Database;
use crate::directory::StoredState;
use crate::home::remove;
use crate::increment::Increment;

/// The increment is not in the database.
const OUTSIDE: u8 = 0;
/// It may be or not.
const ENTERING: u8 = 1;
/// The increment is in the database.
const INSIDE: u8 = 2;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct DatabaseCut {
    database: Arc<Database>,
    path: PathBuf,
    work: Mutex<Work>,
    /// Where the increment is.
    stage: AtomicU8,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Work {
    /// What has to go into the database.
    increment: Option<Increment>,
    /// The result of the copy, once it was made or abandoned: whether it may hold entries.
    made: Option<Result<bool, String>>,
}

impl DatabaseCut {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        let (path, stage) = (database.cut_path(), AtomicU8::new(OUTSIDE));
        Self { database, path, work: Mutex::default(), stage, over: AtomicBool::new(false) }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that changed up to the cut.
    pub(crate) fn hand_over(&self, increment: Increment) {
        self.work().increment = Some(increment);
    }

    /// Takes the increment into the database, unless it is there. After an error the next call tries again.
    pub(crate) fn ingest(&self) -> Result<()> {
        self.ingest_in(&mut self.work())
    }

    fn ingest_in(&self, work: &mut Work) -> Result<()> {
        if let Some(increment) = &mut work.increment {
            let files = increment.write(&self.database)?;
            if let Err(error) = files.ingest(|| self.stage.store(ENTERING, Ordering::SeqCst)) {
                self.stage.store(OUTSIDE, Ordering::SeqCst);
                return Err(error);
            }
            self.stage.store(INSIDE, Ordering::SeqCst);
            work.increment = None;
        }
        Ok(())
    }

    /// Returns whether the increment is in the database.
    #[inline]
    pub(crate) fn is_ingested(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == INSIDE
    }

    /// Reads the database without the increment. Returns `None` if that is inside, or entered meanwhile.
    pub(crate) fn read_before<R>(&self, read: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
        let is_outside = || self.stage.load(Ordering::SeqCst) == OUTSIDE;
        if !is_outside() {
            return Ok(None);
        }
        let value = read()?;
        Ok(Some(value).filter(|_| is_outside()))
    }

    /// Makes the copy, unless it was made or abandoned before; returns whether it may hold entries.
    pub(crate) fn make(&self) -> Result<bool> {
        let mut work = self.work();
        if work.made.is_none() {
            let made = self.ingest_in(&mut work).and_then(|()| {
                let entries = self.database.may_hold_entries();
                self.database.checkpoint(&self.path).map(|()| entries)
            });
            work.made = Some(made.map_err(|error| error.to_string()));
        }
        self.over.store(true, Ordering::Release);
        match &work.made {
            Some(Err(text)) => Err(Error::new(ErrorKind::Unavailable, text.clone())),
            Some(Ok(entries)) => Ok(*entries),
            None => Ok(true), // never: it is made
        }
    }

    /// Gives the copy up: the snapshot failed before it was prepared.
    pub(crate) fn give_up(&self) {
        self.work().made.get_or_insert_with(|| Err("the snapshot was abandoned".into()));
        self.over.store(true, Ordering::Release);
    }

    /// Deletes the copy, or prevents it. The increment goes into the database all the same, as the table has handed
    /// it over; where that fails, the table tries again.
    fn abandon(&self) {
        if let Err(error) = self.ingest() {
            tracing::warn!(%error, "the changes of an abandoned snapshot wait for the database");
        }
        self.give_up();
        remove(&self.path);
    }

    /// Whether the database may change again, once the increment is in it.
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
