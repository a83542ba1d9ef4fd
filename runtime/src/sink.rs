//! Where results go, exactly once.
//!
//! # What a sink must do to be fenced
//! A process may sleep at any point (a stopped machine, a slow disk) and wake when a successor has long taken
//! its place. The commit log refuses whatever it commits then; its output is the sink's own to protect:
//!
//! * **Everything that a sink writes carries the [`Term`] of its attempt**, from the first byte on.
//! * **A commit names what it makes visible**, one by one, as the committables list it. It has no effect
//!   where that was made visible before, and fails where it was removed.
//! * **Only what [`DeadOutputs`] declares dead is removed**: by [`SinkFactory::recover`] and
//!   [`SinkFactory::sweep`]. Those answers stay true for ever, so it does not matter how late they are used.
//!   What is above the restored checkpoint, or pre-committed for another one, may be what a successor resumes
//!   from.
//! * **What was not committed yet is removed before what was**: a stale process may commit meanwhile, and
//!   what it takes from the first place is found in the second.
//!
//! # What belongs to whom
//! An output has one owner, the [job](JobIdentity): a sink records it where it writes, with its first
//! recovery, and refuses to start where another job is recorded, before it removes anything.
//!
//! A database can refuse a stale process outright: it keeps the term in a row, and each transaction begins by
//! raising the row to its own term, on the condition that the row is not higher already (`UPDATE fence SET
//! term = :mine WHERE term <= :mine`; no row changed means fenced). It does so in `recover` and in every
//! pre-commit and commit, within the same transaction as its work. A transaction that was prepared under a
//! name has the term in its name, and a recovery rolls back those that `DeadOutputs` declares dead.

use std::fmt;

pub use strandline_checkpoint_protocol::{DeadOutputs, Term};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{AbortNotice, Batch, CheckpointId, Result};

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

    /// Hears that a checkpoint will never be complete; the job goes on. What was pre-committed for it is not
    /// lost: it stays among the committables, and becomes visible with a later checkpoint. A sink need not do
    /// anything. The executor may call this late, or not at all when the job fails.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn checkpoint_aborted(&mut self, _aborted: &AbortNotice) -> Result<()> {
        Ok(())
    }

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
    /// The term of the attempt, above those of all attempts before it: part of the name of all that the sink
    /// writes. Zero in a job without checkpoints.
    pub term: Term,
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

    /// Brings the output to where the attempt starts from: removes what `recovery.dead` declares dead, then
    /// commits exactly the committables, again if need be. The executor calls it once before any subtask
    /// opens.
    ///
    /// The attempt may have been overtaken while this runs: see the rules in the docs of this [module](self).
    /// What later checkpoints left above the restored one stays until [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// When the output cannot be brought there.
    fn recover(&self, recovery: &SinkRecovery<'_, <Self::Sink as Sink>::Committable>) -> Result<()>;

    /// Removes what `dead` declares dead. The executor calls it when the first checkpoint of an attempt is in
    /// the log, before any subtask commits, so that the output of an abandoned past is gone when what
    /// replaces it becomes visible; and once more at the end of the job. An attempt that fails in between
    /// leaves this to the [recovery](Self::recover) of the next.
    ///
    /// # Errors
    /// An error fails the job, which restarts from its newest checkpoint.
    fn sweep(&self, dead: &DeadOutputs) -> Result<()>;
}

/// Whose output it is. Two starts are of one job if both names and both storages are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobIdentity {
    /// The name of the job.
    pub name: String,
    /// Where its checkpoints are, without credentials; `None` in a job without checkpoints. So the copy of a
    /// storage makes another job than its original.
    pub storage: Option<String>,
    /// The name of the job whose output this one takes over on purpose.
    pub adopts: Option<String>,
}

/// Where an attempt starts from, as a sink sees it.
#[derive(Clone, Debug)]
pub struct SinkRecovery<'a, C> {
    /// Whose output it is: a sink refuses to touch that of another job.
    pub job: &'a JobIdentity,
    /// The term of the attempt, above those of all attempts before it; zero in a job without checkpoints.
    pub term: Term,
    /// The restored checkpoint; `None` for that of a new job.
    pub checkpoint: Option<CheckpointId>,
    /// What all subtasks had pre-committed in it, in a stable order.
    pub committables: &'a [C],
    /// The lowest number that a checkpoint of this attempt can have.
    pub next_checkpoint: CheckpointId,
    /// What earlier attempts left and can never count again.
    pub dead: &'a DeadOutputs,
}

/// Figures that add up over subtasks. They are serde types, as subtasks may be in several processes.
pub trait Summary: Default + Serialize + DeserializeOwned + Send + 'static {
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
