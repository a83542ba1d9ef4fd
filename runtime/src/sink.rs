//! Where results go, exactly once.

use std::collections::BTreeMap;

use strandline_state_api::{CheckpointId, Output, Result};

/// One subtask of a sink, owned by its thread: a two-phase commit with the checkpoints as its coordinator (Flink:
/// `TwoPhaseCommitSinkFunction`, Sink V2).
pub trait Sink: Send {
    /// Its records.
    type In: Send + 'static;

    /// Takes records; drains `batch`. What is written is not visible yet.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn write(&mut self, batch: &mut Output<Self::In>) -> Result<()>;

    /// Phase one, at the barrier of `checkpoint`: makes all that was written durable, and names it. The elements become
    /// state of the checkpoint: everything that has yet to be committed, earlier leftovers included.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Vec<u8>>>;

    /// Phase two: `checkpoint` is complete, so what was pre-committed up to it becomes visible. May come late, twice, or
    /// only for a later checkpoint.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()>;

    /// What is worth a line in the final report, for example a checksum. Numbers are added up over subtasks by
    /// [`SinkFactory::summarize`].
    fn summary(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

/// What a subtask of a sink is told when it opens.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// Which subtask, from 0.
    pub subtask: u32,
    /// Of how many.
    pub parallelism: u32,
    /// Unique for each start of the job, so that files of a dead attempt can never be taken for ours.
    pub attempt: String,
    /// The elements of all subtasks in the checkpoint that is restored, in a stable order. They were given to
    /// [`SinkFactory::recover`] before.
    pub restored: Vec<Vec<u8>>,
}

/// Makes the subtasks of a sink, again at every restart.
pub trait SinkFactory: Send + Sync + 'static {
    /// What it makes.
    type Sink: Sink;

    /// Opens one subtask, after [`recover`](Self::recover).
    ///
    /// # Errors
    /// When the output cannot be written.
    fn open(&self, context: SinkContext) -> Result<Self::Sink>;

    /// Brings the output to the state of `checkpoint` (`None`: of a new job): commits exactly the `elements` that the
    /// checkpoint names, again if need be, and removes what attempts after it left. Called once before any subtask opens.
    ///
    /// # Errors
    /// When the output cannot be brought there.
    fn recover(&self, checkpoint: Option<CheckpointId>, elements: &[Vec<u8>]) -> Result<()>;

    /// Joins the summaries of all subtasks.
    fn summarize(&self, summaries: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
        summaries.first().cloned().unwrap_or_default()
    }
}
