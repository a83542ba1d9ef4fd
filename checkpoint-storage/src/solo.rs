//! Checkpoints for a program with one loop of its own: a consumer, an actor, a worker.

use std::num::NonZeroUsize;

use strandline_state_api::{
    BackendScope, CheckpointId, CheckpointedBackend, Error, OperatorStateStore, Progress, Result,
    SnapshotKind, SnapshotSource, SnapshotWriter,
};

use crate::{
    CommitLog, CommitLogOptions, Committed, Manifest, OperatorSnapshot, RecoverOptions, Recovery, Storage,
    SubtaskSnapshot,
};

/// Entries that are drained at once; between the steps of a loop that must not wait, drain fewer by hand.
const STEP: usize = 4096;

/// One backend, one loop, one storage: the whole of checkpointing in two calls.
///
/// It claims the storage (no older process can complete a checkpoint from then on), restores the newest checkpoint that
/// verifies, and takes checkpoints when told, keyed state and operator state (such as input positions) in one cut. A checkpoint
/// here waits until it is complete. A loop that must not wait drives [`SnapshotSource`] and [`CommitLog`] itself.
#[derive(Debug)]
pub struct SoloJob<B: SnapshotSource> {
    storage: Storage,
    scope: BackendScope,
    log: CommitLog,
    writer: B::Writer,
    next: CheckpointId,
    recovery: Recovery,
}

impl<B: CheckpointedBackend> SoloJob<B> {
    /// Claims `storage` and restores `backend`, whose states must be registered. Gives the job and its operator state.
    ///
    /// `scope` is the one that `backend` was made with. Two checkpoints are kept, so that a damaged one has a predecessor.
    ///
    /// # Errors
    /// Those of [`CommitLog::claim`], [`Storage::recover`] and
    /// [`RestoreSnapshot::restore`](strandline_state_api::RestoreSnapshot::restore);
    /// [`NotFound`](strandline_state_api::ErrorKind::NotFound) when the checkpoint has no such operator.
    pub async fn start(
        storage: &Storage,
        scope: BackendScope,
        backend: &mut B,
    ) -> Result<(Self, OperatorStateStore)> {
        let holder = format!("{} (process {})", scope.operator, std::process::id());
        let options = CommitLogOptions::new(holder).retain(NonZeroUsize::MIN.saturating_add(1));
        let claimed = CommitLog::claim(storage, options, CommitLog::random_tokens()).await?;
        let next = claimed.next_checkpoint();
        let recovery = storage.recover(RecoverOptions::default()).await?;
        let mut operator_state = OperatorStateStore::new();
        if let Some(restored) = &recovery.restored {
            let operator = restored.manifest.operator(&scope.operator).ok_or_else(|| {
                Error::new(
                    strandline_state_api::ErrorKind::NotFound,
                    "the checkpoint has no such operator; give it the id that it had, or another storage",
                )
                .with("operator", &scope.operator)
                .with("checkpoint", restored.manifest.checkpoint)
            })?;
            let keyed: Vec<_> =
                operator.subtasks.iter().map(|subtask| subtask.keyed.clip(scope.key_groups)).collect();
            backend.restore(&keyed, &storage.reader()).await?;
            let entries = operator.subtasks.iter().flat_map(|subtask| subtask.operator_state.clone());
            operator_state = OperatorStateStore::restored(entries.collect());
        }
        let writer = backend.take_writer()?;
        Ok((
            Self { storage: storage.clone(), scope, log: claimed.log, writer, next, recovery },
            operator_state,
        ))
    }

    /// What was restored, and what stood against it.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Takes a checkpoint of `backend` and `operator_state`, and sweeps what no checkpoint needs any more. When it returns, the
    /// checkpoint is durable: now acknowledge input, publish output.
    ///
    /// # Errors
    /// [`Fenced`](strandline_state_api::ErrorKind::Fenced) when another process claimed the storage: stop. After any other
    /// error the job may go on: what this checkpoint should have stored is part of the next.
    pub async fn checkpoint(
        &mut self,
        backend: &mut B,
        operator_state: &OperatorStateStore,
    ) -> Result<Committed> {
        let checkpoint = self.next;
        self.next = checkpoint.next();
        backend.prepare(checkpoint, SnapshotKind::Incremental)?;
        let prepared = loop {
            match backend.advance(STEP)? {
                Progress::Ready(of, prepared) if of == checkpoint => break prepared,
                Progress::Ready(_, prepared) => {
                    // Of a checkpoint that failed before this point; its changes belong to this one too.
                    let term = self.log.term();
                    self.writer.commit(prepared, &self.storage.segments(term, checkpoint)).await?;
                }
                Progress::More | Progress::Idle => {}
            }
        };
        let term = self.log.term();
        let keyed = self.writer.commit(prepared, &self.storage.segments(term, checkpoint)).await?;
        let mut subtask = SubtaskSnapshot::new(self.scope.subtask, self.scope.key_groups);
        subtask.keyed = keyed;
        subtask.operator_state = operator_state.snapshot()?;
        let mut manifest = Manifest::new(checkpoint, term, self.scope.operator.as_str());
        let id = self.scope.operator.clone();
        manifest.operators.push(OperatorSnapshot { id, parallelism: 1, subtasks: vec![subtask] });
        let committed = self.log.commit_alone(&manifest).await?;
        self.storage.sweep().await?;
        Ok(committed)
    }
}
