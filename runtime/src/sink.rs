//! Where results go, exactly once.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Batch, CheckpointId, Result};

/// One subtask of a sink, owned by its thread: a two-phase commit with the checkpoints as its coordinator
/// (Flink: `TwoPhaseCommitSinkFunction`, Sink V2).
pub trait Sink: Send {
    /// Its records.
    type In: Send + 'static;
    /// What a pre-commit leaves to be committed; `()` where writing is enough. Checkpoints store committables
    /// with [`SerdeCodec`](strandline_state_api::SerdeCodec).
    type Committable: Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static;
    /// Figures for the final report; the executor adds up those of all subtasks. `()` has none.
    type Summary: Summary;

    /// Writes the records of `batch` and drains it. What it writes is not visible yet.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn write(&mut self, batch: &mut Batch<Self::In>) -> Result<()>;

    /// Phase one, at the barrier of `checkpoint`: makes all written records durable and returns what has yet
    /// to be committed, leftovers of earlier checkpoints included. The committables become state of the
    /// checkpoint.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<Self::Committable>>;

    /// Phase two: `checkpoint` is complete, so what was pre-committed up to it becomes visible. The executor
    /// may call this late, twice, or only for a later checkpoint.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()>;

    /// Returns the figures of this subtask, once the job is over.
    fn summary(&self) -> Self::Summary {
        Self::Summary::default()
    }
}

/// What a subtask of a sink knows when it opens.
#[derive(Clone, Debug)]
pub struct SinkContext<C> {
    /// The number of the subtask, from 0.
    pub subtask: u32,
    /// How many subtasks the sink has.
    pub parallelism: u32,
    /// A label that is unique for each start of the job, so that a sink never takes files of a dead attempt
    /// for its own.
    pub attempt: String,
    /// The committables of *all* subtasks in the restored checkpoint, in a stable order.
    /// [`SinkFactory::recover`] has committed them.
    pub restored: Vec<C>,
}

/// Opens the subtasks of a sink, again at every restart.
pub trait SinkFactory: Send + Sync + 'static {
    /// The sink that it opens.
    type Sink: Sink;

    /// Opens one subtask, after [`recover`](Self::recover).
    ///
    /// # Errors
    /// When the output cannot be written.
    fn open(&self, context: SinkContext<<Self::Sink as Sink>::Committable>) -> Result<Self::Sink>;

    /// Brings the output to the state of `checkpoint` (`None`: of a new job): commits exactly `committables`,
    /// again if need be, and removes what later attempts left. The executor calls it once before any subtask
    /// opens.
    ///
    /// # Errors
    /// When the output cannot be brought there.
    fn recover(
        &self,
        checkpoint: Option<CheckpointId>,
        committables: &[<Self::Sink as Sink>::Committable],
    ) -> Result<()>;
}

/// Figures that add up over subtasks.
pub trait Summary: Default + Send + 'static {
    /// Adds the figures of another subtask.
    fn add(&mut self, other: Self);

    /// Returns the figures, in the order in which a report prints them.
    fn figures(&self) -> Vec<Figure>;
}

impl Summary for () {
    fn add(&mut self, (): Self) {}

    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}

/// One figure of a report. It displays as its name and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Figure {
    /// What it counts.
    pub name: &'static str,
    /// How much.
    pub value: u64,
    /// How the value prints.
    pub unit: Unit,
}

impl Figure {
    /// A number of things.
    pub const fn count(name: &'static str, value: u64) -> Self {
        Self { name, value, unit: Unit::Count }
    }

    /// A number of bytes.
    pub const fn bytes(name: &'static str, value: u64) -> Self {
        Self { name, value, unit: Unit::Bytes }
    }

    /// A checksum.
    pub const fn checksum(name: &'static str, value: u64) -> Self {
        Self { name, value, unit: Unit::Checksum }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Count | Unit::Bytes => write!(f, "{} {}", self.name, self.value),
            Unit::Checksum => write!(f, "{} {:#018x}", self.name, self.value),
        }
    }
}

/// How the value of a [`Figure`] prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// A number of things, in decimal.
    Count,
    /// A number of bytes, in decimal.
    Bytes,
    /// A checksum, as 16 hexadecimal digits.
    Checksum,
}
