//! Where records come from.

use strandline_state_api::{Output, Result};

/// What a source can say after a call of [`Source::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// There is more to read now.
    More,
    /// Nothing now; ask again later.
    Idle,
    /// The end: nothing will ever follow.
    End,
}

/// One subtask of a source, owned by its thread. It must be able to read again from a position.
pub trait Source: Send {
    /// Its records.
    type Out: Send + 'static;

    /// Reads at most `max` records. Must not block for long: a barrier waits while it does.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn poll(&mut self, max: usize, output: &mut Output<Self::Out>) -> Result<SourceStatus>;

    /// Where it stands: one element for each split of the input that it owns, finished ones included.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    fn positions(&self) -> Result<Vec<Vec<u8>>>;
}

/// What a subtask of a source is told when it opens.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// Which subtask, from 0.
    pub subtask: u32,
    /// Of how many.
    pub parallelism: u32,
    /// The positions of *all* subtasks in the checkpoint that is restored, in a stable order; `None` for a new job. Every
    /// subtask sees the same and takes its share by a rule that depends on nothing else, so a change of parallelism loses
    /// nothing and reads nothing twice.
    pub restored: Option<Vec<Vec<u8>>>,
}

/// Makes the subtasks of a source, again at every restart.
pub trait SourceFactory: Send + Sync + 'static {
    /// What it makes.
    type Source: Source;

    /// Opens one subtask.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn open(&self, context: SourceContext) -> Result<Self::Source>;
}
