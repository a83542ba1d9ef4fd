//! Where records come from.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Batch, Result};

/// What [`Source::poll`] returns beside the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// There is more to read now.
    More,
    /// Nothing is there now; the executor polls again later.
    Idle,
    /// The input has ended: no record follows.
    End,
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

/// Opens the subtasks of a source, again at every restart.
pub trait SourceFactory: Send + Sync + 'static {
    /// The source that it opens.
    type Source: Source;

    /// Opens one subtask.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn open(&self, context: SourceContext<<Self::Source as Source>::Position>) -> Result<Self::Source>;
}
