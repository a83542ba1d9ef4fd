//! A snapshot between its barrier and the end of its drain.

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::CheckpointId;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::schema::StateMeta;

use crate::records::{Records, StateDelta};

/// A snapshot that is prepared and not drained.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) checkpoint: CheckpointId,
    /// The kind that the caller asked for.
    pub(crate) kind: SnapshotKind,
    /// Whether the cut takes all entries.
    pub(crate) full: bool,
    /// About how many records the cut has.
    pub(crate) count: usize,
    /// The number of states at the cut.
    pub(crate) states: usize,
    /// Leaves out values that had expired at the cut.
    pub(crate) filter: ExpiryFilter,
    /// The forms that older files may hold states in, other than those of the cut.
    pub(crate) older_forms: Vec<StateMeta>,
    /// Whether it cannot be finished, because one before it failed.
    pub(crate) failed: bool,
    /// The drained states, in the order of registration.
    pub(crate) drained: Vec<StateDelta>,
    /// The records of the next state, as far as it is drained.
    pub(crate) records: Records,
}
