//! The barrier of a checkpoint, and what comes back for it.

use std::sync::Arc;
use std::time::Instant;

use strandline_checkpoint_storage::{self as storage, SubtaskSnapshot};
use strandline_state_api::backend::{SnapshotKind, Statistic};
use strandline_state_api::{CheckpointId, OperatorId};

use crate::live::LiveStore;

/// The barrier of a checkpoint, which flows between the records.
#[derive(Clone, Debug)]
pub(crate) struct Barrier {
    pub(crate) checkpoint: CheckpointId,
    pub(crate) kind: SnapshotKind,
    /// Sources read nothing behind it.
    pub(crate) stop: bool,
    /// When the coordinator triggered it.
    pub(crate) triggered: Instant,
    /// From when on it may overtake records; `None` where it is aligned.
    pub(crate) overtake: Option<Instant>,
    /// Where what belongs to it is stored, if it belongs to no checkpoint.
    pub(crate) live: Option<Arc<LiveStore>>,
}

/// What one operator of a task hands in for a checkpoint.
#[derive(Debug)]
pub(crate) struct OperatorPart {
    pub(crate) operator: OperatorId,
    pub(crate) snapshot: SubtaskSnapshot,
    /// Measurements of its backend.
    pub(crate) statistics: Vec<Statistic>,
}

impl OperatorPart {
    /// What of it a manifest holds.
    pub(crate) fn into_stored(self) -> storage::OperatorPart {
        let Self { operator, snapshot, .. } = self;
        storage::OperatorPart { operator, snapshot }
    }
}
