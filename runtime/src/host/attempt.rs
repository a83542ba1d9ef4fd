//! One attempt, as a host sees it.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use serde::{Deserialize, Serialize};
use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::{Manifest, RestoreRules};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::plan::Plan;
use super::wire::{Command, Counts, Event};
use crate::chain::assembly;
use crate::channel::Wiring;
use crate::channel::outbox::UsedBatches;
use crate::config::JobConfig;
use crate::mailbox::{Control, TaskEvent};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::sync::lock;
use crate::threads::Threads;

/// An attempt whose subtasks a host runs.
pub struct Attempt {
    pub(crate) inner: Arc<assembly::Attempt>,
    pub(crate) used: UsedBatches,
    pub(crate) life: u64,
    plan: Plan,
    description: Description,
    /// Both only where the coordinator is.
    commands: Option<Commands>,
    events: Option<Sender<TaskEvent>>,
    /// Ends the uploads of an attempt that another process coordinates.
    cancel: Option<watch::Sender<bool>>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What another process needs to run subtasks of an attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    job: String,
    parallelism: u32,
    label: String,
    term: Term,
    life: u64,
    first_checkpoint: CheckpointId,
    /// What it starts from, and which of its operators go on although they had ended.
    manifest: Option<Manifest>,
    reopened: Vec<OperatorId>,
}

/// The commands of the coordinator to all subtasks of an attempt.
#[derive(Clone, Debug)]
pub struct Commands(Receiver<Directed>);

/// A command, and for whom it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directed {
    /// The number of the vertex.
    pub vertex: u32,
    /// The number of the subtask.
    pub subtask: u32,
    /// The command.
    pub command: Command,
}

impl Commands {
    /// Waits for the next command; `None` when the attempt is over.
    pub fn recv(&self) -> Option<Directed> {
        self.0.recv().ok()
    }

    /// Returns the next command if there is one, and `None` within when the attempt is over.
    pub fn try_recv(&self) -> Option<Option<Directed>> {
        match self.0.try_recv() {
            Ok(command) => Some(Some(command)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// What the coordinator makes an [`Attempt`] of.
pub(crate) struct AttemptParts {
    pub(crate) inner: Arc<assembly::Attempt>,
    pub(crate) plan: Plan,
    pub(crate) life: u64,
    pub(crate) first_checkpoint: CheckpointId,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) reopened: Vec<OperatorId>,
    pub(crate) commands: Receiver<Directed>,
    pub(crate) events: Sender<TaskEvent>,
}

impl Attempt {
    pub(crate) fn new(parts: AttemptParts) -> Self {
        let AttemptParts { inner, plan, life, first_checkpoint, manifest, reopened, commands, events } =
            parts;
        let description = Description {
            job: plan.job().to_owned(),
            parallelism: inner.config.parallelism,
            label: inner.label.clone(),
            term: inner.term,
            life,
            first_checkpoint,
            manifest,
            reopened,
        };
        let (commands, events) = (Some(Commands(commands)), Some(events));
        let used = UsedBatches::default();
        Self { inner, used, life, plan, description, commands, events, cancel: None, runtime: None }
    }

    /// Joins an attempt that another process coordinates: `pipeline` and `config` are the same there.
    ///
    /// # Errors
    /// `Invalid` where job or parallelism differ; `Incompatible` where the checkpoint does not fit the
    /// pipeline.
    pub fn join<F: BackendFactory>(
        pipeline: &Pipeline<F>,
        config: JobConfig,
        description: Description,
    ) -> Result<Self> {
        let job = lock(&pipeline.graph).job()?;
        let Description { parallelism, label, term, life, manifest, reopened, .. } = description.clone();
        if (&job.name, config.parallelism) != (&description.job, parallelism) {
            let message = format!(
                "this process runs \"{}\" with parallelism {}, and the coordinator runs \"{}\" with {parallelism}: \
                 start all processes of a cluster with the same job",
                job.name, config.parallelism, description.job
            );
            return Err(Error::invalid(message));
        }
        let mut builder = Builder::new_multi_thread();
        let built = builder.worker_threads(2).thread_name("strandline-io").enable_all().build();
        let no_threads = |error| {
            Error::new(ErrorKind::Unavailable, "the threads of the job cannot be started").caused_by(error)
        };
        let runtime = built.map_err(no_threads)?;
        let threads = Threads::OfSystem(runtime.handle().clone());
        let assign = |manifest: Manifest| {
            let (renamed, allow_orphans) = (config.renamed_operators.clone(), config.allow_orphans.clone());
            let rules = RestoreRules { renamed, allow_orphans };
            let mut assigned = manifest.assign_to(&job.schema()?, &rules, parallelism)?;
            if !reopened.is_empty() {
                assigned.is_finished = false;
            }
            reopened.iter().for_each(|operator| assigned.reopen(operator));
            Ok::<_, Error>(assigned)
        };
        let restored = manifest.map(assign).transpose()?;
        let metrics = Arc::new(Metrics::new(threads.clone()));
        metrics.begin_attempt(restored.as_ref().map(|restored| restored.checkpoint));
        let (cancel, cancelled) = watch::channel(false);
        let plan = Plan::new(&job, &config);
        let inner = assembly::Attempt {
            wiring: Wiring::new(parallelism, config.channel_capacity, threads.clone()),
            chained: job.chained(&config),
            is_keyed: job.is_keyed(),
            config,
            label,
            term,
            restored,
            threads,
            cancelled,
            metrics,
        };
        let (inner, used) = (Arc::new(inner), UsedBatches::default());
        let (cancel, runtime) = (Some(cancel), Some(runtime));
        Ok(Self { inner, used, life, plan, description, commands: None, events: None, cancel, runtime })
    }

    /// What to run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The number of the first checkpoint that the attempt takes; each later one is the next.
    pub fn first_checkpoint(&self) -> CheckpointId {
        self.description.first_checkpoint
    }

    /// What other processes [join](Self::join) it by.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The commands of the coordinator; `None` where another process coordinates.
    pub fn commands(&self) -> Option<&Commands> {
        self.commands.as_ref()
    }

    /// Brings an event of a subtask to the coordinator. Without effect where another process coordinates, and
    /// when the attempt is over.
    pub fn report(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event.0);
        }
    }

    /// Takes what the subtasks of this process have counted since the last call.
    ///
    /// Where another process coordinates, the host brings it there: often enough for the progress of the job,
    /// and in front of every event that [completes counts](Event::completes_counts).
    pub fn take_counts(&self) -> Counts {
        Counts(self.inner.metrics.take())
    }

    /// Adds what another process has counted to the counts of the job.
    pub fn add_counts(&self, counts: &Counts) {
        self.inner.metrics.add(&counts.0);
    }

    /// Fails the attempt: the host cannot go on.
    pub fn fail(&self, error: Error) {
        self.report(Event(TaskEvent::Failed(error)));
    }

    /// Whether the coordinator has given the attempt up, because something failed or the job was cancelled.
    pub fn was_given_up(&self) -> bool {
        self.inner.is_cancelled()
    }

    /// Ends what is still being stored for subtasks of this process. Call it where the attempt has failed and
    /// another process coordinates.
    pub fn give_up(&self) {
        if let Some(cancel) = &self.cancel {
            let _ = cancel.send(true);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Event {
    /// The event of a host that cannot go on.
    pub fn failed(error: Error) -> Self {
        Self(TaskEvent::Failed(error))
    }
}

impl Directed {
    pub(crate) fn new(vertex: u32, subtask: u32, control: Control) -> Self {
        Self { vertex, subtask, command: Command(control) }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
