//! What a chain is put together from, once for each subtask and attempt.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::{InFlight, OperatorAssignment, RestoreAssignment, SubtaskAssignment};
use strandline_state_api::snapshot::SegmentStore;
use strandline_state_api::{CheckpointId, OperatorId, Result};
use tokio::sync::watch;

use crate::batch::AnyBatch;
use crate::channel::outbox::Outbox;
use crate::channel::{ChannelWriter, EdgeId, Pattern, Wiring};
use crate::config::JobConfig;
use crate::metrics::Metrics;
use crate::threads::Threads;
use crate::urgency::Urgency;

/// What all tasks of one attempt share.
pub(crate) struct Attempt {
    pub(crate) config: JobConfig,
    /// Unique for each start of the job.
    pub(crate) label: String,
    /// That of the claim; zero without checkpoints.
    pub(crate) term: Term,
    pub(crate) wiring: Wiring,
    /// What the attempt starts from; `None` for a new job.
    pub(crate) restored: Option<RestoreAssignment>,
    /// Where it runs.
    pub(crate) threads: Threads,
    /// Becomes true when the attempt has failed.
    pub(crate) cancelled: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
    /// Edges that are no channels.
    pub(crate) chained: HashSet<EdgeId>,
    /// Whether keyed operators, and not sinks, count how much is done.
    pub(crate) is_keyed: bool,
}

impl Attempt {
    /// Whether all tasks have to give up.
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Opens the store that holds the segments of one checkpoint; `None` without checkpoints.
    pub(crate) fn segments(&self, checkpoint: CheckpointId) -> Option<Arc<dyn SegmentStore>> {
        let checkpointing = self.config.checkpointing.as_ref()?;
        Some(Arc::new(checkpointing.storage.segments(self.term, checkpoint)))
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({})", self.label)
    }
}

/// One subtask of a vertex while it is built.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) subtask: u32,
    /// That of the task that is being built.
    pub(crate) urgency: Arc<Urgency>,
    /// The stateful operator behind which the chain is being built.
    head: OperatorId,
    assigners: u32,
    /// Where all its messages go, where a host runs the task.
    outbox: Option<Outbox>,
}

impl Assembly {
    pub(crate) fn new(attempt: Arc<Attempt>, head: OperatorId, subtask: u32, urgency: Arc<Urgency>) -> Self {
        Self { attempt, subtask, urgency, head, assigners: 0, outbox: None }
    }

    /// Lets the task send everything to `outbox`.
    pub(crate) fn send_to(self, outbox: Outbox) -> Self {
        Self { outbox: Some(outbox), ..self }
    }

    /// The writing ends of an edge.
    pub(crate) fn writers<P: AnyBatch + Default>(
        &self,
        edge: EdgeId,
        pattern: Pattern,
    ) -> Result<Vec<ChannelWriter<P>>> {
        let Some(outbox) = &self.outbox else {
            return self.attempt.wiring.writers(edge, pattern, self.subtask, &self.urgency);
        };
        let writer = |target| ChannelWriter::to_outbox(outbox, edge, target);
        Ok(match pattern {
            Pattern::AllToAll => (0..self.parallelism()).map(writer).collect(),
            Pattern::OneToOne => vec![writer(self.subtask)],
        })
    }

    /// What was in flight on its way to this subtask of `operator` when the restored checkpoint was taken.
    pub(crate) fn in_flight(&self, operator: &OperatorId) -> &[InFlight] {
        self.restored_here(operator).map_or(&[], |restored| &restored.in_flight)
    }

    pub(crate) fn parallelism(&self) -> u32 {
        self.attempt.config.parallelism
    }

    pub(crate) fn is_chained(&self, edge: EdgeId) -> bool {
        self.attempt.chained.contains(&edge)
    }

    pub(crate) fn head(&self) -> &OperatorId {
        &self.head
    }

    /// The number of one more assigner of timestamps behind the current head.
    pub(crate) fn next_assigner(&mut self) -> u32 {
        self.assigners += 1;
        self.assigners - 1
    }

    /// Builds what lies behind another head.
    pub(crate) fn behind<R>(&mut self, head: &OperatorId, build: impl FnOnce(&mut Self) -> R) -> R {
        let before = (std::mem::replace(&mut self.head, head.clone()), std::mem::take(&mut self.assigners));
        let built = build(self);
        (self.head, self.assigners) = before;
        built
    }

    /// What `operator` restores; `None` when it is new.
    pub(crate) fn restored(&self, operator: &OperatorId) -> Option<&OperatorAssignment> {
        self.attempt.restored.as_ref()?.operators.get(operator)
    }

    /// What this subtask of `operator` restores.
    pub(crate) fn restored_here(&self, operator: &OperatorId) -> Option<&SubtaskAssignment> {
        self.attempt.restored.as_ref()?.subtask(operator, self.subtask)
    }
}
