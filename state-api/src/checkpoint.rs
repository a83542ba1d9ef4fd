//! Why a checkpoint is taken, and what is heard of one that fails.

use serde::{Deserialize, Serialize};

use crate::{CheckpointId, Error};

/// Why a checkpoint is taken. The order of the variants is the order in which waiting ones are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// For a person to keep. Never subsumed by a newer checkpoint: where newer ones complete first, it
    /// follows them, late.
    Savepoint,
    /// The last one of a job that stops gracefully: the sources stop at its barrier. Nothing starts behind
    /// it, and it waits for no savepoint: one that is not stored when the final one completes is aborted.
    Final,
    /// Asked for through the API, the command line or HTTP.
    Api,
    /// Asked for by an operator of the job.
    Operator,
    /// Because the interval is over.
    Periodic,
}

impl CheckpointKind {
    /// Whether it starts although as many checkpoints are under way as may be, does not count there, and is
    /// not aborted when a newer checkpoint completes.
    pub fn is_forced(self) -> bool {
        matches!(self, Self::Savepoint | Self::Final)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Savepoint => "savepoint",
            Self::Final => "final",
            Self::Api => "api",
            Self::Operator => "operator",
            Self::Periodic => "periodic",
        }
    }
}

/// What operators and sinks hear of a checkpoint that will never be complete.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AbortNotice {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was to be taken: only an operator that knows it can treat a failed savepoint, which somebody
    /// asks for again, in another way than a periodic checkpoint, which the next one makes up for.
    pub kind: CheckpointKind,
    /// Why it was aborted. Its causes name what failed, in which subtask and which file, where something did;
    /// its kind is that of the innermost.
    pub cause: Error,
}

impl AbortNotice {
    /// A notice for operators and sinks.
    pub fn new(checkpoint: CheckpointId, kind: CheckpointKind, cause: Error) -> Self {
        Self { checkpoint, kind, cause }
    }
}
