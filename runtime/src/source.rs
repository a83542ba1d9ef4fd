//! Where records come from.

mod split_times;
mod watermarks;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::schema::Description;
use strandline_state_api::{Batch, Result, Timestamp};

pub use split_times::SplitTimes;
pub use watermarks::Watermarks;

/// What [`Source::poll`] returns beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// There is more to read now.
    More,
    /// Nothing is there now; the executor polls again later.
    Idle,
    /// The input has ended: no record follows, and event time ends.
    End,
    /// The input has ended for this run, but a later run may read on: no record follows, and event time stays
    /// where it is, so that windows wait for the records of that run.
    EndOfRun,
}

/// How far the event time of one subtask of a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTime {
    /// No record at or before this time is expected any more.
    pub watermark: Option<Timestamp>,
    /// Nobody waits for the subtask: the watermarks of operators are those of the other subtasks.
    pub idle: bool,
}

/// How much of its input a subtask has read, in units of its own: bytes of files, records of a generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// What it has read, before the restored checkpoint, too.
    pub done: u64,
    /// All that it is to read.
    pub total: u64,
}

/// What a source has to read that a job which resumes has not read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Unread {
    /// Nothing, or the source does not know.
    #[default]
    Nothing,
    /// Something, which the source reads.
    Read,
    /// Something that came after the job had finished, and which the source does not read: what it is, and how
    /// to read it.
    Left(String),
}

/// One subtask of a source, owned by its thread. It can read again from a position.
pub trait Source: Send {
    /// Its records.
    type Out: Send + 'static;
    /// Where one split of the input stands. Checkpoints store positions with
    /// [`SerdeCodec`](strandline_state_api::SerdeCodec).
    type Position: Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static;

    /// Appends at most `max` records to `output`. Returns soon: a barrier waits while it runs.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn poll(&mut self, max: usize, output: &mut Batch<Self::Out>) -> Result<SourceStatus>;

    /// Returns whether the source works off what has piled up, and will soon have caught up: history before
    /// live records. The executor asks after each poll; while a source has a backlog, checkpoints follow the
    /// [interval](crate::CheckpointConfig::backlog_interval) for that (Flink: `setIsProcessingBacklog`).
    fn has_backlog(&self) -> bool {
        false
    }

    /// Returns where the source stands: one position for each split of the input that this subtask owns,
    /// finished splits included.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    fn positions(&self) -> Result<Vec<Self::Position>>;

    /// Describes stored positions, for whoever reads checkpoints without the source. `None` leaves that to serde, which
    /// reveals the types of all but `Serialize` and `Deserialize` that are written by hand.
    fn describe_positions() -> Option<Description>
    where
        Self: Sized,
    {
        None
    }

    /// Returns how much of its input the subtask has read, where the input has a size; asked after each poll.
    fn extent(&self) -> Option<Extent> {
        None
    }

    /// Returns how far event time is behind the records so far, where the source knows it; asked after each
    /// poll. A source of several splits keeps it in [`SplitTimes`]. `None` leaves times to
    /// [`Stream::timestamps`](crate::Stream::timestamps).
    fn time(&mut self) -> Option<SourceTime> {
        None
    }
}

/// What a subtask of a source knows when it opens.
#[derive(Clone, Debug)]
pub struct SourceContext<P> {
    /// The number of the subtask, from 0.
    pub subtask: u32,
    /// How many subtasks the source has.
    pub parallelism: u32,
    /// The positions of *all* subtasks in the restored checkpoint, in a stable order; `None` for a new job.
    /// Every subtask receives the same positions and takes its share by a rule that depends on nothing else,
    /// so a change of parallelism loses no split and reads none twice.
    pub restored: Option<Vec<P>>,
}

/// What a source knows before its subtasks open.
#[derive(Clone, Debug)]
pub struct PlanContext<P> {
    /// How many subtasks the source has.
    pub parallelism: u32,
    /// As [`SourceContext::restored`].
    pub restored: Option<Vec<P>>,
    /// The source had ended when the checkpoint was taken: everything there was has been read. It reads on
    /// only where its plan is [`Unread::Read`].
    pub ended: bool,
    /// So had the whole job: it does not run again unless one of its sources reads on.
    pub finished: bool,
}

/// Opens the subtasks of a source, again at every restart.
pub trait SourceFactory: Send + Sync + 'static {
    /// The source that it opens.
    type Source: Source;

    /// Looks at the input, once for each attempt, before the subtasks open: what all of them need to know is
    /// best found out here. Returns what there is to read; a source that had ended, the operators behind it,
    /// and a job that had finished go on where there is something.
    ///
    /// # Errors
    /// When the input cannot be read, or is not the one of the positions.
    fn plan(&self, context: PlanContext<<Self::Source as Source>::Position>) -> Result<Unread> {
        drop(context);
        Ok(Unread::Nothing)
    }

    /// Opens one subtask.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn open(&self, context: SourceContext<<Self::Source as Source>::Position>) -> Result<Self::Source>;
}
