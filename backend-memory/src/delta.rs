//! A prepared snapshot.

use strandline_snapshot_format::ExpiryFilter;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::schema::StateMeta;

use crate::chain::Ticket;

/// A prepared snapshot: what changed since the one before, encoded and owned. A drop without a commit aborts
/// it.
#[derive(Debug)]
pub struct Delta {
    pub(crate) ticket: Ticket,
    /// All states at the cut, then the older forms that files before it may hold some of them in.
    pub(crate) described: Vec<StateMeta>,
    /// Whether there are such older forms.
    pub(crate) has_older_forms: bool,
    pub(crate) kind: SnapshotKind,
    /// Leaves out values of a full snapshot that had expired at the cut.
    pub(crate) filter: ExpiryFilter,
    pub(crate) bytes: usize,
}

impl Delta {
    /// Returns the number of bytes of all records that changed since the snapshot before.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
