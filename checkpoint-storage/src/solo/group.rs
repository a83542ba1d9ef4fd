//! Several loops over one storage, whose checkpoints complete together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_checkpoint_protocol::{
    AckOutcome, Action, CheckpointKind, CommitPermit, CommitResult, Coordinator, Millis, Policy, TaskId,
};
use strandline_state_api::backend::{BackendFactory, BackendScope, CheckpointedBackend};
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result, StateKey};

use super::options::LoopOptions;
use super::worker::Worker;
use super::writing::{Start, UnstoredSnapshot, WorkerSnapshot};
use crate::{
    CheckpointStart, CommitLog, CommitLogOptions, CommitOutcome, Committed, JobLayout, OperatorPart,
    Recovery, Storage,
};

/// Nothing in a group has a deadline, so its coordinator needs no clock.
const NOW: Millis = Millis(0);

/// Several loops over one storage, whose checkpoints complete together: each worker stores its own state, and
/// the group commits once all have.
///
/// The workers may run in any tasks and threads of this process. The group does not talk to them: the program
/// passes the number of a checkpoint from [`begin`](Self::begin) to every worker, in order with the records
/// that it passes, and hands the [snapshots](Worker::snapshot) to [`add`](Self::add). See
/// `examples/workers.rs`.
#[derive(Debug)]
pub struct WorkerGroup {
    layout: JobLayout,
    start: Start,
    log: CommitLog,
    recovery: Recovery,
    coordinator: Coordinator<Vec<OperatorPart>>,
    begun: CheckpointStart,
}

/// The role of a worker of a [`WorkerGroup`].
#[derive(Debug)]
pub struct Member {
    start: Start,
}

impl WorkerGroup {
    /// Claims `storage` (from then on no older process can complete a checkpoint) and chooses the newest
    /// checkpoint that verifies. `operators` are all operators of the job, each with its number of workers.
    ///
    /// # Errors
    /// Those of [`Storage::belong_to`], [`CommitLog::claim`] and [`Storage::recover`];
    /// [`Incompatible`](ErrorKind::Incompatible) when the checkpoint has an operator that is missing here.
    pub async fn claim(job: &str, storage: &Storage, operators: &[(&str, u32)]) -> Result<Self> {
        Self::claim_with(job, storage, operators, LoopOptions::default()).await
    }

    /// Claims `storage`, with options.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_with(
        job: &str,
        storage: &Storage,
        operators: &[(&str, u32)],
        options: LoopOptions,
    ) -> Result<Self> {
        let mut checked = Vec::new();
        for (id, parallelism) in operators {
            let id = OperatorId::new(id)?;
            if *parallelism == 0 || checked.iter().any(|(known, _)| *known == id) {
                let message = "an operator of a group has one entry and at least one worker";
                return Err(Error::invalid(message).with("operator", id));
            }
            checked.push((id, *parallelism));
        }
        storage.belong_to(job, options.adopted(job)).await?;
        let holder = format!("{job} (process {})", std::process::id());
        let log = CommitLogOptions::new(holder).retain(options.retain);
        let claimed = CommitLog::claim(storage, log, CommitLog::random_tokens()).await?;
        let next = claimed.next_checkpoint();
        let recovery = storage.recover(options.recover).await?;
        let manifest = recovery.restored.as_ref().map(|restored| Arc::new(restored.manifest.clone()));
        if let Some(manifest) = &manifest {
            let ids: Vec<_> = checked.iter().map(|(id, _)| id.clone()).collect();
            let checked = options.check_operators(manifest, &ids);
            checked.map_err(|error| error.with("checkpoint", manifest.checkpoint))?;
        }
        let start = Start { storage: storage.clone(), term: claimed.log.term(), manifest, options };
        let policy = Policy { timeout: Duration::MAX, tolerable_failures: u32::MAX, ..Policy::default() };
        let restored_from = start.manifest.as_ref().map(|manifest| manifest.checkpoint);
        let layout = JobLayout { job: job.to_owned(), term: start.term, restored_from, operators: checked };
        Ok(Self {
            layout,
            start,
            log: claimed.log,
            recovery,
            coordinator: Coordinator::new(policy, next),
            begun: CheckpointStart::now(storage),
        })
    }

    /// Makes the worker `subtask` of an operator, with an empty backend. It restores its part itself,
    /// wherever it runs.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) when the group has no such worker; those of the factory.
    pub fn worker<F, K, B>(&self, operator: &str, subtask: u32, factory: &F) -> Result<Worker<B>>
    where
        F: BackendFactory<Backend<K> = B>,
        K: StateKey,
        B: CheckpointedBackend,
    {
        let known = self
            .layout
            .operators
            .iter()
            .find(|(id, parallelism)| id.as_str() == operator && subtask < *parallelism);
        let Some((id, parallelism)) = known else {
            let error = Error::invalid("the group has no such worker");
            return Err(error.with("operator", operator).with("subtask", subtask));
        };
        let scope = BackendScope::new(id.clone(), subtask, *parallelism);
        Worker::new::<F, K>(factory, scope, Member { start: self.start.clone() })
    }

    /// The choice of the checkpoint that the workers restore, and what stood against newer ones.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Begins a checkpoint and returns its number, for all workers. The group gives up one that is under way.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced) after another process has claimed the storage.
    pub fn begin(&mut self) -> Result<CheckpointId> {
        if let Some(interrupted) = self.coordinator.commit_in_flight() {
            // The future of its last `add` was dropped. The commit log finds out what became of it.
            self.coordinator.commit_result(NOW, interrupted, CommitResult::Unknown);
        }
        self.coordinator.suspend(NOW);
        self.begun = CheckpointStart::now(&self.start.storage);
        let workers = (0..).zip(&self.layout.operators);
        let tasks =
            workers.flat_map(|(vertex, (_, n))| (0..*n).map(move |subtask| TaskId::new(vertex, subtask)));
        self.coordinator.start(NOW, tasks);
        let (_, actions) = self.coordinator.request(NOW, CheckpointKind::Api);
        let triggered = actions.into_iter().find_map(|action| match action {
            Action::Trigger { checkpoint, .. } => Some(checkpoint),
            _ => None,
        });
        triggered.ok_or_else(|| {
            Error::new(ErrorKind::Fenced, "a newer process has claimed the storage")
                .with("job", &self.layout.job)
        })
    }

    /// Takes the snapshot of one worker. With the last one the checkpoint completes: it is durable, and is
    /// returned. Now acknowledge input, publish output.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a snapshot of another checkpoint than the one under way, or of a
    /// worker that handed in one before; [`Fenced`](ErrorKind::Fenced) when another process claimed the
    /// storage: stop. After any other error the job may go on with the next checkpoint.
    pub async fn add(&mut self, snapshot: WorkerSnapshot) -> Result<Option<Committed>> {
        let WorkerSnapshot { checkpoint, operator, snapshot } = snapshot;
        let subtask = snapshot.subtask;
        let vertex =
            (0..).zip(&self.layout.operators).find(|(_, (id, _))| *id == operator).map(|(vertex, _)| vertex);
        let task = TaskId::new(vertex.unwrap_or(u32::MAX), subtask);
        let part = OperatorPart { operator: operator.clone(), snapshot };
        let (outcome, actions) = self.coordinator.ack(NOW, task, checkpoint, vec![part]);
        if !matches!(outcome, AckOutcome::Accepted { .. } | AckOutcome::Completed) {
            return Err(Error::invalid("the group does not wait for this snapshot")
                .with("operator", operator)
                .with("subtask", subtask)
                .with("checkpoint", checkpoint));
        }
        let permit = actions.into_iter().find_map(|action| match action {
            Action::Commit(permit) => Some(permit),
            _ => None,
        });
        match permit {
            Some(permit) => self.commit(permit).await.map(Some),
            None => Ok(None),
        }
    }

    async fn commit(&mut self, permit: CommitPermit<Vec<OperatorPart>>) -> Result<Committed> {
        let last = Instant::now();
        let (right, parts) = permit.into_parts();
        let checkpoint = parts.checkpoint;
        let outcome = match self.layout.manifest(parts, &self.begun, last) {
            Ok(manifest) => self.log.commit(&right, &manifest).await,
            Err(error) => CommitOutcome::Failed(error),
        };
        self.coordinator.commit_result(NOW, checkpoint, outcome.result());
        let committed = outcome.into_result()?;
        self.start.storage.sweep().await?;
        Ok(committed)
    }

    pub(super) fn start(&self) -> Start {
        self.start.clone()
    }
}

/// A member of a group.
impl<B: CheckpointedBackend> Worker<B> {
    /// Restores this worker's part of the checkpoint that its group chose; nothing can be registered
    /// afterwards.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when the checkpoint has a state that is not registered here,
    /// unless [allowed](LoopOptions::allow_orphan), or one that cannot be read; those of
    /// [`RestoreSnapshot::restore`](strandline_state_api::backend::RestoreSnapshot::restore).
    pub async fn restore(&mut self) -> Result<()> {
        let start = self.role.start.clone();
        self.start(start).await
    }

    /// Stores the state as it is now, for `checkpoint`; hand the result to [`WorkerGroup::add`].
    ///
    /// After an error, or when the future is dropped, the worker may go on: its next snapshot
    /// holds what this one should have stored.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) before the restore, and when `checkpoint` is not above the one before;
    /// those of the store.
    pub async fn snapshot(&mut self, checkpoint: CheckpointId) -> Result<WorkerSnapshot> {
        self.take_snapshot(checkpoint)?.store().await
    }

    /// Takes the state as it is now, for `checkpoint`, without storing it: for a worker that goes on while
    /// [`UnstoredSnapshot::store`] runs in another task, and that takes the next snapshot even while the
    /// upload of this one hangs.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) before the restore, and when `checkpoint` is not above the one before.
    pub fn prepare(&mut self, checkpoint: CheckpointId) -> Result<UnstoredSnapshot<B::Writer>> {
        self.take_snapshot(checkpoint)
    }
}
