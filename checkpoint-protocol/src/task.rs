//! Who takes part in a checkpoint.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One running instance of one subtask.
///
/// The attempt is what keeps an old life from speaking for a new one: when a job restarts, its tasks get
/// attempts that none of their predecessors had, so an acknowledgement that was under way during the restart
/// belongs to no task that the coordinator knows. (Flink: `ExecutionAttemptID`.) Where several coordinators
/// may exist one after the other, use the term of the commit log as (the upper part of) the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The chain of operators that the task runs, by its place in the job.
    pub vertex: u32,
    /// Which of the parallel instances of the vertex it is, from 0.
    pub subtask: u32,
    /// Which life of it.
    pub attempt: u64,
}

impl TaskId {
    /// A task in its first life, attempt 0.
    pub const fn new(vertex: u32, subtask: u32) -> Self {
        Self { vertex, subtask, attempt: 0 }
    }

    /// The same subtask in another life.
    #[must_use]
    pub const fn attempt(self, attempt: u64) -> Self {
        Self { attempt, ..self }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.vertex, self.subtask, self.attempt)
    }
}
