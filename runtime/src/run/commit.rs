//! From a permit to a manifest in the commit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_protocol::{CheckpointKind, CommitParts, CommitPermit, CommitResult, CommitRight};
use strandline_checkpoint_storage::{
    CheckpointTrace, CommitLog, Manifest, OperatorSnapshot, Storage, SubtaskSnapshot,
};
use strandline_state_api::backend::{Scope, Statistic};
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::outputs::OutputSweeper;
use super::recovery::Claim;
use crate::barrier::OperatorPart;
use crate::metrics::micros;
use crate::pipeline::graph::Job;
use crate::report::CheckpointReport;
use crate::sync::guarded;

/// What a task acknowledges a checkpoint with.
pub(super) type Parts = Vec<OperatorPart>;

/// The side of the coordinator that writes. Its answers come over a channel.
pub(super) struct Committer {
    job: String,
    /// The operators in the order of the manifest.
    operators: Vec<OperatorId>,
    parallelism: u32,
    term: u64,
    pub(super) restored_from: Option<CheckpointId>,
    /// `None` without checkpoints: then a commit is nothing more than the permit.
    log: Option<Arc<Mutex<CommitLog>>>,
    pub(super) storage: Option<Storage>,
    outputs: OutputSweeper,
    done: Sender<CommitDone>,
    pub(super) results: Receiver<CommitDone>,
}

/// How a commit went.
#[derive(Debug)]
pub(super) struct CommitDone {
    pub(super) checkpoint: CheckpointId,
    pub(super) result: CommitResult,
    pub(super) error: Option<Error>,
    /// Whether what it leaves behind is gone from the output; if not, no sink may commit.
    pub(super) outputs: Result<()>,
    pub(super) report: CheckpointReport,
    /// Every subtask of every operator had ended.
    pub(super) all_finished: bool,
}

/// Sends how a commit went when it is dropped, even where it never began or panicked: the driver waits for it,
/// also while it settles.
struct Answer {
    done: Option<CommitDone>,
    sender: Sender<CommitDone>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            let _ = self.sender.send(done);
        }
    }
}

/// When a checkpoint was triggered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Triggered {
    pub(super) at: Instant,
    pub(super) wall: SystemTime,
    pub(super) kind: CheckpointKind,
    /// What [`Committer::retries`] was then.
    pub(super) retries: u64,
}

impl Committer {
    pub(super) fn new(
        job: &Job,
        parallelism: u32,
        term: u64,
        restored_from: Option<CheckpointId>,
        claim: Option<Claim>,
    ) -> Self {
        let (done, results) = unbounded();
        let (log, storage) = match claim {
            Some(claim) => (Some(Arc::new(Mutex::new(claim.log))), Some(claim.storage)),
            None => (None, None),
        };
        let operators = job.ids.iter().cloned().collect();
        let outputs = OutputSweeper::new(job, term, restored_from);
        Self {
            job: job.name.clone(),
            operators,
            parallelism,
            term,
            restored_from,
            log,
            storage,
            outputs,
            done,
            results,
        }
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    /// How many operations on the storage were retried.
    pub(super) fn retries(&self) -> u64 {
        self.storage.as_ref().map_or(0, Storage::retries)
    }

    /// Writes the manifest and claims the slot of the log, elsewhere. Exactly one [`CommitDone`] follows.
    pub(super) fn commit(&self, permit: CommitPermit<Parts>, triggered: Triggered, runtime: &Handle) {
        let start = Instant::now();
        let (right, parts) = permit.into_parts();
        let pause_of = |parts: &Parts| parts.iter().map(|part| part.snapshot.trace.pause_us).sum();
        let pause = parts.acks.values().map(pause_of).max().unwrap_or(0);
        let statistics = statistics(parts.acks.values().flatten());
        let manifest = self.manifest(parts, triggered, start);
        let report = report(&manifest, triggered, pause, statistics);
        let mut subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
        let all_finished = subtasks.all(|subtask| subtask.finished);
        let log = self.log.clone();
        let checkpoint = report.checkpoint;
        let unanswered = "the store panicked during a commit, or the runtime was shut down";
        let unanswered = Error::new(ErrorKind::Unavailable, unanswered);
        let (result, error) = (CommitResult::Unknown, Some(unanswered));
        let done = Some(CommitDone { checkpoint, result, error, outputs: Ok(()), report, all_finished });
        let mut answer = Answer { done, sender: self.done.clone() };
        let logged = log.is_some();
        let (outputs, kind) = (self.outputs.clone(), triggered.kind);
        // As a task, not on a thread for blocking: a store on a local disk needs those, and there may be but one.
        runtime.spawn(async move {
            let (result, error) = match log {
                // One at a time, as the coordinator hands out one permit at a time: nobody ever waits for it.
                Some(log) => write(&mut *log.lock().await, &right, manifest).await,
                None => (CommitResult::Committed, None),
            };
            let is_durable = result == CommitResult::Committed && logged;
            let outputs = if is_durable && outputs.is_due(kind) { sweep(outputs).await } else { Ok(()) };
            if let Some(done) = &mut answer.done {
                (done.result, done.error, done.outputs) = (result, error, outputs);
                done.report.commit = start.elapsed();
                done.report.duration = triggered.at.elapsed();
            }
        });
    }

    fn manifest(&self, parts: CommitParts<Parts>, triggered: Triggered, start: Instant) -> Manifest {
        let checkpoint = parts.checkpoint;
        let mut by_operator: BTreeMap<OperatorId, Vec<SubtaskSnapshot>> = BTreeMap::new();
        for OperatorPart { operator, snapshot: mut subtask, .. } in parts.acks.into_values().flatten() {
            subtask.trace.objects = subtask.written_objects(self.term, checkpoint);
            by_operator.entry(operator).or_default().push(subtask);
        }
        let operators: Vec<_> = self
            .operators
            .iter()
            .filter_map(|id| {
                let mut subtasks = by_operator.remove(id)?;
                subtasks.sort_by_key(|subtask| subtask.subtask);
                Some(OperatorSnapshot { id: id.clone(), parallelism: self.parallelism, subtasks })
            })
            .collect();
        let traces =
            || operators.iter().flat_map(|operator| &operator.subtasks).map(|subtask| &subtask.trace);
        let trace = CheckpointTrace {
            trigger_unix_ms: unix_ms(triggered.wall),
            duration_us: micros(triggered.at.elapsed()),
            commit_us: micros(start.elapsed()),
            bytes: traces().map(|trace| trace.bytes_written).sum(),
            full_bytes: traces().map(|trace| trace.full_bytes).sum(),
            objects: traces().map(|trace| trace.objects).sum(),
            retries: self.retries().saturating_sub(triggered.retries),
        };
        let created_unix_ms = unix_ms(SystemTime::now());
        let restored_from = self.restored_from;
        Manifest {
            kind: parts.kind,
            created_unix_ms,
            restored_from,
            operators,
            trace,
            ..Manifest::new(checkpoint, self.term, self.job.clone())
        }
    }
}

/// Sweeps on a thread for blocking.
async fn sweep(outputs: OutputSweeper) -> Result<()> {
    let swept = tokio::task::spawn_blocking(move || guarded(|| outputs.sweep())).await;
    swept.unwrap_or_else(|_| {
        let message = "the runtime was shut down before the sinks were swept";
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

/// Commits, and finds out what became of it when the answer is no clear one.
async fn write(
    log: &mut CommitLog,
    right: &CommitRight,
    manifest: Manifest,
) -> (CommitResult, Option<Error>) {
    let Err(error) = log.commit(right, &manifest).await else { return (CommitResult::Committed, None) };
    if error.kind() == ErrorKind::Fenced {
        return (CommitResult::Fenced, Some(error));
    }
    // The check settles what was left open; then the log shows whether the checkpoint exists, and nothing is
    // under way.
    let result = match log.check().await {
        Ok(()) if log.retained().iter().any(|known| known.checkpoint == manifest.checkpoint) => {
            CommitResult::Committed
        }
        Ok(()) => CommitResult::Failed,
        Err(check) if check.kind() == ErrorKind::Fenced => return (CommitResult::Fenced, Some(check)),
        Err(_) => CommitResult::Unknown,
    };
    (result, Some(error.with("checkpoint", manifest.checkpoint)))
}

fn report(
    manifest: &Manifest,
    triggered: Triggered,
    pause_us: u64,
    statistics: Vec<Statistic>,
) -> CheckpointReport {
    let subtasks = || manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    let alignment_us = subtasks().map(|subtask| subtask.trace.alignment_us).max();
    let start_delay_us = subtasks().map(|subtask| subtask.trace.start_delay_us).max();
    CheckpointReport {
        checkpoint: manifest.checkpoint,
        kind: kind_name(triggered.kind),
        pause: Duration::from_micros(pause_us),
        alignment: Duration::from_micros(alignment_us.unwrap_or(0)),
        start_delay: Duration::from_micros(start_delay_us.unwrap_or(0)),
        duration: Duration::ZERO,
        commit: Duration::ZERO,
        written_bytes: manifest.trace.bytes,
        full_bytes: manifest.trace.full_bytes,
        statistics,
    }
}

/// The measurements of all backends, by name.
fn statistics<'a>(parts: impl Iterator<Item = &'a OperatorPart>) -> Vec<Statistic> {
    let mut all: BTreeMap<&str, Statistic> = BTreeMap::new();
    for measured in parts.flat_map(|part| &part.statistics) {
        all.entry(measured.name)
            .and_modify(|sum| {
                sum.value = match sum.scope {
                    Scope::Backend => sum.value.saturating_add(measured.value),
                    Scope::Process => sum.value.max(measured.value),
                };
            })
            .or_insert_with(|| measured.clone());
    }
    all.into_values().collect()
}

fn kind_name(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Savepoint => "savepoint",
        CheckpointKind::Final => "final",
        CheckpointKind::Api => "api",
        CheckpointKind::Operator => "operator",
        CheckpointKind::Periodic => "periodic",
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
