//! From a permit to a manifest in the commit log.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_protocol::{CheckpointKind, CommitPermit, CommitResult, Term};
use strandline_checkpoint_storage::{
    CheckpointStart, CommitLog, CommitOutcome, JobLayout, Manifest, Storage,
};
use strandline_state_api::backend::{Scope, Statistic};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use tokio::sync::Mutex;

use super::outputs::OutputSweeper;
use super::recovery::Claim;
use crate::barrier::OperatorPart;
use crate::config::{JobConfig, WhenFinished};
use crate::pipeline::graph::Job;
use crate::report::CheckpointReport;
use crate::threads::{Aborter, Threads};

/// What a task acknowledges a checkpoint with.
pub(super) type Parts = Vec<OperatorPart>;

/// The side of the coordinator that writes. Its answers come over a channel.
pub(super) struct Committer {
    pub(super) layout: JobLayout,
    /// `None` without checkpoints: then a commit is nothing more than the permit.
    log: Option<Arc<Mutex<CommitLog>>>,
    pub(super) storage: Option<Storage>,
    outputs: OutputSweeper,
    done: Sender<CommitDone>,
    pub(super) results: Receiver<CommitDone>,
    timeout: Duration,
    remove: bool,
    /// The commit under way, and when it is given up.
    under_way: Option<(Instant, Aborter)>,
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

/// Sends how a commit went when it is dropped, even where it never began or panicked: the driver waits for
/// it, also while it settles.
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

/// When a checkpoint was triggered, and why.
#[derive(Clone, Debug)]
pub(super) struct Triggered {
    pub(super) start: CheckpointStart,
    pub(super) kind: CheckpointKind,
}

impl Committer {
    pub(super) fn new(
        job: &Job,
        config: &JobConfig,
        term: Term,
        restored_from: Option<CheckpointId>,
        claim: Option<Claim>,
    ) -> Self {
        let (done, results) = unbounded();
        let (log, storage) = match claim {
            Some(claim) => (Some(Arc::new(Mutex::new(claim.log))), Some(claim.storage)),
            None => (None, None),
        };
        let (parallelism, checkpointing) = (config.parallelism, config.checkpointing.as_ref());
        let operators = job.ids.iter().map(|id| (id.clone(), parallelism)).collect();
        let layout = JobLayout { job: job.name.clone(), term, restored_from, operators };
        let outputs = OutputSweeper::new(job, term, restored_from);
        let timeout = checkpointing.map_or(Duration::MAX, |config| config.commit_timeout);
        let remove = checkpointing.is_some_and(|config| config.when_finished == WhenFinished::Remove);
        Self { layout, log, storage, outputs, done, results, timeout, remove, under_way: None }
    }

    pub(super) fn term(&self) -> Term {
        self.layout.term
    }

    pub(super) fn restored_from(&self) -> Option<CheckpointId> {
        self.layout.restored_from
    }

    /// Writes the manifest and claims the slot of the log, elsewhere. Exactly one [`CommitDone`] follows.
    pub(super) fn commit(&mut self, permit: CommitPermit<Parts>, triggered: Triggered, threads: &Threads) {
        let start = threads.now();
        let (right, parts) = permit.into_parts();
        let pause_of = |parts: &Parts| parts.iter().map(|part| part.snapshot.trace.pause_us).sum();
        let pause = parts.acks.values().map(pause_of).max().unwrap_or(0);
        let statistics = statistics(parts.acks.values().flatten());
        let checkpoint = parts.checkpoint;
        let parts = parts.map(|parts| parts.into_iter().map(OperatorPart::into_stored));
        let mut manifest = match self.layout.manifest(parts, &triggered.start, start) {
            Ok(manifest) => manifest,
            Err(error) => {
                let report =
                    report(&Manifest::new(checkpoint, self.layout.term, ""), &triggered, pause, statistics);
                let (result, error) = (CommitResult::Failed, Some(error));
                let (outputs, all_finished) = (Ok(()), false);
                // The receiver lives as long as the committer.
                let _ =
                    self.done.send(CommitDone { checkpoint, result, error, outputs, report, all_finished });
                return;
            }
        };
        let report = report(&manifest, &triggered, pause, statistics);
        let mut subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
        let all_finished = subtasks.all(|subtask| subtask.finished);
        let is_last = self.remove && all_finished && triggered.kind == CheckpointKind::Final;
        if is_last {
            forget_state(&mut manifest);
        }
        let log = self.log.clone();
        let unanswered =
            "the store did not answer the commit in time, or panicked, or the runtime was shut down";
        let unanswered = Error::new(ErrorKind::Unavailable, unanswered);
        let (result, error) = (CommitResult::Unknown, Some(unanswered));
        let done = Some(CommitDone { checkpoint, result, error, outputs: Ok(()), report, all_finished });
        let mut answer = Answer { done, sender: self.done.clone() };
        let logged = log.is_some();
        let (outputs, kind) = (self.outputs.clone(), triggered.kind);
        // As a task, not on a thread for blocking: a store on a local disk needs those, and there may be but
        // one.
        let of_commit = threads.clone();
        let task = threads.spawn_future("commit", async move {
            let (result, error) = match log {
                // One at a time, as the coordinator hands out one permit at a time: nobody ever waits for it.
                Some(log) => {
                    let mut log = log.lock().await;
                    if is_last {
                        log.set_retain(NonZeroUsize::MIN);
                    }
                    answer_of(log.commit(&right, &manifest).await)
                }
                None => (CommitResult::Committed, None),
            };
            let is_durable = result == CommitResult::Committed && logged;
            let outputs = if is_durable && outputs.is_due(kind) {
                of_commit.block(move || outputs.sweep()).await
            } else {
                Ok(())
            };
            if let Some(done) = &mut answer.done {
                (done.result, done.error, done.outputs) = (result, error, outputs);
                done.report.commit = of_commit.since(start);
                done.report.duration = triggered.start.elapsed();
            }
        });
        // Where it could not begin, the answer is there.
        let deadline = start.checked_add(self.timeout);
        self.under_way = deadline.zip(task.ok());
    }

    /// Gives up the commit under way if it takes too long. Its answer is that nobody knows.
    pub(super) fn give_up_overdue(&mut self, now: Instant) {
        if self.under_way.as_ref().is_some_and(|(deadline, _)| *deadline <= now) {
            self.give_up();
        }
    }

    /// The commit under way has an answer.
    pub(super) fn answered(&mut self) {
        self.under_way = None;
    }

    fn give_up(&mut self) {
        if let Some((_, task)) = self.under_way.take() {
            tracing::warn!(timeout = ?self.timeout, "the store does not answer the commit of a checkpoint");
            task.abort();
        }
    }

    /// Waits for the commit under way until it is given up; `None` when nothing answers.
    pub(super) fn await_result(&mut self, threads: &Threads) -> Option<CommitDone> {
        if let Some((deadline, _)) = &self.under_way
            && let Ok(done) = threads.recv(&self.results, Some(*deadline))
        {
            return Some(done);
        }
        self.give_up();
        threads.recv(&self.results, None).ok()
    }
}

/// Leaves nothing but what a later start needs to know that the job has finished, and to commit its output.
fn forget_state(manifest: &mut Manifest) {
    for subtask in manifest.operators.iter_mut().flat_map(|operator| &mut operator.subtasks) {
        subtask.keyed = KeyedSnapshot::default();
        subtask.operator_state.clear();
    }
}

/// The result for the coordinator, and the error behind it.
fn answer_of(outcome: CommitOutcome) -> (CommitResult, Option<Error>) {
    (outcome.result(), outcome.into_result().err())
}

fn report(
    manifest: &Manifest,
    triggered: &Triggered,
    pause_us: u64,
    statistics: Vec<Statistic>,
) -> CheckpointReport {
    let subtasks = || manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    let alignment_us = subtasks().map(|subtask| subtask.trace.alignment_us).max();
    let start_delay_us = subtasks().map(|subtask| subtask.trace.start_delay_us).max();
    CheckpointReport {
        checkpoint: manifest.checkpoint,
        kind: triggered.kind.name(),
        pause: Duration::from_micros(pause_us),
        alignment: Duration::from_micros(alignment_us.unwrap_or(0)),
        start_delay: Duration::from_micros(start_delay_us.unwrap_or(0)),
        duration: Duration::ZERO,
        commit: Duration::ZERO,
        written_bytes: manifest.trace.bytes,
        full_bytes: manifest.trace.full_bytes,
        in_flight_records: subtasks().map(|subtask| subtask.trace.in_flight_records).sum(),
        in_flight_bytes: subtasks().map(|subtask| subtask.trace.in_flight_bytes).sum(),
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
