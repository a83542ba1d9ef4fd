//! Checkpoints for programs with loops of their own: a consumer, an actor, workers.

mod group;
mod options;
mod time;
mod worker;
mod writing;

pub use group::{Member, WorkerGroup};
pub use options::LoopOptions;
use strandline_state_api::backend::{BackendFactory, BackendScope, CheckpointedBackend};
use strandline_state_api::{Error, Result, StateKey};
pub use worker::Worker;
pub use writing::{UnstoredSnapshot, WorkerSnapshot};

use crate::{Committed, Recovery, Storage};

/// One loop, one backend, one storage: a whole job.
///
/// [`register`](Worker::register) its states, [`restore`](Worker::restore), then work on keys with
/// [`at`](Worker::at) and on operator lists with [`list_mut`](Worker::list_mut). A
/// [`checkpoint`](Worker::checkpoint) holds all of it in one cut, and returns when it is complete. A loop
/// that must not wait drives [`SnapshotSource`](strandline_state_api::backend::SnapshotSource) and
/// [`CommitLog`](crate::CommitLog) itself.
///
/// Keyed state that expires by processing time, and timers in it, go by the system clock, unless the loop
/// [sets the time](Worker::set_time) itself.
pub type SoloJob<B> = Worker<B, Alone>;

/// The role of a loop that is a job of its own.
#[derive(Debug)]
pub struct Alone {
    storage: Storage,
    options: LoopOptions,
    /// `None` before the restore.
    group: Option<WorkerGroup>,
}

/// A job of its own.
impl<B: CheckpointedBackend> Worker<B, Alone> {
    /// Makes a job of this name, with an empty backend of `factory`. Reads nothing yet.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when `name` is no
    /// [`OperatorId`](strandline_state_api::OperatorId); those of the factory.
    pub fn open<F, K>(name: &str, factory: F, storage: &Storage) -> Result<Self>
    where
        F: BackendFactory<Backend<K> = B>,
        K: StateKey,
    {
        Self::open_with::<F, K>(name, factory, storage, LoopOptions::default())
    }

    /// Makes a job with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[allow(clippy::needless_pass_by_value, reason = "a factory is a small value that a call makes in place")]
    pub fn open_with<F, K>(name: &str, factory: F, storage: &Storage, options: LoopOptions) -> Result<Self>
    where
        F: BackendFactory<Backend<K> = B>,
        K: StateKey,
    {
        let role = Alone { storage: storage.clone(), options, group: None };
        Worker::new::<F, K>(&factory, BackendScope::whole(name)?, role)
    }

    /// Claims the storage (from then on no older process can complete a checkpoint) and restores the newest
    /// checkpoint that verifies, if there is one; nothing can be registered afterwards. Returns what was
    /// chosen and what stood against newer checkpoints.
    ///
    /// # Errors
    /// Those of [`WorkerGroup::claim`]; [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when
    /// the checkpoint has a state that is not registered, unless [allowed](LoopOptions::allow_orphan), or one
    /// that cannot be read; those of
    /// [`RestoreSnapshot::restore`](strandline_state_api::backend::RestoreSnapshot::restore).
    pub async fn restore(&mut self) -> Result<&Recovery> {
        if self.running.is_some() {
            return Err(self.locate(Error::invalid("the job is restored already")));
        }
        let name = self.scope().operator.clone();
        let Alone { storage, options, .. } = &self.role;
        let (storage, options) = (storage.clone(), options.clone());
        let group = WorkerGroup::claim_with(name.as_str(), &storage, &[(name.as_str(), 1)], options).await?;
        self.start(group.start()).await?;
        Ok(self.role.group.insert(group).recovery())
    }

    /// Takes a checkpoint of all state, and sweeps what no checkpoint needs any more. When it returns, the
    /// checkpoint is durable: now acknowledge input, publish output.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) before the restore;
    /// [`Fenced`](strandline_state_api::ErrorKind::Fenced) when another process claimed the storage: stop.
    /// After any other error, or when the future is dropped, the job may go on: the next checkpoint holds
    /// what this one should have stored.
    pub async fn checkpoint(&mut self) -> Result<Committed> {
        let Some(group) = &mut self.role.group else {
            return Err(self.locate(Error::invalid("a checkpoint before the restore: restore first")));
        };
        let checkpoint = group.begin()?;
        let snapshot = self.take_snapshot(checkpoint)?.store().await?;
        let Some(group) = &mut self.role.group else {
            return Err(Error::invalid("a checkpoint before the restore: restore first"));
        };
        let committed = group.add(snapshot).await?;
        committed.ok_or_else(|| Error::invalid("the checkpoint of a job of one loop waits for nobody else"))
    }
}
